using System.Text;
using System.Text.Json;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What the published executable knows of the processor it runs on; the compiler may have answered for it.</summary>
public sealed class ProcessorTests
{
    // Flags of /proc/cpuinfo, by the x86-64 psABI's levels
    private static readonly string[][] Levels =
    [
        [],
        ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"],
        ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"],
        ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
    ];

    [Fact]
    public async Task The_best_level_of_this_processor_is_taken_from_an_index()
    {
        Assert.SkipUnless(System.Runtime.Intrinsics.X86.X86Base.X64.IsSupported, "the levels are of x86-64");
        HashSet<string> flags = [.. (await File.ReadAllLinesAsync("/proc/cpuinfo", TestContext.Current.CancellationToken)).First(line => line.StartsWith("flags", StringComparison.Ordinal)).Split(' ')];
        int level = Levels.TakeWhile(flags.IsSupersetOf).Count();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage[] images = [.. Enumerable.Range(1, 4).Select(number => new FakeImage(registry, "a/b").Layer(($"v{number}", [1])).Publish($"v{number}"))];
        string entries = string.Join(',', images.Select((image, index) =>
            $$$"""{"mediaType":"{{{MediaTypes.OciManifest}}}","digest":"{{{image.Digest}}}","size":{{{registry.SizeOf("a/b", image.Digest)}}},"platform":{"os":"linux","architecture":"amd64","variant":"v{{{index + 1}}}"}}"""));
        registry.AddManifest("a/b", "all", Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.OciIndex}}","manifests":[{{entries}}]}"""), MediaTypes.OciIndex);
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", $"{registry.Address}/a/b:all", "--store", store["s"], "--json");

        using JsonDocument json = JsonDocument.Parse(result.Expect(0).Out);
        Assert.Equal(images[level - 1].Digest.ToString(), json.RootElement.GetProperty("manifest").GetString());
    }
}
