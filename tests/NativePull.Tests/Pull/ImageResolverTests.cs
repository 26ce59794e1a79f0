using System.Globalization;
using System.Text;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Tests.Fakes;
using NativePull.Tests.Registry;

namespace NativePull.Tests.Pull;

/// <summary>From a reference to one platform's manifest, through every kind of index that registries hold.</summary>
public sealed class ImageResolverTests : IAsyncDisposable
{
    private const string Repository = RegistryHarness.Repository;

    private readonly RegistryHarness it = new();
    private readonly EventList events = [];

    [Theory]
    [InlineData("linux/arm/v7", "v6")]
    [InlineData("linux/arm/v5", null)]
    [InlineData("linux/amd64/v3", "amd64")]
    [InlineData("linux/arm64/v8", null)]
    public async Task An_index_gives_the_best_that_runs_or_the_list_of_what_there_is(string platform, string? expected)
    {
        Descriptor arm = Image("linux", "arm", "v6");
        Descriptor amd = Image("linux", "amd64", null);
        Index("latest", MediaTypes.DockerList, Entry(arm, "linux/arm/v6"), Entry(amd, "linux/amd64"), Entry(amd, "windows/amd64"), Attestation());

        if (expected is null)
        {
            PullException failure = await FailureAsync("latest", platform);
            Assert.Equal(PullError.PlatformNotFound, failure.Reason);
            Assert.EndsWith("there is: linux/arm/v6, linux/amd64, windows/amd64", failure.Message, StringComparison.Ordinal);
        }
        else
        {
            Assert.Equal(expected == "v6" ? arm.Digest : amd.Digest, (await ResolveAsync("latest", platform)).Manifest.Descriptor.Digest);
        }
    }

    [Fact]
    public async Task Indexes_may_be_nested_and_those_on_the_way_are_kept()
    {
        Descriptor amd = Image("linux", "amd64", null);
        Descriptor innermost = Index(null, MediaTypes.OciIndex, Entry(amd, "linux/amd64"));
        Descriptor inner = Index(null, MediaTypes.OciIndex, Entry(innermost, null));
        Descriptor outer = Index("latest", MediaTypes.OciIndex, Entry(Index(null, MediaTypes.OciIndex, Entry(Image("linux", "s390x", null), "linux/s390x")), null), Entry(inner, null));

        ResolvedImage image = await ResolveAsync("latest", "linux/amd64");

        Assert.Equal((outer.Digest, amd.Digest), (image.Digest, image.Manifest.Descriptor.Digest));
        Assert.Equal([innermost.Digest, inner.Digest], image.Between.Select(document => document.Descriptor.Digest));
    }

    [Fact]
    public async Task Nesting_has_an_end()
    {
        Descriptor index = Index(null, MediaTypes.OciIndex, Entry(Image("linux", "amd64", null), "linux/amd64"));
        for (int depth = 0; depth < 3; depth++)
        {
            index = Index("latest", MediaTypes.OciIndex, Entry(index, null));
        }

        Assert.Equal(PullError.Unsupported, (await FailureAsync("latest", "linux/amd64")).Reason);
    }

    [Fact]
    public async Task Where_an_index_states_no_platforms_the_configs_tell()
    {
        Descriptor amd = Image("linux", "amd64", null);
        Index("latest", MediaTypes.OciIndex, Entry(Image("linux", "arm64", "v8"), null), Entry(Artifact(), null), Entry(amd, null));

        Assert.Equal(amd.Digest, (await ResolveAsync("latest", "linux/amd64")).Manifest.Descriptor.Digest);
        Assert.EndsWith("there is: linux/arm64/v8, linux/amd64", (await FailureAsync("latest", "linux/riscv64")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Documents_embedded_in_their_descriptors_are_used_when_they_are_the_ones_described(bool right)
    {
        byte[] config = Config("linux", "amd64", null);
        Descriptor described = it.Fake.AddBlob(Repository, config, MediaTypes.OciConfig);
        byte[] manifest = Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.OciManifest}}","config":{{Entry(described, null, right ? config : config[1..])}},"layers":[]}""");
        Descriptor inner = it.Fake.AddManifest(Repository, null, manifest, MediaTypes.OciManifest);
        Index("latest", MediaTypes.OciIndex, Entry(inner, "linux/amd64", right ? manifest : config));

        await ResolveAsync("latest", "linux/amd64");

        Assert.Equal(right ? 1 : 3, it.Fake.Requests.Count);
    }

    [Fact]
    public async Task The_digest_a_registry_announces_is_compared_and_the_bytes_count()
    {
        var warnings = new List<string>();
        await using var other = new RegistryHarness(change: options => options with { Warnings = new Synchronous(warnings.Add) });
        byte[] index = """{"schemaVersion":2,"manifests":[]}"""u8.ToArray();
        other.Fake.AddManifest(Repository, "latest", index, MediaTypes.OciIndex);
        string wrong = "sha256:" + new string('0', 64);
        other.Fake.Faults.On("/manifests/", new Fault { Headers = [("Docker-Content-Digest", wrong)] });
        other.Fake.Faults.On("/manifests/", new Fault { Headers = [("Docker-Content-Digest", "nonsense")] });

        Assert.Equal(Digest.Of(index), (await other.ManifestAsync()).Digest);
        Assert.Equal(Digest.Of(index), (await other.ManifestAsync()).Digest);

        string warning = Assert.Single(warnings);
        Assert.Contains(wrong, warning, StringComparison.Ordinal);
        Assert.Contains(Digest.Of(index).ToString(), warning, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("application/vnd.docker.distribution.manifest.v1+prettyjws", """{"schemaVersion":1,"name":"x","fsLayers":[]}""", "schema 1")]
    [InlineData("application/json", """{"schemaVersion":1,"name":"x","fsLayers":[]}""", "schema 1")]
    [InlineData("application/vnd.example.thing", """{"schemaVersion":2,"mediaType":"application/vnd.example.thing"}""", "application/vnd.example.thing")]
    [InlineData("text/plain", "{}", "text/plain")]
    public async Task Kinds_that_are_not_understood_are_refused_by_name(string header, string content, string expected)
    {
        it.Fake.Faults.On("/manifests/", new Fault { Status = 200, Body = content, Headers = [("Content-Type", header)] });

        PullException failure = await FailureAsync("latest", "linux/amd64");

        Assert.Equal(PullError.Unsupported, failure.Reason);
        Assert.Contains(expected, failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_artifact_is_taken_as_it_is_and_says_why_it_is_no_image()
    {
        Descriptor artifact = Artifact("latest");

        ResolvedImage image = await ResolveAsync("latest", "linux/amd64");

        Assert.Equal(artifact.Digest, image.Digest);
        Assert.Equal("an artifact of type \"application/vnd.cncf.helm.config.v1+json\", not an image", image.NoImage);
        Assert.Equal(["chart bytes"], image.Blobs.Select(blob => Encoding.UTF8.GetString(it.ReadBlobAsync(blob).GetAwaiter().GetResult())));
    }

    public ValueTask DisposeAsync() => it.DisposeAsync();

    private static byte[] Config(string os, string architecture, string? variant) => Encoding.UTF8.GetBytes(
        $$$"""{"os":"{{{os}}}","architecture":"{{{architecture}}}"{{{(variant is null ? "" : $",\"variant\":\"{variant}\"")}}},"rootfs":{"type":"layers","diff_ids":[]}}""");

    private static string Entry(Descriptor descriptor, string? platform, byte[]? data = null)
    {
        string[]? parts = platform?.Split('/');
        string variant = parts?.Length > 2 ? $",\"variant\":\"{parts[2]}\"" : "";
        string stated = parts is null ? "" : $",\"platform\":{{\"os\":\"{parts[0]}\",\"architecture\":\"{parts[1]}\"{variant}}}";
        string embedded = data is null ? "" : $",\"data\":\"{Convert.ToBase64String(data)}\"";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{{\"mediaType\":\"{descriptor.MediaType}\",\"digest\":\"{descriptor.Digest}\",\"size\":{descriptor.Size}{stated}{embedded}}}");
    }

    private string Attestation() => Entry(Image("linux", "amd64", null), "unknown/unknown")[..^1] + ",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-manifest\"}}";

    private Descriptor Image(string os, string architecture, string? variant)
    {
        Descriptor config = it.Fake.AddBlob(Repository, Config(os, architecture, variant), MediaTypes.OciConfig);
        return it.Fake.AddManifest(
            Repository,
            null,
            Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.OciManifest}}","config":{{Entry(config, null)}},"layers":[]}"""),
            MediaTypes.OciManifest);
    }

    private Descriptor Artifact(string? tag = null)
    {
        Descriptor config = it.Fake.AddBlob(Repository, """{"name":"chart"}"""u8.ToArray(), "application/vnd.cncf.helm.config.v1+json");
        Descriptor chart = it.Fake.AddBlob(Repository, "chart bytes"u8.ToArray(), "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
        return it.Fake.AddManifest(
            Repository,
            tag,
            Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"config":{{Entry(config, null)}},"layers":[{{Entry(chart, null)}}]}"""),
            MediaTypes.OciManifest);
    }

    private Descriptor Index(string? tag, string mediaType, params string[] entries) => it.Fake.AddManifest(
        Repository, tag, Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{mediaType}}","manifests":[{{string.Join(',', entries)}}]}"""), mediaType);

    private Task<ResolvedImage> ResolveAsync(string tag, string platform)
    {
        Assert.True(Reference.TryParse($"{it.Fake.Address}/{Repository}:{tag}", out Reference? reference, out _));
        Assert.True(Platform.TryParse(platform, out Platform? wanted));
        return new ImageResolver(it.Client, null, events).ResolveAsync(reference, null, wanted, true, RegistryHarness.Token);
    }

    private Task<PullException> FailureAsync(string tag, string platform) => Assert.ThrowsAsync<PullException>(() => ResolveAsync(tag, platform));

    private sealed class EventList : List<PullEvent>, IProgress<PullEvent>
    {
        public void Report(PullEvent value) => Add(value);
    }

    private sealed class Synchronous(Action<string> action) : IProgress<string>
    {
        public void Report(string value) => action(value);
    }
}
