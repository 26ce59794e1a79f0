using NativePull.Layers;
using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>How a layer's blob came to be in the store.</summary>
internal enum LayerState
{
    /// <summary>It was there; nothing was transferred.</summary>
    Present,
    Downloaded,

    /// <summary>A kept part was continued.</summary>
    Resumed,
}

/// <param name="ResumedFrom">Bytes that a kept part already had; 0 where there was none.</param>
/// <param name="Path">The extracted overlay directory; null where it was not asked for.</param>
/// <param name="Extracted">What this run wrote there and could not keep; null where it wrote nothing.</param>
internal sealed record PulledLayer(
    Descriptor Blob, Digest DiffId, ChainId ChainId, LayerState State, long ResumedFrom, string? Path, ExtractReport? Extracted = null);

/// <summary>What came out of a pull.</summary>
/// <param name="Reference">The reference in full, or the source as it was given.</param>
/// <param name="Name">What stands before the "@" of NAME@DIGEST.</param>
/// <param name="Digest">What the reference resolved to: an index's digest where it is one.</param>
/// <param name="Manifest">Null where the source has none: the archives of docker save.</param>
/// <param name="TotalBytes">Config and distinct layers, compressed.</param>
/// <param name="DownloadedBytes">Bytes of blobs that this pull transferred.</param>
/// <param name="Extracted">What this run wrote and could not keep: of the flattened tree where it made one, else of all layers; null where it wrote nothing.</param>
internal sealed record PullResult(
    string Reference,
    string Name,
    Digest Digest,
    Digest? Manifest,
    Digest Config,
    Platform Platform,
    IReadOnlyList<PulledLayer> Layers,
    long TotalBytes,
    long DownloadedBytes,
    string? Rootfs,
    ExtractReport? Extracted,
    IReadOnlyList<string> Warnings,
    TimeSpan Elapsed)
{
    /// <summary>Why it cannot be turned into files; null where it is an image.</summary>
    internal string? NoImage { get; init; }
}
