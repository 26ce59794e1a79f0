using System.Runtime.CompilerServices;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>The tests of one real image in one real registry, pulled once by the published executable.</summary>
[CollectionDefinition(Name)]
public sealed class WitnessTests : ICollectionFixture<WitnessFixture>
{
    internal const string Name = "witnesses";
}

/// <summary>
/// Debian's docker-registry with the image of scripts/make-image.sh in it, and one pull of that with its root file system and its layers.
/// What skopeo, umoci and the kernel make of the same image is made when first asked for.
/// </summary>
public sealed class WitnessFixture : IAsyncLifetime
{
    private readonly TemporaryDirectory scratch = new();
    private readonly Lazy<Task<TreeListing>> rootfs;
    private readonly Lazy<Task<TreeListing>> unpacked;
    private readonly Lazy<Task<TreeListing>> mounted;
    private readonly string? image = Environment.GetEnvironmentVariable("NATIVEPULL_TEST_IMAGE");
    private string? address;

    public WitnessFixture()
    {
        rootfs = new(() => Task.Run(() => TreeListing.Of(Rootfs)));
        unpacked = new(UnpackAsync);
        mounted = new(MountAsync);
    }

    public string Store => scratch["store"];

    public string Rootfs => scratch["rootfs"];

    /// <summary>HOST:PORT of the registry.</summary>
    internal string Address => address ?? throw new InvalidOperationException("the registry was not started");

    /// <summary>The image's name there, and its ref.name in the store.</summary>
    public string Reference => $"{Address}/demo/debian:12";

    /// <summary>As the registry's own push tool said.</summary>
    public string Digest { get; private set; } = "";

    /// <summary>The one pull.</summary>
    public BinaryResult Pull { get; private set; } = new(-1, "", "");

    internal Task<TreeListing> RootfsTree => rootfs.Value;

    /// <summary>What <c>umoci raw unpack</c> makes of the image, from the store in place.</summary>
    internal Task<TreeListing> UmociTree => unpacked.Value;

    /// <summary>What the kernel shows when the extracted layers are mounted as <c>layers --overlay</c> says.</summary>
    internal Task<TreeListing> OverlayTree => mounted.Value;

    /// <summary>A path of the fixture's own; tests take directories of their own for what they change.</summary>
    internal string this[string below] => scratch[below];

    public async ValueTask InitializeAsync()
    {
        if (Missing() is not null)
        {
            return;
        }

        address = (await ScriptAsync("start", scratch["registry"])).Out.Trim();
        Digest = (await ScriptAsync("push", scratch["registry"], $"{image}:demo", "demo/debian:12")).Out.Trim();
        Pull = await Binary.RunAsync("pull", Reference, "--store", Store, "--extract", "--rootfs", Rootfs);
    }

    public async ValueTask DisposeAsync()
    {
        if (address is not null)
        {
            await ScriptAsync("stop", scratch["registry"]);
        }

        scratch.Dispose();
    }

    /// <summary>Skips the test, with the reason, where the real image cannot be had.</summary>
    public void SkipUnlessReady()
    {
        string? missing = Missing();
        Assert.SkipUnless(missing is null, missing ?? "");
    }

    /// <summary>A program that must succeed.</summary>
    internal static async Task<string> RunAsync(string program, params string[] arguments) =>
        (await Binary.ProgramAsync(program, arguments)).Expect(0).Out;

    /// <summary>skopeo against the registry or the store, without its signature policy and without TLS.</summary>
    internal static Task<string> SkopeoAsync(params string[] arguments) => RunAsync("skopeo", ["--insecure-policy", .. arguments]);

    internal static string RegistryScript { get; } = Path.Combine(
        Environment.GetEnvironmentVariable("NATIVEPULL_SCRIPTS") is { Length: > 0 } named ? named : OwnScripts(), "registry.sh");

    internal static async Task<BinaryResult> ScriptAsync(params string[] arguments) => (await Binary.ProgramAsync(RegistryScript, arguments)).Expect(0);

    private string? Missing() =>
        !Environment.IsPrivilegedProcess ? "the real image's owners, devices and attributes need root"
        : string.IsNullOrEmpty(image) ? "NATIVEPULL_TEST_IMAGE names no image; scripts/test.sh makes one"
        : null;

    private async Task<TreeListing> UnpackAsync()
    {
        await RunAsync("umoci", "raw", "unpack", "--image", $"{Store}:{Reference}", scratch["umoci"]);
        return TreeListing.Of(scratch["umoci"]);
    }

    private async Task<TreeListing> MountAsync()
    {
        string lower = (await Binary.RunAsync("layers", Reference, "--overlay", "--store", Store)).Expect(0).Out.Trim();
        Directory.CreateDirectory(scratch["mnt"]);
        await RunAsync("mount", "-t", "overlay", "overlay", "-o", lower, scratch["mnt"]);
        try
        {
            return TreeListing.Of(scratch["mnt"]);
        }
        finally
        {
            await Binary.UnmountAsync(scratch["mnt"]);
        }
    }

    private static string OwnScripts([CallerFilePath] string here = "") => Path.Combine(Path.GetDirectoryName(here)!, "../../../scripts");
}
