namespace NativePull.Layers;

/// <summary>
/// Names that a layer wrote, for what it removes is of lower layers only. 64 bits of a seeded hash instead of the name, in the pages of a pool; a false
/// hit is one in 2^43 of a million names.
/// </summary>
internal sealed class NameMarks(SpillPool pool)
{
    // one page
    private const int FirstSlots = SpillPool.PageSize / sizeof(ulong);

    private readonly ulong seed = (ulong)Random.Shared.NextInt64();
    // open addressing; 0 is free; a power of two of them, or none yet
    private SpilledList<ulong> slots = new(pool);
    private int count;

    /// <param name="name">Ends in NUL.</param>
    /// <returns>Whether it was not there yet.</returns>
    internal bool Add(TouchedDirectory directory, ReadOnlySpan<byte> name)
    {
        if (count >= slots.Count / 4 * 3)
        {
            Grow();
        }

        ulong added = Mark(directory, name);
        int slot = SlotOf(added);
        if (slots[slot] != 0)
        {
            return false;
        }

        slots[slot] = added;
        count++;
        return true;
    }

    /// <param name="name">Ends in NUL.</param>
    internal bool Contains(TouchedDirectory directory, ReadOnlySpan<byte> name) => count > 0 && slots[SlotOf(Mark(directory, name))] != 0;

    private void Grow()
    {
        SpilledList<ulong> before = slots;
        slots = new SpilledList<ulong>(pool);
        slots.Resize(Math.Max(FirstSlots, before.Count * 2));
        for (int i = 0; i < before.Count; i++)
        {
            if (before[i] is not 0 and var mark)
            {
                slots[SlotOf(mark)] = mark;
            }
        }

        before.Clear();
    }

    private int SlotOf(ulong mark)
    {
        int slot = (int)(mark >> 32) & (slots.Count - 1);
        while (slots[slot] is not 0 and var there && there != mark)
        {
            slot = (slot + 1) & (slots.Count - 1);
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
