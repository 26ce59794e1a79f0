using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// Which stretches of a part hold bytes, in a small file beside it. A stretch is noted after its bytes were written and with their checksum: so after
/// kill -9 the record says at most one buffer a connection too little, and after a power cut, when either file may have lost anything and a file
/// bytes before its end, a stretch that does not fit its checksum is fetched again and no other.
/// </summary>
internal sealed class PartRecord : IDisposable
{
    private const ulong Magic = 0x3153_4547_4e41_5250; // "PRANGES1"
    private const int HeaderSize = 16; // magic, size of the blob
    private const int EntrySize = 32; // start, length, checksum of the bytes, of the entry; the rest is zero
    private const int EntryChecked = 20;

    private readonly SafeFileHandle file;
    private readonly string path;
    private int entries;

    private PartRecord(SafeFileHandle file, string path)
    {
        this.file = file;
        this.path = path;
    }

    /// <summary>Null: there is none, or it was cut off while it was begun; then the part is what its length says.</summary>
    internal static PartRecord? TryOpen(string path, long blobSize)
    {
        SafeFileHandle file;
        try
        {
            file = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (FileNotFoundException)
        {
            return null;
        }

        Span<byte> header = stackalloc byte[HeaderSize];
        if (RandomAccess.Read(file, header, 0) == HeaderSize
            && BinaryPrimitives.ReadUInt64LittleEndian(header) == Magic
            && BinaryPrimitives.ReadInt64LittleEndian(header[8..]) == blobSize)
        {
            return new PartRecord(file, path);
        }

        file.Dispose();
        File.Delete(path);
        return null;
    }

    /// <summary>Begins one for a part that is its first <paramref name="length"/> bytes. One write makes it, so that it is never there without them.</summary>
    internal static PartRecord Create(string path, long blobSize, long length, uint checksum)
    {
        SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        try
        {
            Span<byte> begin = stackalloc byte[HeaderSize + EntrySize];
            begin.Clear();
            BinaryPrimitives.WriteUInt64LittleEndian(begin, Magic);
            BinaryPrimitives.WriteInt64LittleEndian(begin[8..], blobSize);
            Encode(begin[HeaderSize..], new ByteRange(0, length), checksum);
            RandomAccess.Write(file, begin, 0);
            return new PartRecord(file, path) { entries = 1 };
        }
        catch
        {
            // one without what it should vouch for would throw that away
            file.Dispose();
            File.Delete(path);
            throw;
        }
    }

    /// <summary>A stretch that was noted.</summary>
    internal readonly record struct Entry(int Index, ByteRange Range, uint Checksum);

    /// <summary>What was noted, by its place; not what bytes are there.</summary>
    internal IReadOnlyList<Entry> Entries(long blobSize)
    {
        List<Entry> found = [];
        Span<byte> entry = stackalloc byte[EntrySize];
        for (entries = 0; RandomAccess.Read(file, entry, OffsetOf(entries)) == EntrySize; entries++)
        {
            if (TryDecode(entry, blobSize, out ByteRange range, out uint checksum) && range.Length > 0)
            {
                found.Add(new Entry(entries, range, checksum));
            }
        }

        found.Sort((one, other) => one.Range.Start.CompareTo(other.Range.Start));
        return found;
    }

    /// <summary>Room for one more stretch.</summary>
    internal int Begin() => Interlocked.Increment(ref entries) - 1;

    /// <summary>Notes the stretch as it is now. Each is one connection's, so nobody else writes there.</summary>
    internal void Note(int entry, ByteRange range, uint checksum)
    {
        Span<byte> bytes = stackalloc byte[EntrySize];
        bytes.Clear();
        Encode(bytes, range, checksum);
        RandomAccess.Write(file, bytes, OffsetOf(entry));
    }

    /// <summary>Nothing from <paramref name="start"/> on is held any more, of what was noted before.</summary>
    internal void ForgetFrom(long start, long blobSize)
    {
        Span<byte> entry = stackalloc byte[EntrySize];
        for (int i = 0; i < entries; i++)
        {
            // one that begins before and goes on beyond would need another checksum; the caller's gaps make sure there is none
            if (RandomAccess.Read(file, entry, OffsetOf(i)) == EntrySize && TryDecode(entry, blobSize, out ByteRange range, out _) && range.Start >= start)
            {
                CrossOut(new Entry(i, range, 0));
            }
        }
    }

    internal void Delete()
    {
        File.Delete(path);
        Dispose();
    }

    public void Dispose() => file.Dispose();

    /// <summary>Null: the file ends before.</summary>
    internal static uint? TryChecksum(SafeFileHandle part, ByteRange range, CancellationToken token)
    {
        byte[] buffer = new byte[256 * 1024];
        uint checksum = 0;
        for (long at = range.Start; at < range.End;)
        {
            token.ThrowIfCancellationRequested();
            int read = RandomAccess.Read(part, buffer.AsSpan(0, (int)Math.Min(buffer.Length, range.End - at)), at);
            if (read == 0)
            {
                return null;
            }

            checksum = Crc32.Append(checksum, buffer.AsSpan(0, read));
            at += read;
        }

        return checksum;
    }

    internal void CrossOut(Entry entry) => RandomAccess.Write(file, new byte[EntrySize], OffsetOf(entry.Index));

    /// <summary>fsync(2).</summary>
    internal void Flush() => Libc.Flush(file, path);

    private static long OffsetOf(int entry) => HeaderSize + ((long)entry * EntrySize);

    private static void Encode(Span<byte> entry, ByteRange range, uint checksum)
    {
        BinaryPrimitives.WriteInt64LittleEndian(entry, range.Start);
        BinaryPrimitives.WriteInt64LittleEndian(entry[8..], range.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], checksum);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[EntryChecked..], Crc32.Append(uint.MaxValue, entry[..EntryChecked]));
    }

    private static bool TryDecode(ReadOnlySpan<byte> entry, long blobSize, out ByteRange range, out uint checksum)
    {
        long start = BinaryPrimitives.ReadInt64LittleEndian(entry);
        long length = BinaryPrimitives.ReadInt64LittleEndian(entry[8..]);
        checksum = BinaryPrimitives.ReadUInt32LittleEndian(entry[16..]);
        range = new ByteRange(start, unchecked(start + length));
        return BinaryPrimitives.ReadUInt32LittleEndian(entry[EntryChecked..]) == Crc32.Append(uint.MaxValue, entry[..EntryChecked])
            && start >= 0 && length >= 0 && length <= blobSize && start <= blobSize - length;
    }
}
