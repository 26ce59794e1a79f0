using System.Security.Cryptography;
using System.Text;

namespace NativePull.Tests.Conformance;

/// <summary>Layers as an OCI image layout that other tools read (image-layout.md).</summary>
internal static class LayoutDirectory
{
    internal static void Write(string layout, string tag, IEnumerable<byte[]> archives)
    {
        Directory.CreateDirectory(Path.Combine(layout, "blobs/sha256"));
        File.WriteAllText(Path.Combine(layout, "oci-layout"), """{"imageLayoutVersion":"1.0.0"}""");
        List<string> layers = [];
        List<string> diffIds = [];
        foreach (byte[] archive in archives)
        {
            layers.Add(Blob(layout, archive, "application/vnd.oci.image.layer.v1.tar"));
            diffIds.Add($"\"sha256:{Convert.ToHexStringLower(SHA256.HashData(archive))}\"");
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
        File.WriteAllText(
            Path.Combine(layout, "index.json"),
            $$$"""{"schemaVersion":2,"manifests":[{{{manifest[..^1]}}},"annotations":{"org.opencontainers.image.ref.name":"{{{tag}}}"}}]}""");
    }

    private static string Blob(string layout, byte[] content, string mediaType)
    {
        string hex = Convert.ToHexStringLower(SHA256.HashData(content));
        File.WriteAllBytes(Path.Combine(layout, "blobs/sha256", hex), content);
        return $$"""{"mediaType":"{{mediaType}}","digest":"sha256:{{hex}}","size":{{content.Length}}}""";
    }
}
