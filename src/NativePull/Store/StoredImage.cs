using NativePull.Oci;

namespace NativePull.Store;

/// <summary>A document kept byte for byte.</summary>
internal sealed record StoredDocument(string MediaType, Digest Digest, byte[] Content);

/// <summary>A layer of a manifest: its blob, and what that unpacks to.</summary>
internal sealed record StoredLayer(Descriptor Blob, Digest DiffId);

/// <summary>One platform's image under one reference, whole: what the catalog records and gives back.</summary>
/// <param name="Reference">Canonical: registry/repository, tag and/or digest.</param>
/// <param name="Name">registry/repository.</param>
/// <param name="Index">What the reference names, where that is an index.</param>
/// <param name="Layers">Bottom first; the same blob may occur twice.</param>
internal sealed record PulledImage(
    string Reference,
    string Name,
    Platform Platform,
    StoredDocument? Index,
    StoredDocument Manifest,
    StoredDocument Config,
    IReadOnlyList<StoredLayer> Layers,
    DateTimeOffset PulledAt)
{
    /// <summary>What the reference points to.</summary>
    internal Digest Digest => (Index ?? Manifest).Digest;
}
