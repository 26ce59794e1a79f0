namespace NativePull.Layers;

[Flags]
internal enum DirectoryFlags
{
    Implied = 1,
    Holds = 2,
    New = 4,
    Opaque = 8,
    Whiteouts = 16,
    Gone = 32,
    FinalMode = 64,
}

/// <summary>What a <see cref="TouchedDirectory"/> is made of beside its name: 32 bytes.</summary>
/// <param name="Acl">Where its default ACL is, and 1; 0: it has none.</param>
internal record struct DirectoryState(long Seconds, int Nanoseconds, int Depth, uint FinalMode, DirectoryFlags Flags, int Acl);

/// <summary>The directories that one layer touched, in the order in which they first were, so that each comes after its parent.</summary>
internal sealed class DirectoryTable
{
    private readonly SpilledList<DirectoryState> states;

    internal DirectoryTable(SpillPool pool)
    {
        Names = new NameTable(pool);
        Acls = new SpilledBytes(pool);
        states = new SpilledList<DirectoryState>(pool);
        states.Add(default);
    }

    internal NameTable Names { get; }

    internal SpilledBytes Acls { get; }

    internal int Count => states.Count;

    internal DirectoryState this[int number] { get => states[number]; set => states[number] = value; }

    internal TouchedDirectory At(int number) => new(this, number);

    /// <param name="name">Ends in NUL.</param>
    internal TouchedDirectory? Find(TouchedDirectory parent, ReadOnlySpan<byte> name) =>
        Names.Find(parent.Number, name[..^1]) is var number && number == NameTable.None ? null : At(number);

    /// <param name="name">Ends in NUL.</param>
    internal TouchedDirectory Add(TouchedDirectory parent, ReadOnlySpan<byte> name)
    {
        states.Add(default(DirectoryState) with { Depth = parent.Depth + 1 });
        return At(Names.Add(parent.Number, name[..^1]));
    }

    internal void Remove(TouchedDirectory directory) => Names.Remove(directory.Number);
}
