using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NativePull.Layers;

/// <summary>A list of small values in the pages of a pool. Values are copied in and out, for a page may leave memory at any other access.</summary>
internal sealed class SpilledList<T>(SpillPool pool)
    where T : unmanaged
{
    // so many in a page that an index is split by bits; values of 16 or 32 bytes waste nothing
    private static readonly int Bits = BitOperations.Log2((uint)(SpillPool.PageSize / Unsafe.SizeOf<T>()));

    private readonly List<int> pages = [];

    internal int Count { get; private set; }

    internal T this[int index]
    {
        get => MemoryMarshal.Read<T>(pool.Read(pages[index >> Bits])[Offset(index)..]);
        set => MemoryMarshal.Write(pool.Write(pages[index >> Bits])[Offset(index)..], in value);
    }

    /// <returns>Its index.</returns>
    internal int Add(T value)
    {
        Resize(Count + 1);
        this[Count - 1] = value;
        return Count - 1;
    }

    /// <summary>Takes the last one away, of one or more.</summary>
    internal T Pop()
    {
        T last = this[Count - 1];
        Count--;
        return last;
    }

    /// <summary>Makes it longer; what is added is all zeros, unless there was something before.</summary>
    internal void Resize(int count)
    {
        while (pages.Count << Bits < count)
        {
            pages.Add(pool.Add());
        }

        Count = count;
    }

    internal void Clear()
    {
        pages.ForEach(pool.Free);
        pages.Clear();
        Count = 0;
    }

    private static int Offset(int index) => (index & ((1 << Bits) - 1)) * Unsafe.SizeOf<T>();
}
