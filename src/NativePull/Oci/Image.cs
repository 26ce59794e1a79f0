namespace NativePull.Oci;

/// <summary>Media type, digest and size in bytes of a blob (image-spec, descriptor.md).</summary>
internal sealed record Descriptor(string MediaType, Digest Digest, long Size)
{
    /// <summary>The platform an index gives for this manifest; null where it gives none.</summary>
    internal Platform? Platform { get; init; }

    /// <summary>image-spec, annotations.md; empty where there are none.</summary>
    internal IReadOnlyDictionary<string, string> Annotations { get; init; } = new Dictionary<string, string>();

    /// <summary>Where a layer that registries may not carry can be had (descriptor.md, "urls"); empty where there are none.</summary>
    internal IReadOnlyList<string> Urls { get; init; } = [];

    /// <summary>The blob's own bytes, embedded (descriptor.md, "data"); not verified yet; null where absent.</summary>
    internal byte[]? Data { get; init; }

    /// <summary>The same, where they are the ones described; else null.</summary>
    internal byte[]? VerifiedData => Data is { } embedded && embedded.Length == Size && Digest.Matches(embedded) ? embedded : null;
}

/// <summary>One name for several manifests (image-spec, image-index.md; Docker's manifest list is the same document).</summary>
internal sealed record ImageIndex(string MediaType, IReadOnlyList<Descriptor> Manifests);

/// <summary>Config and layers of one platform's image, bottom layer first (image-spec, manifest.md).</summary>
/// <param name="ArtifactType">What it is, where it is no image; null: it does not say.</param>
internal sealed record ImageManifest(string MediaType, Descriptor Config, IReadOnlyList<Descriptor> Layers, string? ArtifactType = null)
{
    /// <summary>Why this cannot be turned into files; null where it is an image.</summary>
    internal string? NoImage => !MediaTypes.IsImageConfig(Config.MediaType)
        ? $"an artifact of type \"{(string.IsNullOrEmpty(ArtifactType) ? Config.MediaType : ArtifactType)}\", not an image"
        : Layers.FirstOrDefault(layer => !MediaTypes.IsLayer(layer.MediaType)) is { } other
            ? $"layer {other.Digest} has media type \"{other.MediaType}\", which is not a tar layer's"
            : null;
}

/// <summary>What a config says that a puller needs (image-spec, config.md).</summary>
/// <param name="DiffIds">Digests of the plain tars, bottom layer first.</param>
internal sealed record ImageConfig(Platform Platform, IReadOnlyList<Digest> DiffIds, string? Created);
