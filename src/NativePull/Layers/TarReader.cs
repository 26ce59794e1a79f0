using System.Globalization;

namespace NativePull.Layers;

/// <summary>
/// An archive as its members, in order: v7, ustar, pax and GNU, recognised member by member. What is promised by a header and not there is
/// Malformed; the end marker may be missing at a member's border. Bytes after the end are left to the caller.
/// </summary>
internal sealed class TarReader(Stream tar, TarLimits limits)
{
    private readonly byte[] block = new byte[TarHeader.BlockSize];
    private PaxRecords global = new();
    private TarEntry? current;
    private long contentLeft;
    private long paddingLeft;
    private bool ended;

    /// <summary>The member that the last <see cref="MoveNext"/> found.</summary>
    internal TarEntry Current => current ?? throw new InvalidOperationException("there is no current entry");

    /// <summary>Goes to the next member, past what was not read of this one. False at the end.</summary>
    /// <exception cref="PullException">Malformed, LimitPassed, Unsupported (a sparse file).</exception>
    internal bool MoveNext()
    {
        Skip(contentLeft + paddingLeft);
        contentLeft = paddingLeft = 0;
        current = null;
        PaxRecords? local = null;
        byte[]? longName = null;
        byte[]? longLink = null;

        while (ReadHeader())
        {
            TarHeader header = new(block);
            switch (header.TypeFlag)
            {
                case (byte)'x' or (byte)'X':
                    local = PaxRecords.Parse(ReadMetadata(header.Size, limits.MaximumPax, "pax header"));
                    break;
                case (byte)'g':
                    global = global.With(PaxRecords.Parse(ReadMetadata(header.Size, limits.MaximumPax, "global pax header")));
                    break;
                case (byte)'L':
                    longName = UpToNul(ReadMetadata(header.Size, limits.MaximumName, "long name"));
                    break;
                case (byte)'K':
                    longLink = UpToNul(ReadMetadata(header.Size, limits.MaximumName, "long link name"));
                    break;
                default:
                    current = Resolve(header, local is null ? global : global.With(local), longName, longLink);
                    contentLeft = current.Size;
                    paddingLeft = PaddingOf(current.Size);
                    return true;
            }
        }

        if (local is not null || longName is not null || longLink is not null)
        {
            throw new PullException(PullError.Malformed, "archive: ends after an extended header, before its member");
        }

        return false;
    }

    /// <summary>Content of the current file; 0 at its end.</summary>
    /// <exception cref="PullException">Malformed: the archive ends inside.</exception>
    internal int ReadContent(Span<byte> buffer)
    {
        if (contentLeft == 0 || buffer.Length == 0)
        {
            return 0;
        }

        int read = tar.Read(buffer[..(int)Math.Min(buffer.Length, contentLeft)]);
        if (read == 0)
        {
            throw Truncated();
        }

        contentLeft -= read;
        return read;
    }

    // False at the end marker, or where the stream ends at a border.
    private bool ReadHeader()
    {
        int zeroBlocks = 0;
        while (!ended)
        {
            int filled = tar.ReadAtLeast(block, TarHeader.BlockSize, throwOnEndOfStream: false);
            if (filled == 0)
            {
                ended = true;
                break;
            }

            if (filled < TarHeader.BlockSize)
            {
                throw Truncated();
            }

            TarHeader header = new(block);
            if (!header.IsZero)
            {
                header.Verify();
                return true;
            }

            ended = ++zeroBlocks == 2;
        }

        return false;
    }

    private static TarEntry Resolve(TarHeader header, PaxRecords pax, byte[]? longName, byte[]? longLink)
    {
        byte[] name = pax.Bytes("path") ?? longName ?? Join(header.Prefix, header.Name);
        if (pax.IsSparse || header.TypeFlag == 'S')
        {
            throw new PullException(PullError.Unsupported, $"archive: {TarText.Show(name)} is a sparse file, which is not supported");
        }

        TarEntryKind kind = KindOf(header.TypeFlag, name);
        long size = kind == TarEntryKind.File ? pax.Number("size") ?? header.Size : 0;
        if (size < 0)
        {
            throw new PullException(PullError.Malformed, $"archive: {TarText.Show(name)} has size {size.ToString(CultureInfo.InvariantCulture)}");
        }

        bool device = kind is TarEntryKind.CharacterDevice or TarEntryKind.BlockDevice;
        return new TarEntry
        {
            Kind = kind,
            Name = name,
            LinkName = kind is TarEntryKind.HardLink or TarEntryKind.Symlink ? pax.Bytes("linkpath") ?? longLink ?? header.LinkName.ToArray() : [],
            Mode = (uint)header.Mode & 0xFFF,
            Uid = Id(pax.Number("uid") ?? header.Uid, name),
            Gid = Id(pax.Number("gid") ?? header.Gid, name),
            Size = size,
            DeviceMajor = device ? (uint)header.DeviceMajor : 0,
            DeviceMinor = device ? (uint)header.DeviceMinor : 0,
            Modified = pax.Time("mtime") ?? new TarTime(header.Modified, 0),
            Xattrs = pax.Xattrs,
        };
    }

    // Links, directories and devices have no content, whatever their size field says: so do Go's writers and readers, which make most layers.
    private static TarEntryKind KindOf(byte flag, byte[] name) => flag switch
    {
        (byte)'1' => TarEntryKind.HardLink,
        (byte)'2' => TarEntryKind.Symlink,
        (byte)'3' => TarEntryKind.CharacterDevice,
        (byte)'4' => TarEntryKind.BlockDevice,
        (byte)'5' => TarEntryKind.Directory,
        (byte)'6' => TarEntryKind.Fifo,
        // v7 had no flag for a directory
        0 or (byte)'0' when name.Length > 0 && name[^1] == '/' => TarEntryKind.Directory,
        0 or (byte)'0' or (byte)'7' => TarEntryKind.File,
        _ => throw new PullException(PullError.Unsupported, $"archive: {TarText.Show(name)} has type \"{TarText.Show([flag])}\", which is not supported"),
    };

    // Owner numbers end before 2^32 - 1, which means "leave it" to chown(2).
    private static uint Id(long number, byte[] name) => number is >= 0 and < uint.MaxValue
        ? (uint)number
        : throw new PullException(PullError.Malformed, $"archive: {TarText.Show(name)} has owner {number.ToString(CultureInfo.InvariantCulture)}");

    private static byte[] Join(ReadOnlySpan<byte> prefix, ReadOnlySpan<byte> name) =>
        prefix.Length == 0 ? name.ToArray() : [.. prefix, (byte)'/', .. name];

    private static byte[] UpToNul(byte[] text)
    {
        int end = Array.IndexOf(text, (byte)0);
        return end < 0 ? text : text[..end];
    }

    private byte[] ReadMetadata(long size, int limit, string what)
    {
        if (size < 0 || size > limit)
        {
            throw new PullException(
                size < 0 ? PullError.Malformed : PullError.LimitPassed,
                $"archive: a {what} has {size.ToString(CultureInfo.InvariantCulture)} bytes, more than {limit.ToString(CultureInfo.InvariantCulture)}");
        }

        byte[] content = new byte[size];
        if (tar.ReadAtLeast(content, content.Length, throwOnEndOfStream: false) < content.Length)
        {
            throw Truncated();
        }

        Skip(PaddingOf(size));
        return content;
    }

    private void Skip(long count)
    {
        Span<byte> scratch = stackalloc byte[4096];
        while (count > 0)
        {
            int read = tar.Read(scratch[..(int)Math.Min(scratch.Length, count)]);
            if (read == 0)
            {
                throw Truncated();
            }

            count -= read;
        }
    }

    private static long PaddingOf(long size) => -size & (TarHeader.BlockSize - 1);

    private static PullException Truncated() => new(PullError.Malformed, "archive: ends inside a member");
}
