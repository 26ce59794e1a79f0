namespace NativePull.Layers;

/// <summary>What an archive member becomes.</summary>
internal enum TarEntryKind
{
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// <summary>Since 1970; seconds may be negative, nanoseconds are 0 to 999,999,999 and count forward.</summary>
internal readonly record struct TarTime(long Seconds, int Nanoseconds);

/// <summary>An extended attribute: name without NUL, value as it is.</summary>
internal readonly record struct TarXattr(byte[] Name, byte[] Value);

/// <summary>One archive member with every header that speaks of it resolved. Names are bytes as the archive has them.</summary>
internal sealed class TarEntry
{
    internal required TarEntryKind Kind { get; init; }

    internal required byte[] Name { get; init; }

    /// <summary>Target of a hard or symbolic link; empty elsewhere.</summary>
    internal byte[] LinkName { get; init; } = [];

    /// <summary>Permission bits, setuid, setgid, sticky.</summary>
    internal uint Mode { get; init; }

    internal uint Uid { get; init; }

    internal uint Gid { get; init; }

    /// <summary>Bytes of content that follow; 0 for all but files.</summary>
    internal long Size { get; init; }

    internal uint DeviceMajor { get; init; }

    internal uint DeviceMinor { get; init; }

    internal TarTime Modified { get; init; }

    internal IReadOnlyList<TarXattr> Xattrs { get; init; } = [];
}

/// <summary>Bounds of what headers may make a reader hold in memory.</summary>
internal sealed record TarLimits
{
    /// <summary>Bytes of one pax header; the kernel takes 64 KiB of an attribute, and a few of them fit.</summary>
    internal int MaximumPax { get; init; } = 1024 * 1024;

    /// <summary>Bytes of one GNU long name or link.</summary>
    internal int MaximumName { get; init; } = 64 * 1024;
}
