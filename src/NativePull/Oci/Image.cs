namespace NativePull.Oci;

/// <summary>Media type, digest and size in bytes of a blob (image-spec, descriptor.md).</summary>
internal sealed record Descriptor(string MediaType, Digest Digest, long Size)
{
    /// <summary>The platform an index gives for this manifest; null where it gives none.</summary>
    internal Platform? Platform { get; init; }

    /// <summary>image-spec, annotations.md; empty where there are none.</summary>
    internal IReadOnlyDictionary<string, string> Annotations { get; init; } = new Dictionary<string, string>();

    /// <summary>The blob's own bytes, embedded (descriptor.md, "data"); not verified yet; null where absent.</summary>
    internal byte[]? Data { get; init; }
}

/// <summary>One name for several manifests (image-spec, image-index.md; Docker's manifest list is the same document).</summary>
internal sealed record ImageIndex(string MediaType, IReadOnlyList<Descriptor> Manifests);

/// <summary>Config and layers of one platform's image, bottom layer first (image-spec, manifest.md).</summary>
internal sealed record ImageManifest(string MediaType, Descriptor Config, IReadOnlyList<Descriptor> Layers);

/// <summary>What a config says that a puller needs (image-spec, config.md).</summary>
/// <param name="DiffIds">Digests of the plain tars, bottom layer first.</param>
internal sealed record ImageConfig(Platform Platform, IReadOnlyList<Digest> DiffIds, string? Created);
