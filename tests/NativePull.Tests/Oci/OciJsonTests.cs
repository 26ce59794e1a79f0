using System.Text;
using NativePull.Oci;

namespace NativePull.Tests.Oci;

public sealed class OciJsonTests
{
    private const string A = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    private const string B = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    private const string Manifest = """
        {
          "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "unknown": {"deep": [1, null]},
          "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "{A}", "size": 7, "data": "e30="},
          "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "{B}", "size": 9223372036854775807, "urls": ["https://x"]},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": "{B}", "size": 0, "annotations": {"k": "v"}}
          ],
          "annotations": {"a": "b"}
        }
        """;

    private const string Index = """
        {
          "schemaVersion": 2,
          "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{A}", "size": 7, "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["x"]}},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{B}", "size": 8, "platform": {"os": "linux", "architecture": "amd64", "variant": ""}},
            {"digest": "{B}", "size": 8, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
          ]
        }
        """;

    [Fact]
    public void A_manifest_is_read_with_its_layers_in_order_duplicates_too()
    {
        ImageManifest manifest = OciJson.ParseManifest(Bytes(Manifest), MediaTypes.OciManifest, "it");

        Assert.Equal((A, 7L), (manifest.Config.Digest.ToString(), manifest.Config.Size));
        Assert.Equal("{}"u8.ToArray(), manifest.Config.Data);
        Assert.Equal([long.MaxValue, 0], manifest.Layers.Select(layer => layer.Size));
        Assert.Equal([B, B], manifest.Layers.Select(layer => layer.Digest.ToString()));
        Assert.Equal("v", manifest.Layers[1].Annotations["k"]);
        Assert.Equal(MediaTypes.OciManifest, manifest.MediaType);
    }

    [Theory]
    [InlineData(""", "layers": null""")]
    [InlineData("")]
    public void A_manifest_may_have_no_layers(string member) =>
        Assert.Empty(OciJson.ParseManifest(Bytes($$$"""{"config":{"digest":"{A}","size":1}{{{member}}}}"""), MediaTypes.OciManifest, "it").Layers);

    [Fact]
    public void An_index_is_read_with_its_platforms()
    {
        ImageIndex index = OciJson.ParseIndex(Bytes(Index), MediaTypes.OciIndex, "it");

        Assert.Equal([new Platform("linux", "arm", "v7"), new Platform("linux", "amd64", null), null], index.Manifests.Select(manifest => manifest.Platform));
        Assert.Equal("", index.Manifests[2].MediaType);
        Assert.Equal("attestation-manifest", index.Manifests[2].Annotations["vnd.docker.reference.type"]);
    }

    [Fact]
    public void A_config_is_read_whatever_its_date_says()
    {
        ImageConfig config = OciJson.ParseConfig(Bytes("""{"os":"linux","architecture":"arm64","variant":"v8","created":"yesterday","config":{"Env":null},"rootfs":{"type":"layers","diff_ids":["{A}","{B}"]},"history":[{}]}"""), "it");

        Assert.Equal(new Platform("linux", "arm64", "v8"), config.Platform);
        Assert.Equal([A, B], config.DiffIds.Select(diffId => diffId.ToString()));
        Assert.Equal("yesterday", config.Created);
    }

    [Fact]
    public void A_config_without_a_platform_or_layers_is_still_one()
    {
        ImageConfig config = OciJson.ParseConfig(Bytes("""{"rootfs":{"diff_ids":[]}}"""), "it");

        Assert.Equal(new Platform("", "", null), config.Platform);
        Assert.Empty(config.DiffIds);
    }

    /// <summary>Where to break the manifest, the index or the config above; what the message must name.</summary>
    public static TheoryData<string, string, string> Broken => new()
    {
        { "manifest", "", "malformed JSON: it is empty" },
        { "manifest", "null", "it is null" },
        { "manifest", " [1]", "malformed JSON: unexpected list (byte 1)" },
        { "manifest", "{", "malformed JSON: it ends too early, after 1 bytes" },
        { "manifest", "{}", "config is missing" },
        { "manifest", "{} {}", "malformed JSON: unexpected '{' (byte 3)" },
        { "manifest", """{"config":null,"layers":[]}""", "config is missing" },
        { "manifest", """{"config":{"digest":"{A}","size":1},"layers":[null]}""", "layers[0] is missing" },
        { "manifest", """{"config":{"size":1},"layers":[]}""", "config.digest" },
        { "manifest", """{"config":{"digest":"sha256:../../etc/passwd","size":1},"layers":[]}""", "config.digest" },
        { "manifest", """{"config":{"digest":"{A}"},"layers":[]}""", "config.size" },
        { "manifest", """{"config":{"digest":"{A}","size":-1},"layers":[]}""", "config.size" },
        { "manifest", """{"config":{"digest":"{A}","size":9223372036854775808},"layers":[]}""", "malformed JSON: unexpected number at config.size (byte 101)" },
        { "manifest", """{"config":{"digest":"{A}","size":"1"},"layers":[]}""", "malformed JSON: unexpected text at config.size (byte 101)" },
        { "manifest", """{"config":{"digest":"{A}","size":1.5},"layers":[]}""", "malformed JSON: unexpected number at config.size (byte 101)" },
        { "manifest", """{"config":{"digest":"{A}","size":1,"data":"!"},"layers":[]}""", "malformed JSON: unexpected text at config.data (byte 110)" },
        { "manifest", """{"config":{"digest":"{A}","size":1},"layers":[{"digest":"{A}","size":1},{"digest":"x","size":1}]}""", "layers[1].digest" },
        { "manifest", """{"config":{"digest":"{A}","size":1},"layers":[],"manifests":[]}""", "manifests as well" },
        { "manifest", """{"config":{"digest":"\ud800","size":1},"layers":[]}""", "malformed JSON: unexpected text at config.digest (byte 20)" },
        { "manifest", "{\n  \"config\": {},\n  \"layers\": [,]\n}", "malformed JSON: unexpected ',' (byte 31, line 3)" },
        { "manifest", "{\"config\": \u0001}", "malformed JSON: unexpected byte 0x01 (byte 11)" },
        { "manifest", "\ufeff{}", "malformed JSON: unexpected byte 0xef (byte 0)" },
        { "manifest", """{"config":{"annotations":{"a.b":7}}}""", "malformed JSON: unexpected number at config.annotations['a.b'] (byte 32)" },
        { "manifest", """{"config":{"digest":true}}""", "malformed JSON: unexpected true at config.digest (byte 20)" },
        { "manifest", """{"config":{"digest":{"x":1}}}""", "malformed JSON: unexpected object at config.digest (byte 20)" },
        { "index", "{}", "manifests is missing" },
        { "index", """{"manifests":[{"digest":"{A}"}]}""", "manifests[0].size" },
        { "index", """{"manifests":[],"layers":[]}""", "layers or a config as well" },
        { "index", """{"manifests":[],"config":{}}""", "layers or a config as well" },
        { "config", "{}", "rootfs.diff_ids is missing" },
        { "config", """{"rootfs":null}""", "rootfs.diff_ids is missing" },
        { "config", """{"rootfs":{"diff_ids":["{A}","x"]}}""", "rootfs.diff_ids[1]" },
        { "config", """{"rootfs":{"diff_ids":[null]}}""", "rootfs.diff_ids[0]" },
        { "config", """{"rootfs":[]}""", "malformed JSON: unexpected list at rootfs (byte 10)" },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public void What_breaks_the_format_is_malformed_and_named(string kind, string content, string what)
    {
        PullException failure = Assert.Throws<PullException>(() => Parse(kind, Bytes(content)));

        Assert.Equal(PullError.Malformed, failure.Reason);
        Assert.StartsWith($"it: {kind}: ", failure.Message, StringComparison.Ordinal);
        Assert.Contains(what, failure.Message, StringComparison.Ordinal);
        Assert.Equal(failure.Message, failure.Sentence); // not once more in the library's words
    }

    [Fact]
    public void Long_words_of_a_stranger_are_not_repeated_whole()
    {
        string flood = new('x', 1_000_000);

        Assert.InRange(Assert.Throws<PullException>(() => Parse("manifest", Bytes($$$"""{"config":{"digest":"{{{flood}}}","size":1},"layers":[]}"""))).Message.Length, 100, 200);
        Assert.InRange(Assert.Throws<PullException>(() => Parse("manifest", Bytes("{\"config\":{\"annotations\":{\"" + flood + "\":1}}}"))).Message.Length, 100, 250);
    }

    [Theory]
    [InlineData("manifest")]
    [InlineData("index")]
    public void Another_schema_version_is_unsupported(string kind) =>
        Assert.Equal(PullError.Unsupported, Assert.Throws<PullException>(() => Parse(kind, Bytes("""{"schemaVersion":1,"fsLayers":[]}"""))).Reason);

    [Fact]
    public void A_null_member_of_the_other_kind_does_no_harm()
    {
        Assert.Empty(OciJson.ParseIndex(Bytes("""{"manifests":[],"layers":null,"config":null}"""), "", "it").Manifests);
        Assert.Empty(OciJson.ParseManifest(Bytes("""{"config":{"digest":"{A}","size":1},"layers":[],"manifests":null}"""), "", "it").Layers);
    }

    [Fact]
    public void Bytes_that_are_no_UTF_8_are_malformed() => Assert.Equal(
        "it: manifest: malformed JSON: text that is not UTF-8 at mediaType (byte 14)",
        Assert.Throws<PullException>(() => OciJson.MediaTypeOf([.. "{\"mediaType\":\""u8, 0xFF, .. "\"}"u8], "it")).Message);

    [Fact]
    public void Nesting_without_end_is_malformed() => Assert.Equal(
        "it: manifest: malformed JSON: nested deeper than 64 levels (byte 64)",
        Assert.Throws<PullException>(() => OciJson.MediaTypeOf(Bytes(new string('[', 100_000)), "it")).Message);

    [Fact]
    public void Mutations_fail_only_as_malformed_or_unsupported()
    {
        const int Seed = 20260102;
        var random = new Random(Seed);
        foreach ((string kind, string document) in new[] { ("manifest", Manifest), ("index", Index) })
        {
            for (int i = 0; i < 2_000; i++)
            {
                byte[] bytes = Bytes(document);
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
                try
                {
                    Parse(kind, bytes);
                }
                catch (PullException failure) when (failure.Reason is PullError.Malformed or PullError.Unsupported)
                {
                    continue;
                }
            }
        }
    }

    [Theory]
    [InlineData("application/vnd.oci.image.layer.v1.tar", true)]
    [InlineData("application/vnd.oci.image.layer.v1.tar+gzip", true)]
    [InlineData("application/vnd.oci.image.layer.v1.tar+zstd", true)]
    [InlineData("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true)]
    [InlineData("application/vnd.docker.image.rootfs.diff.tar.gzip", true)]
    [InlineData("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true)]
    [InlineData("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false)]
    [InlineData("application/vnd.in-toto+json", false)]
    [InlineData("application/vnd.oci.image.config.v1+json", false)]
    [InlineData("", false)]
    [InlineData(null, false)]
    public void A_layer_is_known_by_its_media_type(string? mediaType, bool isLayer) => Assert.Equal(isLayer, MediaTypes.IsLayer(mediaType));

    private static object Parse(string kind, byte[] content) => kind switch
    {
        "manifest" => OciJson.ParseManifest(content, MediaTypes.OciManifest, "it"),
        "index" => OciJson.ParseIndex(content, MediaTypes.OciIndex, "it"),
        _ => OciJson.ParseConfig(content, "it"),
    };

    private static byte[] Bytes(string document) =>
        Encoding.UTF8.GetBytes(document.Replace("{A}", A, StringComparison.Ordinal).Replace("{B}", B, StringComparison.Ordinal));
}
