using System.Formats.Tar;
using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>A small image served by a <see cref="FakeRegistry"/>: one layer a call, bottom first.</summary>
internal sealed class FakeImage(FakeRegistry registry, string repository)
{
    private readonly List<(Descriptor Blob, Digest DiffId)> layers = [];

    internal IReadOnlyList<Descriptor> Layers => [.. layers.Select(layer => layer.Blob)];

    /// <summary>The digest the tag names, once <see cref="Publish"/> was called.</summary>
    internal Digest Digest { get; private set; }

    internal string Reference(string tag = "latest") => $"{registry.Address}/{repository}:{tag}";

    /// <summary>Files by path; contents are the values.</summary>
    internal FakeImage Layer(params (string Path, byte[] Content)[] files)
    {
        using MemoryStream plain = new();
        using (TarWriter tar = new(plain, TarEntryFormat.Pax, leaveOpen: true))
        {
            foreach ((string path, byte[] content) in files)
            {
                tar.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, path)
                {
                    DataStream = new MemoryStream(content),
                    ModificationTime = DateTimeOffset.FromUnixTimeSeconds(1_700_000_000),
                    Mode = UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.GroupRead,
                });
            }
        }

        using MemoryStream compressed = new();
        using (GZipStream gzip = new(compressed, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(plain.ToArray());
        }

        return Layer(compressed.ToArray(), Digest.Of(plain.ToArray()));
    }

    /// <summary>A layer of one incompressible file of about so many bytes.</summary>
    internal FakeImage RandomLayer(string path, int size) => Layer((path, RandomNumberGenerator.GetBytes(size)));

    internal FakeImage Layer(byte[] blob, Digest diffId)
    {
        layers.Add((registry.AddBlob(repository, blob, "application/vnd.oci.image.layer.v1.tar+gzip"), diffId));
        return this;
    }

    /// <summary>A layer of zeros, as large as one likes, which its plain tar takes no memory to serve.</summary>
    internal FakeImage Layer(FakeContent plainTar)
    {
        layers.Add((registry.AddBlob(repository, plainTar), plainTar.Digest));
        return this;
    }

    internal FakeImage Publish(string tag = "latest", bool withIndex = false)
    {
        string diffIds = string.Join(',', layers.Select(layer => $"\"{layer.DiffId}\""));
        byte[] config = Encoding.UTF8.GetBytes(
            $$$"""{"architecture":"{{{Platform.OfThisMachine.Architecture}}}","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[{{{diffIds}}}]}}""");
        Descriptor configBlob = registry.AddBlob(repository, config, MediaTypes.OciConfig);
        string blobs = string.Join(',', layers.Select(layer => Json(layer.Blob)));
        byte[] manifest = Encoding.UTF8.GetBytes(
            $$$"""{"schemaVersion":2,"mediaType":"{{{MediaTypes.OciManifest}}}","config":{{{Json(configBlob)}}},"layers":[{{{blobs}}}]}""");
        Descriptor published = registry.AddManifest(repository, withIndex ? null : tag, manifest, MediaTypes.OciManifest);
        if (withIndex)
        {
            string platform = $$$""","platform":{"os":"linux","architecture":"{{{Platform.OfThisMachine.Architecture}}}"}}""";
            byte[] index = Encoding.UTF8.GetBytes(
                $$$"""{"schemaVersion":2,"mediaType":"{{{MediaTypes.OciIndex}}}","manifests":[{"mediaType":"{{{MediaTypes.OciManifest}}}","digest":"sha256:{{{new string('0', 64)}}}","size":7,"platform":{"os":"linux","architecture":"s390x"}},{{{Json(published)[..^1]}}}{{{platform}}}]}""");
            published = registry.AddManifest(repository, tag, index, MediaTypes.OciIndex);
        }

        Digest = published.Digest;
        return this;
    }

    private static string Json(Descriptor descriptor) => string.Create(
        CultureInfo.InvariantCulture,
        $$$"""{"mediaType":"{{{descriptor.MediaType}}}","digest":"{{{descriptor.Digest}}}","size":{{{descriptor.Size}}}}""");
}
