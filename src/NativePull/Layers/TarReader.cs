using System.Globalization;

namespace NativePull.Layers;

/// <summary>
/// An archive as its members, in order: v7, ustar, pax and GNU, recognised member by member. What is promised by a header and not there is
/// Malformed; the end marker may be missing at a member's border. What follows the end marker is left to the caller.
/// </summary>
internal sealed class TarReader(Stream tar, TarLimits limits)
{
    private readonly byte[] block = new byte[TarHeader.BlockSize];
    private byte[]? before;
    private readonly PaxRecords global = PaxRecords.OfAll([], "", limits);
    private TarEntry? current;
    private byte[]? name;
    private SparseMap? map;
    private int run;
    private long runDone;
    private long contentLeft;
    private int padding;
    private long doubtful;
    private bool ready;
    private bool ended;

    /// <summary>The member that the last <see cref="MoveNext"/> found.</summary>
    internal TarEntry Current => current ?? throw new InvalidOperationException("there is no current entry");

    /// <summary>Goes to the next member, past what was not read of this one. False at the end.</summary>
    /// <exception cref="PullException">Malformed, LimitPassed, Unsupported.</exception>
    internal bool MoveNext()
    {
        FinishCurrent();
        byte[]? records = null;
        byte[]? longName = null;
        byte[]? longLink = null;

        while (ReadHeader())
        {
            TarHeader header = new(block);
            switch (header.TypeFlag)
            {
                // 'X' is what Sun called it before POSIX did
                case (byte)'x' or (byte)'X':
                    records = ReadMetadata(header.Size, limits.MaximumPax, "pax header");
                    break;
                case (byte)'g':
                    global.Take(PaxRecords.OfAll(ReadMetadata(header.Size, limits.MaximumPax, "global pax header"), Where, limits));
                    break;
                case (byte)'L':
                    longName = UpToNul(ReadMetadata(header.Size, limits.MaximumName + 1, "long name"));
                    break;
                case (byte)'K':
                    longLink = UpToNul(ReadMetadata(header.Size, limits.MaximumName + 1, "long link name"));
                    break;
                case (byte)'V':
                    // the name of the archive, as GNU's --label writes it; no file
                    long label = header.Size;
                    Skip(label);
                    SkipPadding(PaddingOf(label));
                    (records, longName, longLink) = (null, null, null);
                    break;
                default:
                    // only now, so that what is wrong in it can be said of a name
                    byte[] known = longName ?? header.FullName;
                    Begin(header, new TarMember(header, PaxRecords.OfMember(records, known, limits), global, known, longLink, limits));
                    return true;
            }
        }

        if (records is not null || longName is not null || longLink is not null)
        {
            throw new PullException(PullError.Malformed, $"archive: ends after the extended header {Where}, before its member");
        }

        return false;
    }

    /// <summary>The next bytes of the current file; 0 at its end. Holes are passed over.</summary>
    /// <param name="position">Where in the file they belong.</param>
    /// <exception cref="PullException">Malformed: the archive ends inside.</exception>
    internal int ReadContent(Span<byte> buffer, out long position)
    {
        position = 0;
        if (contentLeft == 0 || buffer.Length == 0 || Current.Kind != TarEntryKind.File)
        {
            return 0;
        }

        long longest = contentLeft;
        if (map is not null)
        {
            if (runDone == map[run].Length)
            {
                run++;
                runDone = 0;
            }

            position = map[run].Offset + runDone;
            longest = map[run].Length - runDone;
        }
        else
        {
            position = Current.Size - contentLeft;
        }

        int read = tar.Read(buffer[..(int)Math.Min(buffer.Length, longest)]);
        if (read == 0)
        {
            throw Truncated(contentLeft);
        }

        contentLeft -= read;
        runDone += read;
        return read;
    }

    private void Begin(TarHeader header, TarMember member)
    {
        name = member.Name;
        long stored = member.StoredSize;
        padding = PaddingOf(stored);
        map = null;
        run = 0;
        runDone = 0;
        if (!member.HasContent)
        {
            // the names in a GNU dump directory are content that is always there, and nobody's
            (contentLeft, doubtful) = header.TypeFlag == 'D' ? (stored, 0L) : (0, stored);
            current = member.ToEntry(0, 0, 0);
            return;
        }

        long size = stored;
        if (member.IsOldSparse)
        {
            size = header.RealSize;
            map = ReadOldMap(header, member.Name);
        }
        else if (member.IsSparse)
        {
            size = member.RealSize ?? throw new PullException(PullError.Malformed, $"archive: sparse file {TarText.Show(member.Name)} has no size");
            map = member.HasMapInContent ? ReadMapInContent(ref stored, $"of {TarText.Show(member.Name)}") : member.Map;
        }

        map?.Check(size, stored, member.Name);
        contentLeft = stored;
        current = member.ToEntry(size, stored, map?.Room ?? stored);
    }

    // What has no content has none whatever its size field says: so read Go, whose writers make most layers, GNU tar and POSIX's text. But pax -o
    // linkdata, star and some old writers do store a hard link's content. So the size is believed where, without it, the next block would be no
    // header; an archive that Go can read is then read as Go reads it.
    private void FinishCurrent()
    {
        Skip(contentLeft);
        contentLeft = 0;
        if (doubtful > 0 && ReadBlock())
        {
            TarHeader next = new(block);
            if (next.IsZero || next.IsValid)
            {
                ready = true;
                padding = 0;
            }
            else
            {
                Skip(Math.Max(0, doubtful - TarHeader.BlockSize));
                padding = doubtful <= TarHeader.BlockSize ? 0 : padding;
            }
        }

        doubtful = 0;
        before = name ?? before;
        current = null;
        name = null;
        SkipPadding(padding);
        padding = 0;
    }

    // False at the end marker, or where the stream ends at a border. A second zero block may be missing there too.
    private bool ReadHeader()
    {
        if (!NextBlock())
        {
            return false;
        }

        TarHeader header = new(block);
        if (!header.IsZero)
        {
            header.Verify(Where);
            return true;
        }

        if (NextBlock() && !new TarHeader(block).IsZero)
        {
            // Go refuses it, GNU tar stops with a warning: going on or stopping would each be a guess about what belongs to the tree
            throw new PullException(PullError.Malformed, "archive: one zero block between members, where two end the archive");
        }

        ended = true;
        return false;
    }

    private bool NextBlock()
    {
        bool has = ready || ReadBlock();
        ready = false;
        return has;
    }

    private bool ReadBlock()
    {
        if (ended)
        {
            return false;
        }

        int filled = tar.ReadAtLeast(block, TarHeader.BlockSize, throwOnEndOfStream: false);
        ended = filled == 0;
        return filled is 0 or TarHeader.BlockSize ? !ended : throw Truncated(TarHeader.BlockSize - filled);
    }

    // GNU's 'S': four runs in the header, 21 in each block that follows while the one before says so.
    private SparseMap ReadOldMap(TarHeader header, byte[] of)
    {
        SparseMap runs = new(limits.MaximumSparseRuns, $"of {TarText.Show(of)}");
        bool more = header.AddSparseRuns(runs, of);
        while (more)
        {
            more = ReadBlock() ? TarHeader.AddExtendedRuns(block, runs, of) : throw Truncated(TarHeader.BlockSize);
        }

        return runs;
    }

    // GNU's 1.0: the number of runs, then offsets and lengths, a decimal number a line, padded to a block, all of it counted in the member's size.
    private SparseMap ReadMapInContent(ref long stored, string what)
    {
        long size = stored;
        SparseMapText text = new(limits.MaximumSparseRuns, what);
        do
        {
            if (stored < TarHeader.BlockSize)
            {
                throw new PullException(PullError.Malformed, $"archive: sparse map {what} is longer than the {size.ToString(CultureInfo.InvariantCulture)} bytes of its member");
            }

            if (!ReadBlock())
            {
                throw Truncated(stored);
            }

            stored -= TarHeader.BlockSize;
        }
        while (text.Add(block));

        return text.Map;
    }

    private static byte[] UpToNul(byte[] text)
    {
        int end = Array.IndexOf(text, (byte)0);
        return end < 0 ? text : text[..end];
    }

    private byte[] ReadMetadata(long size, int limit, string what)
    {
        if (size > limit)
        {
            throw new PullException(
                PullError.LimitPassed,
                $"archive: the {what} {Where} has {size.ToString(CultureInfo.InvariantCulture)} bytes, more than {limit.ToString(CultureInfo.InvariantCulture)}");
        }

        byte[] content = new byte[size];
        int read = tar.ReadAtLeast(content, content.Length, throwOnEndOfStream: false);
        if (read < content.Length)
        {
            throw Truncated(content.Length - read);
        }

        SkipPadding(PaddingOf(size));
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
                throw Truncated(count);
            }

            count -= read;
        }
    }

    // May be missing where the archive ends: nothing of a member is lost then.
    private void SkipPadding(int count) => ended |= tar.ReadAtLeast(block.AsSpan(0, count), count, throwOnEndOfStream: false) < count;

    private static int PaddingOf(long size) => (int)(-size & (TarHeader.BlockSize - 1));

    private string Where => before is null ? "at the beginning" : $"after {TarText.Show(before)}";

    private PullException Truncated(long missing) => new(
        PullError.Malformed,
        $"archive: ends inside {(name is null ? $"the member {Where}" : TarText.Show(name))}, at least {missing.ToString(CultureInfo.InvariantCulture)} bytes early");
}
