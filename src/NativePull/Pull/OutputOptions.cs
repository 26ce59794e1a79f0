using NativePull.Layers;

namespace NativePull.Pull;

/// <summary>What an image shall become outside the store; paths are as <c>Store.Destination</c> gives them.</summary>
internal sealed record OutputOptions
{
    /// <summary>The archive goes to standard output.</summary>
    internal const string Stdout = "-";

    /// <summary>Where the flattened root file system goes; null: nowhere.</summary>
    internal string? Rootfs { get; init; }

    /// <summary>Where one overlay-ready directory a layer goes; null: nowhere.</summary>
    internal string? Layers { get; init; }

    /// <summary>Where the flattened archive goes, or <see cref="Stdout"/>; null: nowhere.</summary>
    internal string? Tar { get; init; }

    /// <summary>
    /// A directory of our own for what is remembered of an image's names while an archive goes into a stream, which has no directory. Asked for, and made if
    /// need be, when memory is used up; null, or null from it: memory holds it all the same.
    /// </summary>
    internal Func<string?>? Scratch { get; init; }

    internal bool AreAsked => Rootfs is not null || Layers is not null || Tar is not null;

    /// <summary>A directory that is there and not empty is exchanged for the new one; off, it is an error.</summary>
    internal bool Replace { get; init; }

    /// <summary>Flush what was written before it is published; off, a power cut may lose it.</summary>
    internal bool Sync { get; init; } = true;

    /// <summary>How layers become files; the format is set per target.</summary>
    internal ExtractOptions Extract { get; init; } = new();
}
