using System.Globalization;

namespace NativePull.Layers;

/// <summary>
/// One member's header under the extended headers that speak of it: pax records win over GNU's long names, those over the header's own
/// fields, a local pax header over a global one.
/// </summary>
internal sealed class TarMember
{
    private readonly TarEntryKind kind;
    private readonly byte[] linkName;
    private readonly PaxRecords local;
    private readonly PaxRecords global;
    private readonly TarLimits limits;
    private readonly uint mode;
    private readonly uint uid;
    private readonly uint gid;
    private readonly uint deviceMajor;
    private readonly uint deviceMinor;
    private readonly TarTime modified;

    /// <param name="name">What pax records have not replaced: GNU's long name or the header's.</param>
    /// <exception cref="PullException">Malformed, LimitPassed, Unsupported.</exception>
    internal TarMember(TarHeader header, PaxRecords local, PaxRecords global, byte[] name, byte[]? longLink, TarLimits limits)
    {
        this.local = local;
        this.global = global;
        this.limits = limits;
        Name = local.Bytes("GNU.sparse.name") ?? local.Bytes("path", global) ?? name;
        CheckName(Name);
        kind = KindOf(header.TypeFlag, Name);
        linkName = kind is TarEntryKind.HardLink or TarEntryKind.Symlink
            ? local.Bytes("linkpath", global) ?? longLink ?? header.LinkName.ToArray()
            : [];
        CheckLink();
        IsOldSparse = header.TypeFlag == 'S';
        StoredSize = local.Number("size", global) ?? header.Size;
        mode = (uint)header.Mode & 0xFFF;
        uid = Id(local.Number("uid", global) ?? header.Uid);
        gid = Id(local.Number("gid", global) ?? header.Gid);
        modified = local.Time("mtime", global) ?? new TarTime(header.Modified, 0);
        if (kind is TarEntryKind.CharacterDevice or TarEntryKind.BlockDevice)
        {
            deviceMajor = DeviceNumber(header.DeviceMajor);
            deviceMinor = DeviceNumber(header.DeviceMinor);
        }
    }

    internal byte[] Name { get; }

    /// <summary>What the size field says, whether or not there is content.</summary>
    internal long StoredSize { get; }

    internal bool HasContent => kind == TarEntryKind.File;

    /// <summary>GNU's own format: the map is in and after the header.</summary>
    internal bool IsOldSparse { get; }

    /// <summary>By pax records, 0.0 to 1.0.</summary>
    internal bool IsSparse => local.IsSparse;

    /// <summary>Length with holes; null where the records do not say.</summary>
    internal long? RealSize => local.Number("GNU.sparse.realsize") ?? local.Number("GNU.sparse.size");

    /// <summary>Of formats 0.0 and 0.1; a file that is all hole may have none.</summary>
    internal SparseMap Map => local.Map ?? new SparseMap(limits.MaximumSparseRuns, $"of {TarText.Show(Name)}");

    /// <summary>Format 1.0: the map stands before the data.</summary>
    /// <exception cref="PullException">Unsupported: a format after 1.0.</exception>
    internal bool HasMapInContent => (local.Number("GNU.sparse.major") ?? 0, local.Number("GNU.sparse.minor") ?? 0) switch
    {
        (0, 0 or 1) => false,
        (1, 0) => true,
        var (major, minor) => throw new PullException(
            PullError.Unsupported,
            $"archive: {TarText.Show(Name)} is a sparse file of format {Text(major)}.{Text(minor)}, which is not supported"),
    };

    /// <exception cref="PullException">LimitPassed: more attributes than may be.</exception>
    internal TarEntry ToEntry(long size, long dataSize, long room) => new()
    {
        Kind = kind,
        Name = Name,
        LinkName = linkName,
        Mode = mode,
        Uid = uid,
        Gid = gid,
        Size = size,
        DataSize = dataSize,
        Room = room,
        DeviceMajor = deviceMajor,
        DeviceMinor = deviceMinor,
        Modified = modified,
        Xattrs = Xattrs(),
    };

    // One header's are bounded with the header; a global one may add as many again, and others for all members after it.
    private IReadOnlyList<TarXattr> Xattrs()
    {
        IReadOnlyList<TarXattr> xattrs = local.XattrsOver(global);
        long bytes = 0;
        foreach (TarXattr xattr in xattrs)
        {
            bytes += xattr.Name.Length + xattr.Value.Length;
        }

        return bytes <= limits.MaximumPax
            ? xattrs
            : throw new PullException(
                PullError.LimitPassed, $"archive: {TarText.Show(Name)} has extended attributes of {Text(bytes)} bytes, more than {Text(limits.MaximumPax)}");
    }

    private static TarEntryKind KindOf(byte flag, byte[] name) => flag switch
    {
        (byte)'1' => TarEntryKind.HardLink,
        (byte)'2' => TarEntryKind.Symlink,
        (byte)'3' => TarEntryKind.CharacterDevice,
        (byte)'4' => TarEntryKind.BlockDevice,
        // 'D' is GNU's directory of an incremental archive, followed by the names that were in it
        (byte)'5' or (byte)'D' => TarEntryKind.Directory,
        (byte)'6' => TarEntryKind.Fifo,
        // v7 had no flag for a directory
        0 or (byte)'0' when name.Length > 0 && name[^1] == '/' => TarEntryKind.Directory,
        0 or (byte)'0' or (byte)'7' or (byte)'S' => TarEntryKind.File,
        (byte)'M' => throw Refused(name, flag, "the rest of a file from another volume"),
        (byte)'N' => throw Refused(name, flag, "an old GNU list of long names"),
        (byte)'A' => throw Refused(name, flag, "a Solaris access control list"),
        (byte)'E' => throw Refused(name, flag, "a Solaris extended attribute"),
        (byte)'I' => throw Refused(name, flag, "an inode without content"),
        _ => throw Refused(name, flag, "unknown"),
    };

    private static PullException Refused(byte[] name, byte flag, string meaning) =>
        new(PullError.Unsupported, $"archive: {TarText.Show(name)} has type \"{TarText.Show([flag])}\" ({meaning}), which is not supported");

    private void CheckName(byte[] name)
    {
        if (name.Length > limits.MaximumName)
        {
            throw new PullException(PullError.LimitPassed, $"archive: {TarText.Show(name)} is a name of {Text(name.Length)} bytes, more than {Text(limits.MaximumName)}");
        }

        int depth = 0;
        ReadOnlySpan<byte> rest = name;
        while (rest.Length > 0)
        {
            int slash = rest.IndexOf((byte)'/');
            ReadOnlySpan<byte> component = slash < 0 ? rest : rest[..slash];
            rest = slash < 0 ? default : rest[(slash + 1)..];
            depth += component.Length > 0 ? 1 : 0;
            EntryPath.CheckLength(component, name);
        }

        if (depth > limits.MaximumDepth)
        {
            throw new PullException(PullError.LimitPassed, $"archive: {TarText.Show(name)} is {Text(depth)} directories deep, more than {Text(limits.MaximumDepth)}");
        }
    }

    private void CheckLink()
    {
        // what symlink(2) takes; a hard link's target is a name like any other
        const int longestSymlink = 4095;
        if (kind == TarEntryKind.HardLink)
        {
            CheckName(linkName);
        }
        else if (linkName.Length > longestSymlink)
        {
            throw new PullException(
                PullError.LimitPassed,
                $"archive: {TarText.Show(Name)} is a symbolic link of {Text(linkName.Length)} bytes, more than the {Text(longestSymlink)} that Linux takes");
        }
    }

    // Owner numbers end before 2^32 - 1, which means "leave it" to chown(2).
    private uint Id(long number) => number is >= 0 and < uint.MaxValue
        ? (uint)number
        : throw new PullException(PullError.Malformed, $"archive: {TarText.Show(Name)} has owner {Text(number)}, expected 0 to {Text(uint.MaxValue - 1)}");

    private uint DeviceNumber(long number) => number is >= 0 and <= uint.MaxValue
        ? (uint)number
        : throw new PullException(PullError.Malformed, $"archive: {TarText.Show(Name)} has device number {Text(number)}, expected 0 to {Text(uint.MaxValue)}");

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
