using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.Unicode;

namespace NativePull.Layers;

/// <summary>
/// Writes members as ustar blocks, with a pax header before those whose name, numbers, times or attributes the block cannot hold (POSIX pax, "pax
/// Header Block"). The same members give the same bytes: nothing of this machine goes in.
/// </summary>
internal sealed class PaxWriter(Stream output) : IDisposable
{
    private const int BufferSize = 128 * 1024;
    private const int NameLength = 100;

    // Octal digits of a field less the NUL that ends it.
    private const int ShortDigits = 7;
    private const int LongDigits = 11;

    // Of the block that stands before a pax header; readers that know pax never show it.
    private static readonly byte[] PaxName = "PaxHeaders/entry"u8.ToArray();

    private readonly byte[] buffer = new byte[BufferSize];
    private readonly MemoryStream pax = new();
    private int used;
    private long contentLeft;
    private int padding;

    /// <summary>Begins a member; its content, where it has a size, follows by <see cref="Write"/>.</summary>
    /// <param name="name">The path; a directory's ends in "/".</param>
    /// <param name="link">Target of a hard or symbolic link; empty elsewhere.</param>
    /// <param name="like">Everything else.</param>
    internal void Begin(TarEntryKind kind, ReadOnlySpan<byte> name, ReadOnlySpan<byte> link, TarEntry like, IReadOnlyList<TarXattr> xattrs)
    {
        Finish();
        long size = kind == TarEntryKind.File ? like.Size : 0;
        bool seconds = like.Modified.Seconds >= 0 && Fits(like.Modified.Seconds, LongDigits);
        pax.SetLength(0);
        AddTexts(name, link);
        AddNumber("size", size, LongDigits);
        AddNumber("uid", like.Uid, ShortDigits);
        AddNumber("gid", like.Gid, ShortDigits);
        if (!seconds || like.Modified.Nanoseconds != 0)
        {
            AddRecord("mtime"u8, TimeText(like.Modified));
        }

        AddXattrs(xattrs);
        if (pax.Length > 0)
        {
            Span<byte> extended = Block((byte)'x', PaxName, default);
            Octal(extended, 124, 12, pax.Length);
            Seal(extended);
            Put(pax.GetBuffer().AsSpan(0, (int)pax.Length));
            Zeros((int)(-pax.Length & (TarHeader.BlockSize - 1)));
        }

        Span<byte> block = Block(FlagOf(kind), Cut(name), Cut(link));
        Octal(block, 100, 8, like.Mode);
        Octal(block, 108, 8, Fits(like.Uid, ShortDigits) ? like.Uid : 0);
        Octal(block, 116, 8, Fits(like.Gid, ShortDigits) ? like.Gid : 0);
        Octal(block, 124, 12, Fits(size, LongDigits) ? size : 0);
        Octal(block, 136, 12, seconds ? like.Modified.Seconds : 0);
        bool device = kind is TarEntryKind.CharacterDevice or TarEntryKind.BlockDevice;
        DeviceNumber(block, 329, device ? like.DeviceMajor : 0);
        DeviceNumber(block, 337, device ? like.DeviceMinor : 0);
        Seal(block);
        contentLeft = size;
        padding = (int)(-size & (TarHeader.BlockSize - 1));
    }

    /// <summary>Content of the member begun last.</summary>
    internal void Write(ReadOnlySpan<byte> content)
    {
        contentLeft -= content.Length;
        if (contentLeft < 0)
        {
            throw new InvalidOperationException("more content than the member's size");
        }

        Put(content);
    }

    /// <summary>That many zero bytes of content.</summary>
    internal void WriteZeros(long count)
    {
        contentLeft -= count;
        while (count > 0)
        {
            int part = (int)Math.Min(count, 1 << 16);
            Zeros(part);
            count -= part;
        }
    }

    /// <summary>The two zero blocks that end an archive, and everything that is still held.</summary>
    internal void End()
    {
        Finish();
        Zeros(2 * TarHeader.BlockSize);
        Flush();
        output.Flush();
    }

    public void Dispose() => pax.Dispose();

    private void Finish()
    {
        if (contentLeft != 0)
        {
            throw new InvalidOperationException("less content than the member's size");
        }

        Zeros(padding);
        padding = 0;
    }

    private static byte FlagOf(TarEntryKind kind) => kind switch
    {
        TarEntryKind.HardLink => (byte)'1',
        TarEntryKind.Symlink => (byte)'2',
        TarEntryKind.CharacterDevice => (byte)'3',
        TarEntryKind.BlockDevice => (byte)'4',
        TarEntryKind.Directory => (byte)'5',
        TarEntryKind.Fifo => (byte)'6',
        _ => (byte)'0',
    };

    private static ReadOnlySpan<byte> Cut(ReadOnlySpan<byte> name) => name.Length <= NameLength ? name : name[..NameLength];

    // A zeroed block in the buffer with what every header has.
    private Span<byte> Block(byte flag, ReadOnlySpan<byte> name, ReadOnlySpan<byte> link)
    {
        if (BufferSize - used < TarHeader.BlockSize)
        {
            Flush();
        }

        Span<byte> block = buffer.AsSpan(used, TarHeader.BlockSize);
        used += TarHeader.BlockSize;
        block.Clear();
        name.CopyTo(block);
        Octal(block, 100, 8, 0x1A4);
        Octal(block, 108, 8, 0);
        Octal(block, 116, 8, 0);
        Octal(block, 136, 12, 0);
        block[156] = flag;
        link.CopyTo(block[157..]);
        "ustar\000"u8.CopyTo(block[257..]);
        return block;
    }

    // The checksum, over the block with its own field as spaces: six digits, NUL, space.
    private static void Seal(Span<byte> block)
    {
        block.Slice(148, 8).Fill((byte)' ');
        long sum = 0;
        foreach (byte b in block)
        {
            sum += b;
        }

        Octal(block, 148, 7, sum);
    }

    private static void Octal(Span<byte> block, int start, int length, long value)
    {
        Span<byte> field = block.Slice(start, length);
        field[^1] = 0;
        for (int i = length - 2; i >= 0; i--)
        {
            field[i] = (byte)('0' + (value & 7));
            value >>= 3;
        }
    }

    // pax has no record for device numbers; what does not fit is written as GNU tar does, in base 256.
    private static void DeviceNumber(Span<byte> block, int start, uint number)
    {
        if (Fits(number, ShortDigits))
        {
            Octal(block, start, 8, number);
            return;
        }

        block[start] = 0x80;
        BinaryPrimitives.WriteUInt32BigEndian(block[(start + 4)..], number);
    }

    private static bool Fits(long number, int digits) => number >> (3 * digits) == 0;

    // Values are UTF-8 unless a record before them says that they are bytes ("hdrcharset").
    private void AddTexts(ReadOnlySpan<byte> name, ReadOnlySpan<byte> link)
    {
        bool longName = name.Length > NameLength;
        bool longLink = link.Length > NameLength;
        if ((longName && !Utf8.IsValid(name)) || (longLink && !Utf8.IsValid(link)))
        {
            AddRecord("hdrcharset"u8, "BINARY"u8);
        }

        if (longName)
        {
            AddRecord("path"u8, name);
        }

        if (longLink)
        {
            AddRecord("linkpath"u8, link);
        }
    }

    private void AddNumber(string key, long value, int digits)
    {
        if (!Fits(value, digits))
        {
            AddRecord(Encoding.ASCII.GetBytes(key), Encoding.ASCII.GetBytes(value.ToString(CultureInfo.InvariantCulture)));
        }
    }

    private void AddXattrs(IReadOnlyList<TarXattr> xattrs)
    {
        // in an order of their own, whatever order they were found in
        TarXattr[] sorted = [.. xattrs];
        Array.Sort(sorted, static (one, other) => one.Name.AsSpan().SequenceCompareTo(other.Name));
        foreach (TarXattr xattr in sorted)
        {
            if (!xattr.Name.AsSpan().Contains((byte)'='))
            {
                AddRecord([.. "SCHILY.xattr."u8, .. xattr.Name], xattr.Value);
                continue;
            }

            // a key ends at the first "="; libarchive's records escape names
            string escaped = string.Concat(xattr.Name.Select(b => b is > 0x20 and < 0x7f and not ((byte)'=' or (byte)'%') ? ((char)b).ToString() : $"%{b:X2}"));
            AddRecord(Encoding.ASCII.GetBytes("LIBARCHIVE.xattr." + escaped), Encoding.ASCII.GetBytes(Convert.ToBase64String(xattr.Value).TrimEnd('=')));
        }
    }

    // "LENGTH KEY=VALUE\n", where LENGTH counts itself.
    private void AddRecord(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        int rest = key.Length + value.Length + 3;
        int length = rest + 1;
        while (rest + Digits(length) != length)
        {
            length = rest + Digits(length);
        }

        pax.Write(Encoding.ASCII.GetBytes(length.ToString(CultureInfo.InvariantCulture) + " "));
        pax.Write(key);
        pax.WriteByte((byte)'=');
        pax.Write(value);
        pax.WriteByte((byte)'\n');
    }

    private static int Digits(int number) => number.ToString(CultureInfo.InvariantCulture).Length;

    // -0.5 s is second -1 and 500,000,000 ns. All nine digits: mkfs.erofs before 1.9 takes those that are there for a number of nanoseconds.
    private static byte[] TimeText(TarTime time)
    {
        bool negative = time.Seconds < 0;
        long seconds = negative && time.Nanoseconds != 0 ? time.Seconds + 1 : time.Seconds;
        int nanoseconds = negative && time.Nanoseconds != 0 ? 1_000_000_000 - time.Nanoseconds : time.Nanoseconds;
        string whole = (negative && seconds == 0 ? "-" : "") + seconds.ToString(CultureInfo.InvariantCulture);
        string fraction = nanoseconds == 0 ? "" : "." + nanoseconds.ToString("D9", CultureInfo.InvariantCulture);
        return Encoding.ASCII.GetBytes(whole + fraction);
    }

    private void Put(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            if (used == BufferSize)
            {
                Flush();
            }

            int count = Math.Min(bytes.Length, BufferSize - used);
            bytes[..count].CopyTo(buffer.AsSpan(used));
            used += count;
            bytes = bytes[count..];
        }
    }

    private void Zeros(int count)
    {
        while (count > 0)
        {
            if (used == BufferSize)
            {
                Flush();
            }

            int part = Math.Min(count, BufferSize - used);
            buffer.AsSpan(used, part).Clear();
            used += part;
            count -= part;
        }
    }

    private void Flush()
    {
        output.Write(buffer.AsSpan(0, used));
        used = 0;
    }
}
