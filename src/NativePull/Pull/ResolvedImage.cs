using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>A document with the bytes that are its name.</summary>
internal sealed record Document(Descriptor Descriptor, byte[] Content);

/// <summary>One layer of the plan: what to fetch and what it must unpack to. An artifact's blob unpacks to nothing: its diff ID is its own digest.</summary>
internal sealed record PlannedLayer(Descriptor Blob, Digest DiffId, ChainId ChainId);

/// <summary>A reference followed to the end: which documents name it, and which layers it has, bottom first.</summary>
internal sealed record ResolvedImage(Reference Reference, Document? Index, Document Manifest, Document Config, Platform Platform, IReadOnlyList<PlannedLayer> Layers)
{
    /// <summary>Why this cannot be turned into files; null where it is an image.</summary>
    internal string? NoImage { get; init; }

    /// <summary>Indexes between the one the reference points to and the manifest; without them the way could not be gone again offline.</summary>
    internal IReadOnlyList<Document> Between { get; init; } = [];

    /// <summary>What the reference itself points to.</summary>
    internal Digest Digest { get; init; } = (Index ?? Manifest).Descriptor.Digest;

    /// <summary>Distinct layer blobs, in order of first use.</summary>
    internal IEnumerable<Descriptor> Blobs => Layers.Select(layer => layer.Blob).DistinctBy(blob => blob.Digest);

    internal long TotalBytes => Config.Descriptor.Size + Blobs.Sum(blob => blob.Size);
}
