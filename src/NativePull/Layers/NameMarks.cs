namespace NativePull.Layers;

/// <summary>
/// Names that a layer wrote, for what it removes is of lower layers only. 64 bits of a seeded hash instead of the name, in one array: a layer of a
/// million names costs some megabytes, and a false hit is one in 2^43 of them.
/// </summary>
internal sealed class NameMarks
{
    private readonly ulong seed = (ulong)Random.Shared.NextInt64();
    // open addressing; 0 is free
    private ulong[] slots = new ulong[256];
    private int count;

    /// <param name="name">Ends in NUL.</param>
    internal void Add(TouchedDirectory directory, ReadOnlySpan<byte> name)
    {
        if (count >= slots.Length / 4 * 3)
        {
            ulong[] before = slots;
            slots = new ulong[before.Length * 2];
            foreach (ulong mark in before)
            {
                if (mark != 0)
                {
                    slots[SlotOf(mark)] = mark;
                }
            }
        }

        ulong added = Mark(directory, name);
        int slot = SlotOf(added);
        count += slots[slot] == 0 ? 1 : 0;
        slots[slot] = added;
    }

    /// <param name="name">Ends in NUL.</param>
    internal bool Contains(TouchedDirectory directory, ReadOnlySpan<byte> name) => slots[SlotOf(Mark(directory, name))] != 0;

    private int SlotOf(ulong mark)
    {
        int slot = (int)(mark >> 32) & (slots.Length - 1);
        while (slots[slot] != 0 && slots[slot] != mark)
        {
            slot = (slot + 1) & (slots.Length - 1);
        }

        return slot;
    }

    private ulong Mark(TouchedDirectory directory, ReadOnlySpan<byte> name)
    {
        ulong hash = seed ^ ((ulong)directory.Number * 0x9E3779B97F4A7C15);
        foreach (byte b in name)
        {
            // FNV-1a
            hash = (hash ^ b) * 1099511628211;
        }

        // its high bits are the weak ones
        hash ^= hash >> 29;
        hash *= 0xBF58476D1CE4E5B9;
        return (hash ^ (hash >> 32)) | 1;
    }
}
