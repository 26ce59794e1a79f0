using System.Text;
using NativePull.Oci;
using NativePull.Store;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Store;

/// <summary>An empty store in a directory of its own, and values to put into it.</summary>
internal sealed class StoreHarness : IDisposable
{
    private readonly TemporaryDirectory scratch = new();

    internal StoreHarness() => Layout = new StoreLayout(scratch["store"]);

    internal StoreLayout Layout { get; }

    /// <summary>Impatient, so that a test of waiting in vain does not wait.</summary>
    internal StoreOptions Options { get; init; } = new() { LockPoll = TimeSpan.FromMilliseconds(5) };

    internal BlobStore Blobs => new(Layout, Options);

    internal LayerStore Layers => new(Layout, Options);

    /// <summary>A path beside the store.</summary>
    internal string this[string below] => scratch[below];

    internal static CancellationToken Token => TestContext.Current.CancellationToken;

    internal static StoreHarness Make()
    {
        StoreHarness harness = new();
        Directory.CreateDirectory(harness.Layout.Parts);
        return harness;
    }

    internal Task<Catalog> OpenAsync() => Catalog.OpenAsync(Layout, Options, Token);

    internal static Descriptor Describe(byte[] content, string mediaType = "application/vnd.oci.image.layer.v1.tar+gzip") => new(mediaType, Digest.Of(content), content.Length);

    internal static StoredDocument Document(string text, string mediaType = MediaTypes.OciManifest)
    {
        byte[] content = Encoding.UTF8.GetBytes(text);
        return new StoredDocument(mediaType, Digest.Of(content), content);
    }

    internal static StoredLayer Layer(string text, string? mediaType = null) => new(
        Describe(Encoding.UTF8.GetBytes(text), mediaType ?? "application/vnd.oci.image.layer.v1.tar+gzip"), Digest.Of(Encoding.UTF8.GetBytes(text + " plain")));

    /// <summary>An image whose documents and layers are made of its name.</summary>
    internal static PulledImage Image(string tag, string version, params StoredLayer[] layers) => new(
        $"example.com/a/b:{tag}",
        "example.com/a/b",
        Platform.OfThisMachine,
        Document($"index {version}", MediaTypes.OciIndex),
        Document($"manifest {version}"),
        Document($"config {version}", MediaTypes.OciConfig),
        layers.Length > 0 ? layers : [Layer($"one {version}"), Layer("shared")],
        DateTimeOffset.FromUnixTimeSeconds(1_700_000_000));

    public void Dispose() => scratch.Dispose();
}
