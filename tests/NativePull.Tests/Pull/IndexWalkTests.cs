using System.Text;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Pull;

/// <summary>The way through indexes where the documents are not a registry's: a store that lacks some of them, a layout on disk.</summary>
public sealed class IndexWalkTests
{
    private readonly Dictionary<Digest, byte[]> kept = [];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_is_absent_below_an_index_leaves_no_trace_on_the_way()
    {
        Descriptor absent = new(MediaTypes.OciManifest, Digest.Of("never kept"u8), 10);
        // more than may be nested: each would count if it stayed on the way
        Descriptor[] branches = [.. Enumerable.Range(0, 4).Select(number => Index($"branch {number}", absent))];
        Descriptor inner = Index("inner", Image("amd64"));
        Descriptor outer = Index("outer", [.. branches, inner]);
        IndexWalk walk = new(
            "image",
            new Platform("linux", "amd64", null),
            (named, _) => Task.FromResult(Read(named)),
            (config, _) => Task.FromResult(Read(config).Content),
            failure => failure.Reason == PullError.NotInStore);

        Document manifest = await walk.ToManifestAsync(Read(outer), Token);

        Assert.Equal(MediaTypes.OciManifest, manifest.Descriptor.MediaType);
        Assert.Equal([inner.Digest, outer.Digest], walk.Way.Select(document => document.Descriptor.Digest));
    }

    [Theory]
    [InlineData("amd64")]
    [InlineData("s390x")]
    public async Task In_a_layout_that_states_no_platforms_the_configs_tell(string architecture)
    {
        Descriptor index = Index("index", Image("amd64"), Image("s390x"));
        using TemporaryDirectory layout = new();
        Directory.CreateDirectory(layout["blobs/sha256"]);
        foreach ((Digest digest, byte[] content) in kept)
        {
            File.WriteAllBytes(layout["blobs/sha256/" + digest.Hex], content);
        }

        File.WriteAllText(layout["oci-layout"], """{"imageLayoutVersion":"1.0.0"}""");
        File.WriteAllText(layout["index.json"], $$"""{"schemaVersion":2,"manifests":[{{Json(index)}}]}""");
        SourceName name = new($"oci:{layout.Path}", SourceKind.OciLayout, layout.Path, null, null);
        using DirectoryFiles files = new(layout.Path);

        SourceImage image = await new OciSource(name, files, new Progress<PullEvent>()).FindAsync(new Platform("linux", architecture, null), true, Token);

        Assert.Equal((architecture, index.Digest), (image.Platform.Architecture, image.Digest));
    }

    private Document Read(Descriptor named) => kept.TryGetValue(named.Digest, out byte[]? content)
        ? new Document(named, content)
        : throw new PullException(PullError.NotInStore, $"{named.Digest} is not here");

    private Descriptor Image(string architecture)
    {
        Descriptor config = Keep(MediaTypes.OciConfig, $$$"""{"os":"linux","architecture":"{{{architecture}}}","rootfs":{"type":"layers","diff_ids":[]}}""");
        return Keep(MediaTypes.OciManifest, $$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.OciManifest}}","config":{{Json(config)}},"layers":[]}""");
    }

    private Descriptor Index(string name, params Descriptor[] manifests) => Keep(
        MediaTypes.OciIndex,
        $$$"""{"schemaVersion":2,"mediaType":"{{{MediaTypes.OciIndex}}}","annotations":{"name":"{{{name}}}"},"manifests":[{{{string.Join(',', manifests.Select(Json))}}}]}""");

    private Descriptor Keep(string mediaType, string text)
    {
        byte[] content = Encoding.UTF8.GetBytes(text);
        kept[Digest.Of(content)] = content;
        return new Descriptor(mediaType, Digest.Of(content), content.Length);
    }

    private static string Json(Descriptor descriptor) => $$"""{"mediaType":"{{descriptor.MediaType}}","digest":"{{descriptor.Digest}}","size":{{descriptor.Size}}}""";
}
