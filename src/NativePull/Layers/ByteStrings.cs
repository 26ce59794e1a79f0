using System.Buffers.Binary;

namespace NativePull.Layers;

/// <summary>Many short byte strings, end to end in large arrays instead of one object each.</summary>
internal sealed class ByteStrings
{
    private const int Bits = 17;
    private const int ChunkSize = 1 << Bits;

    private readonly List<byte[]> chunks = [];
    private int used = ChunkSize;

    /// <returns>Where it is; its length is for the caller to remember.</returns>
    internal int Add(ReadOnlySpan<byte> text)
    {
        text.CopyTo(Reserve(text.Length, out int at));
        return at;
    }

    internal ReadOnlySpan<byte> Get(int at, int length) => chunks[at >> Bits].AsSpan(at & (ChunkSize - 1), length);

    /// <summary>The same with its length beside it.</summary>
    internal int AddWithLength(ReadOnlySpan<byte> text)
    {
        Span<byte> place = Reserve(text.Length + sizeof(int), out int at);
        BinaryPrimitives.WriteInt32LittleEndian(place, text.Length);
        text.CopyTo(place[sizeof(int)..]);
        return at;
    }

    internal ReadOnlySpan<byte> GetWithLength(int at) =>
        Get(at + sizeof(int), BinaryPrimitives.ReadInt32LittleEndian(Get(at, sizeof(int))));

    /// <exception cref="PullException">LimitPassed: longer than any name or link may be.</exception>
    private Span<byte> Reserve(int length, out int at)
    {
        if (length > ChunkSize)
        {
            throw new PullException(PullError.LimitPassed, "archive: a name or link is longer than 128 KiB");
        }

        // at least one byte each, so that an empty one lies inside a chunk too
        int taken = Math.Max(1, length);
        if (used + taken > ChunkSize)
        {
            chunks.Add(new byte[ChunkSize]);
            used = 0;
        }

        at = ((chunks.Count - 1) << Bits) + used;
        Span<byte> place = chunks[^1].AsSpan(used, length);
        used += taken;
        return place;
    }
}
