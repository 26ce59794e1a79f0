namespace NativePull.Layers;

/// <summary>A list of small values that grows without copying what it holds: a million of them cost their size and no more.</summary>
internal sealed class ChunkedList<T>
    where T : struct
{
    private const int Bits = 12;
    private const int ChunkSize = 1 << Bits;

    private readonly List<T[]> chunks = [];

    internal int Count { get; private set; }

    /// <summary>In place.</summary>
    internal ref T this[int index] => ref chunks[index >> Bits][index & (ChunkSize - 1)];

    /// <returns>Its index.</returns>
    internal int Add(in T value)
    {
        if (Count == chunks.Count << Bits)
        {
            chunks.Add(new T[ChunkSize]);
        }

        int index = Count++;
        this[index] = value;
        return index;
    }
}
