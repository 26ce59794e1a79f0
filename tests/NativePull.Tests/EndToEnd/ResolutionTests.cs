using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>From a reference to an image through whatever a registry holds there, by the executable.</summary>
public sealed class ResolutionTests : IAsyncDisposable
{
    private const string Repository = "a/b";

    private readonly FakeRegistry registry = new FakeRegistry().Start();
    private readonly TemporaryDirectory scratch = new();

    /// <summary>The platforms that the index states ("-": none is stated, and the image is the one after it), the one asked for, and which is taken, or null.</summary>
    public static TheoryData<string, string, string?> Indexes => new()
    {
        { "linux/amd64 linux/arm64", "linux/arm64", "linux/arm64" },
        { "linux/arm/v5 linux/arm/v6 linux/arm/v7 linux/arm64/v8", "linux/arm/v8", "linux/arm/v7" },
        { "linux/arm/v5 linux/arm/v6", "linux/arm/v7", "linux/arm/v6" },
        { "linux/arm/v7", "linux/arm/v6", null },
        { "linux/arm", "linux/arm/v7", "linux/arm" },
        { "linux/arm64", "linux/arm64/v8", "linux/arm64" },
        { "linux/arm64/v8", "linux/arm64", "linux/arm64/v8" },
        { "linux/amd64 linux/amd64/v2 linux/amd64/v3 linux/amd64/v4", "linux/amd64/v3", "linux/amd64/v3" },
        { "linux/amd64/v4 linux/amd64", "linux/amd64/v2", "linux/amd64" },
        { "linux/amd64/v3", "linux/amd64", null },
        { "windows/amd64 unknown/unknown", "linux/amd64", null },
        { "unknown/unknown linux/amd64", "linux/amd64", "linux/amd64" },
        { "-linux/s390x -linux/amd64", "linux/amd64", "linux/amd64" },
        { "-linux/s390x -linux/ppc64le", "linux/amd64", null },
    };

    [Theory]
    [MemberData(nameof(Indexes))]
    public async Task The_best_of_an_index_is_taken_and_never_what_does_not_run(string stated, string asked, string? expected)
    {
        Dictionary<string, Descriptor> images = [];
        List<string> entries = [];
        foreach (string platform in stated.Split(' '))
        {
            Descriptor image = Image(platform.TrimStart('-'));
            images[platform.TrimStart('-')] = image;
            entries.Add(Entry(image, platform.StartsWith('-') ? null : platform));
        }

        Index("latest", entries.Count % 2 == 0 ? MediaTypes.DockerList : MediaTypes.OciIndex, entries);

        BinaryResult result = await PullAsync("latest", "--platform", asked);

        if (expected is null)
        {
            Assert.Contains("\"reason\":\"platform-not-found\"", result.Expect(3).Out, StringComparison.Ordinal);
            foreach (string platform in images.Keys.Where(platform => platform != "unknown/unknown"))
            {
                Assert.Contains(platform, result.Error[result.Error.IndexOf("there is: ", StringComparison.Ordinal)..], StringComparison.Ordinal);
            }
        }
        else
        {
            Assert.Equal(images[expected].Digest.ToString(), Member(result.Expect(0), "manifest"));
        }
    }

    [Fact]
    public async Task An_attestation_for_the_platform_is_no_image()
    {
        Descriptor image = Image("linux/amd64");
        Descriptor attestation = Image("linux/amd64", "x");
        Index("latest", MediaTypes.OciIndex, [Entry(attestation, "linux/amd64")[..^1] + ",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-manifest\"}}", Entry(image, "linux/amd64")]);

        Assert.Equal(image.Digest.ToString(), Member((await PullAsync("latest", "--platform", "linux/amd64")).Expect(0), "manifest"));
    }

    [Theory]
    [InlineData(3, 0)]
    [InlineData(4, 7)]
    public async Task Nested_indexes_have_a_depth(int depth, int code)
    {
        Descriptor inner = Image("linux/amd64");
        for (int i = 0; i < depth; i++)
        {
            inner = Index("latest", MediaTypes.OciIndex, [Entry(inner, i == 0 ? "linux/amd64" : null)]);
        }

        (await PullAsync("latest", "--platform", "linux/amd64")).Expect(code);
    }

    [Fact]
    public async Task An_index_that_names_itself_is_no_endless_way()
    {
        // no bytes can have a digest that they name: a registry that answers so answers with other bytes
        string self = "sha256:" + new string('7', 64);
        byte[] index = Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"manifests":[{"mediaType":"{{MediaTypes.OciIndex}}","digest":"{{self}}","size":9}]}""");
        registry.AddManifest(Repository, "latest", index, MediaTypes.OciIndex);
        registry.AddManifestAs(Repository, self, index, MediaTypes.OciIndex);

        Assert.Contains("\"reason\":\"digest-mismatch\"", (await PullAsync("latest")).Expect(6).Out, StringComparison.Ordinal);
    }

    /// <summary>The Content-Type header ("": none) and the document's own word (null: none).</summary>
    public static TheoryData<string, string?> Types => new()
    {
        { "", MediaTypes.OciManifest },
        { "text/plain", MediaTypes.OciManifest },
        { "application/json; charset=utf-8", MediaTypes.OciManifest },
        { MediaTypes.OciIndex, MediaTypes.OciManifest },
        { "application/octet-stream", null },
        { MediaTypes.OciManifest, null },
        { "nonsense", MediaTypes.DockerManifest },
    };

    [Theory]
    [MemberData(nameof(Types))]
    public async Task The_documents_own_word_counts(string header, string? own)
    {
        Descriptor image = Image("linux/amd64", own: own);
        registry.Faults.On("/manifests/", new Fault { Headers = [("Content-Type", header)] }, 9);

        BinaryResult result = await PullAsync($"@{image.Digest}", "--platform", "linux/amd64");

        Assert.Equal(image.Digest.ToString(), Member(result.Expect(0), "manifest"));
    }

    /// <summary>The header, the document, and what the refusal says.</summary>
    public static TheoryData<string, string, string> Refused => new()
    {
        { "application/vnd.docker.distribution.manifest.v1+prettyjws", """{"schemaVersion":1,"name":"x","fsLayers":[{"blobSum":"sha256:1"}],"signatures":[]}""", "a Docker image manifest of schema 1" },
        { "application/json", """{"schemaVersion":1,"name":"x","fsLayers":[]}""", "a Docker image manifest of schema 1" },
        { "application/vnd.example+json", """{"schemaVersion":2,"mediaType":"application/vnd.example+json"}""", "application/vnd.example+json" },
        { "text/html", "{}", "text/html" },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public async Task What_is_not_understood_is_refused_by_name(string header, string content, string said)
    {
        registry.Faults.On("/manifests/", new Fault { Status = 200, Body = content, Headers = [("Content-Type", header)] });

        BinaryResult result = await PullAsync("latest");

        Assert.Contains("\"reason\":\"unsupported\"", result.Expect(7).Out, StringComparison.Ordinal);
        Assert.Contains(said, result.Error, StringComparison.Ordinal);
        Assert.Single(registry.Requests);
    }

    [Theory]
    [InlineData(true, 2)]
    [InlineData(false, 4)]
    public async Task Embedded_data_is_used_where_it_is_what_its_digest_names(bool isRight, int requests)
    {
        byte[] layer = "plain bytes of no archive"u8.ToArray();
        byte[] config = Config("linux/amd64", Digest.Of(layer));
        string Embedded(Descriptor described, byte[] content) =>
            Entry(described, null)[..^1] + $",\"data\":\"{Convert.ToBase64String(isRight ? content : [.. content[1..], content[0]])}\"}}";
        Descriptor manifest = registry.AddManifest(
            Repository,
            null,
            Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"config":{{Embedded(registry.AddBlob(Repository, config, MediaTypes.OciConfig), config)}},"layers":[{{Embedded(registry.AddBlob(Repository, layer), layer)}}]}"""),
            MediaTypes.OciManifest);
        registry.AddManifest(Repository, "latest", Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"manifests":[{{Entry(manifest, "linux/amd64")}}]}"""), MediaTypes.OciIndex);

        (await PullAsync("latest", "--platform", "linux/amd64")).Expect(0);

        // index and manifest, and what was not in the latter
        Assert.Equal(requests, registry.Requests.Count);
    }

    [Fact]
    public async Task Another_digest_in_the_header_is_a_warning_and_the_bytes_count()
    {
        Descriptor image = Image("linux/amd64", tag: "latest");
        string other = "sha256:" + new string('0', 64);
        registry.Faults.On("/manifests/latest", new Fault { Headers = [("Docker-Content-Digest", other)] });

        BinaryResult result = await PullAsync("latest", "--platform", "linux/amd64");

        Assert.Equal(image.Digest.ToString(), Member(result.Expect(0), "digest"));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.Contains(other, Assert.Single(json.RootElement.GetProperty("warnings").EnumerateArray()).GetString(), StringComparison.Ordinal);
    }

    /// <summary>By proxies that compress whatever passes; every program written in Go takes it.</summary>
    [Theory]
    [InlineData("gzip", true, 0)]
    [InlineData("gzip", false, 0)] // the header alone proves nothing
    [InlineData("br", true, 6)]
    public async Task A_manifest_that_comes_compressed_unasked_is_read(string coding, bool isCompressed, int code)
    {
        Descriptor config = registry.AddBlob(Repository, Config("linux/amd64"), MediaTypes.OciConfig);
        byte[] content = Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.OciManifest}}","config":{{Entry(config, null)}},"layers":[]}""");
        var digest = Digest.Of(content);
        using MemoryStream compressed = new();
        await using (GZipStream gzip = new(compressed, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(content);
        }

        foreach (string selector in new[] { "latest", digest.ToString() })
        {
            registry.AddManifestAs(Repository, selector, isCompressed ? compressed.ToArray() : content, MediaTypes.OciManifest);
        }

        registry.Faults.On("/manifests/", new Fault { Headers = [("Content-Encoding", coding), ("Docker-Content-Digest", digest.ToString())] }, 9);

        BinaryResult byTag = await PullAsync("latest", "--platform", "linux/amd64");
        BinaryResult byDigest = await Binary.RunAsync("inspect", "--remote", "--raw", $"{registry.Address}/{Repository}@{digest}", "--store", scratch["other"]);

        byTag.Expect(code);
        byDigest.Expect(code);
        Assert.Equal(code == 0 ? Encoding.UTF8.GetString(content) : "", byDigest.Out);
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 3)]
    public async Task A_foreign_layer_is_fetched_from_elsewhere_only_where_that_is_wanted(bool isWanted, int code)
    {
        await using FakeRegistry elsewhere = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(7, 100_000);
        Descriptor layer = elsewhere.AddBlob("x/y", content);
        string described = Entry(layer with { MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar" }, null)[..^1] + $",\"urls\":[\"{elsewhere.Url}/v2/x/y/blobs/{layer.Digest}\"]}}";
        Descriptor config = registry.AddBlob(Repository, Config("linux/amd64", layer.Digest), MediaTypes.DockerConfig);
        registry.AddManifest(
            Repository, "latest", Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.DockerManifest}}","config":{{Entry(config, null)}},"layers":[{{described}}]}"""), MediaTypes.DockerManifest);

        BinaryResult result = await PullAsync("latest", ["--platform", "linux/amd64", .. isWanted ? ["--foreign-layers"] : Array.Empty<string>()]);

        result.Expect(code);
        Assert.Equal(isWanted ? 1 : 0, elsewhere.Requests.Count);
        Assert.Contains(isWanted ? "" : "--foreign-layers", result.Error, StringComparison.Ordinal);
    }

    public async ValueTask DisposeAsync()
    {
        await registry.DisposeAsync();
        scratch.Dispose();
    }

    private Task<BinaryResult> PullAsync(string selector, params string[] options) =>
        Binary.RunAsync(["pull", $"{registry.Address}/{Repository}{(selector.StartsWith('@') ? "" : ":")}{selector}", "--store", scratch["s"], "--json", .. options]);

    private static string? Member(BinaryResult result, string name)
    {
        using JsonDocument json = JsonDocument.Parse(result.Out);
        return json.RootElement.GetProperty(name).GetString();
    }

    private static byte[] Config(string platform, params Digest[] layers)
    {
        string[] parts = platform.Split('/');
        string variant = parts.Length > 2 ? $",\"variant\":\"{parts[2]}\"" : "";
        return Encoding.UTF8.GetBytes(
            $$$"""{"os":"{{{parts[0]}}}","architecture":"{{{parts[1]}}}"{{{variant}}},"rootfs":{"type":"layers","diff_ids":[{{{string.Join(',', layers.Select(layer => $"\"{layer}\""))}}}]}}""");
    }

    private Descriptor Image(string platform, string? mark = null, string? own = MediaTypes.OciManifest, string? tag = null)
    {
        Descriptor config = registry.AddBlob(Repository, Config(platform), MediaTypes.OciConfig);
        string word = own is null ? "" : $"\"mediaType\":\"{own}\",";
        return registry.AddManifest(
            Repository, tag, Encoding.UTF8.GetBytes($$$"""{"schemaVersion":2,{{{word}}}"config":{{{Entry(config, null)}}},"layers":[],"annotations":{"mark":"{{{mark}}}"}}"""), MediaTypes.OciManifest);
    }

    private Descriptor Index(string tag, string mediaType, IEnumerable<string> entries) => registry.AddManifest(
        Repository, tag, Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{mediaType}}","manifests":[{{string.Join(',', entries)}}]}"""), mediaType);

    private static string Entry(Descriptor descriptor, string? platform)
    {
        string[]? parts = platform?.Split('/');
        string variant = parts?.Length > 2 ? $",\"variant\":\"{parts[2]}\"" : "";
        string stated = parts is null ? "" : $",\"platform\":{{\"os\":\"{parts[0]}\",\"architecture\":\"{parts[1]}\"{variant}}}";
        return string.Create(CultureInfo.InvariantCulture, $"{{\"mediaType\":\"{descriptor.MediaType}\",\"digest\":\"{descriptor.Digest}\",\"size\":{descriptor.Size}{stated}}}");
    }
}
