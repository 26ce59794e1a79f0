using System.Security.Cryptography;
using System.Text;
using NativePull.Oci;

namespace NativePull.Tests.Conformance;

/// <summary>A layer's bytes and what is said of them; both may be a lie.</summary>
internal sealed record LayoutLayer(byte[] Blob, Digest DiffId, string MediaType = LayoutLayer.Tar)
{
    internal const string Tar = "application/vnd.oci.image.layer.v1.tar";

    internal LayoutLayer(byte[] blob, byte[] plain, string mediaType = Tar)
        : this(blob, Digest.Of(plain), mediaType)
    {
    }

    internal static LayoutLayer Of(byte[] archive) => new(archive, archive);
}

/// <summary>Layers as an OCI image layout that other tools read (image-layout.md).</summary>
internal static class LayoutDirectory
{
    internal static void Write(string layout, string tag, IEnumerable<byte[]> archives) => Write(layout, tag, archives.Select(LayoutLayer.Of));

    internal static void Write(string layout, string tag, IEnumerable<LayoutLayer> content) => Write(layout, [(tag, content)]);

    /// <summary>Several images in one layout.</summary>
    internal static void Write(string layout, IEnumerable<(string Tag, IEnumerable<LayoutLayer> Content)> images)
    {
        Directory.CreateDirectory(Path.Combine(layout, "blobs/sha256"));
        File.WriteAllText(Path.Combine(layout, "oci-layout"), """{"imageLayoutVersion":"1.0.0"}""");
        string manifests = string.Join(',', images.Select(image => Manifest(layout, image.Tag, image.Content)));
        File.WriteAllText(Path.Combine(layout, "index.json"), $$"""{"schemaVersion":2,"manifests":[{{manifests}}]}""");
    }

    private static string Manifest(string layout, string tag, IEnumerable<LayoutLayer> content)
    {
        List<string> layers = [];
        List<string> diffIds = [];
        foreach (LayoutLayer layer in content)
        {
            layers.Add(Blob(layout, layer.Blob, layer.MediaType));
            diffIds.Add($"\"{layer.DiffId}\"");
        }

        string config = Blob(
            layout,
            Encoding.UTF8.GetBytes($$$"""{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[{{{string.Join(',', diffIds)}}}]}}"""),
            "application/vnd.oci.image.config.v1+json");
        string manifest = Blob(
            layout,
            Encoding.UTF8.GetBytes(
                $$"""{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{config}},"layers":[{{string.Join(',', layers)}}]}"""),
            "application/vnd.oci.image.manifest.v1+json");
        return $$$"""{{{manifest[..^1]}}},"annotations":{"org.opencontainers.image.ref.name":"{{{tag}}}"}}""";
    }

    private static string Blob(string layout, byte[] content, string mediaType)
    {
        string hex = Convert.ToHexStringLower(SHA256.HashData(content));
        File.WriteAllBytes(Path.Combine(layout, "blobs/sha256", hex), content);
        return $$"""{"mediaType":"{{mediaType}}","digest":"sha256:{{hex}}","size":{{content.Length}}}""";
    }
}
