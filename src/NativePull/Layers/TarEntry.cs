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
internal readonly record struct TarXattr(byte[] Name, byte[] Value)
{
    /// <summary>Bytes of both.</summary>
    internal int Size => Name.Length + Value.Length;
}

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

    /// <summary>Length of the file, holes included; 0 for all but files.</summary>
    internal long Size { get; init; }

    /// <summary>Bytes of content in the archive: <see cref="Size"/> without the holes of a sparse file.</summary>
    internal long DataSize { get; init; }

    /// <summary>Bytes that its content takes on a disk: <see cref="DataSize"/>, or of a sparse file <see cref="SparseMap.Room"/>.</summary>
    internal long Room { get; init; }

    internal uint DeviceMajor { get; init; }

    internal uint DeviceMinor { get; init; }

    internal TarTime Modified { get; init; }

    internal IReadOnlyList<TarXattr> Xattrs { get; init; } = [];
}

/// <summary>Bounds of what headers may make a reader hold in memory. Passing one is LimitPassed.</summary>
internal sealed record TarLimits
{
    /// <summary>
    /// Bytes of one pax header, and of all attributes of one member, as Go's reader, which most layers must please; the kernel keeps 64 KiB of an
    /// attribute, so several fit.
    /// </summary>
    internal int MaximumPax { get; init; } = 1024 * 1024;

    /// <summary>Bytes of one name or link target, however it is written; sixteen times what Linux takes in one call, since names are walked in parts.</summary>
    internal int MaximumName { get; init; } = 64 * 1024;

    /// <summary>Components of one name; twice what fits into a path that Linux takes in one call.</summary>
    internal int MaximumDepth { get; init; } = 4096;

    /// <summary>Extended attributes of one member; real files have a handful.</summary>
    internal int MaximumXattrs { get; init; } = 256;

    /// <summary>Bytes of one attribute's value; XATTR_SIZE_MAX of linux/limits.h, more than which no Linux file has.</summary>
    internal int MaximumXattr { get; init; } = 64 * 1024;

    /// <summary>Runs of data in one sparse file, 16 bytes each while it is read; Go's bound, and a hole every 16 KiB of a file of 16 GiB.</summary>
    internal int MaximumSparseRuns { get; init; } = 1024 * 1024;
}
