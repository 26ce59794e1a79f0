using System.Diagnostics.CodeAnalysis;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// A directory that a layer speaks of or puts something into, and what remains to be done to it when the layer has ended: a number in a
/// <see cref="DirectoryTable"/>, which keeps all of it, so that a million directories take no memory.
/// </summary>
internal sealed record TouchedDirectory(DirectoryTable Table, int Number)
{
    private const int ShownLevels = 16;

    /// <summary>Null: the root.</summary>
    internal TouchedDirectory? Parent => Number == NameTable.Root ? null : new TouchedDirectory(Table, Table.Names.Parent(Number));

    /// <summary>Ends in NUL; "." for the root.</summary>
    internal byte[] Name => EntryPath.Terminated(Number == NameTable.Root ? default : Table.Names.Text(Number));

    /// <summary>Levels below the root.</summary>
    internal int Depth => Table[Number].Depth;

    /// <summary>No entry of the layer describes it.</summary>
    internal bool IsImplied { get => Has(DirectoryFlags.Implied); set => Set(DirectoryFlags.Implied, value); }

    /// <summary>It or something below it is an entry of the layer; otherwise the layer only removes here.</summary>
    internal bool Holds { get => Has(DirectoryFlags.Holds); set => Set(DirectoryFlags.Holds, value); }

    /// <summary>No directory of a lower layer shows through: the layer removed it, or there was none.</summary>
    internal bool IsNew { get => Has(DirectoryFlags.New); set => Set(DirectoryFlags.New, value); }

    /// <summary>Hides all that lower layers have in it; flat, that has been removed.</summary>
    internal bool IsOpaque { get => Has(DirectoryFlags.Opaque); set => Set(DirectoryFlags.Opaque, value); }

    /// <summary>Whether lower layers' content of it is hidden by this layer, here or above.</summary>
    internal bool HidesLower
    {
        get
        {
            TouchedDirectory? at = this;
            while (at is { IsOpaque: false })
            {
                at = at.Parent;
            }

            return at is not null;
        }
    }

    /// <summary>Whiteouts of this layer are in it (overlay).</summary>
    internal bool HasWhiteouts { get => Has(DirectoryFlags.Whiteouts); set => Set(DirectoryFlags.Whiteouts, value); }

    /// <summary>Removed again.</summary>
    internal bool IsGone { get => Has(DirectoryFlags.Gone); set => Set(DirectoryFlags.Gone, value); }

    /// <summary>What its modification time shall be in the end.</summary>
    internal TarTime Modified
    {
        get => new(Table[Number].Seconds, Table[Number].Nanoseconds);
        set => Table[Number] = Table[Number] with { Seconds = value.Seconds, Nanoseconds = value.Nanoseconds };
    }

    /// <summary>What its mode shall be in the end, where it had to be another in the meantime.</summary>
    internal uint? FinalMode
    {
        get => Has(DirectoryFlags.FinalMode) ? Table[Number].FinalMode : null;
        set
        {
            Table[Number] = Table[Number] with { FinalMode = value ?? 0 };
            Set(DirectoryFlags.FinalMode, value is not null);
        }
    }

    /// <summary>
    /// What it gives to all that is made in it (acl(5), "default ACL"), if anything: taken from it until it is finished, for the image says itself what each of
    /// its files has.
    /// </summary>
    internal byte[]? DefaultAcl
    {
        get => Table[Number].Acl is not 0 and var at ? Table.Acls.GetWithLength(at - 1).ToArray() : null;
        set => Table[Number] = Table[Number] with { Acl = value is null ? 0 : Table.Acls.AddWithLength(value) + 1 };
    }

    /// <summary>Takes its <see cref="DefaultAcl"/> from it, if it has one, to be given back in the end.</summary>
    internal void TakeDefaultAcl(SafeFileHandle handle)
    {
        if (Libc.GetXattr(handle, EntryMetadata.DefaultAcl) is { } acl)
        {
            Failure.ThrowIf(Libc.RemoveXattr(handle, EntryMetadata.DefaultAcl), "removexattr", Shown);
            DefaultAcl = acl;
        }
    }

    /// <summary>From the root, components joined by "/"; empty for the root.</summary>
    internal byte[] Path => Table.Names.PathOf(Number);

    /// <summary>From a directory above it.</summary>
    internal byte[] PathFrom(TouchedDirectory above) => Table.Names.PathOf(Number, above.Number);

    /// <summary>A name in it, as a path from the root.</summary>
    /// <param name="name">Ends in NUL.</param>
    internal byte[] PathOf(ReadOnlySpan<byte> name)
    {
        byte[] path = Path;
        return path.Length == 0 ? name[..^1].ToArray() : [.. path, (byte)'/', .. name[..^1]];
    }

    /// <summary>
    /// For messages, which are made ready for every directory: of a deep one the last levels alone, so that a name of four thousand levels does not cost each of
    /// them its whole path.
    /// </summary>
    internal byte[] Shown
    {
        get
        {
            TouchedDirectory top = this;
            for (int level = 0; level < ShownLevels && top.Parent is { } above; level++)
            {
                top = above;
            }

            byte[] path = PathFrom(top);
            return top.Number == NameTable.Root ? path : [.. "…/"u8, .. path];
        }
    }

    /// <inheritdoc cref="Shown"/>
    /// <param name="name">Ends in NUL.</param>
    internal byte[] ShownOf(ReadOnlySpan<byte> name) => Number == NameTable.Root ? name[..^1].ToArray() : [.. Shown, (byte)'/', .. name[..^1]];

    private bool Has(DirectoryFlags flag) => (Table[Number].Flags & flag) != 0;

    private void Set(DirectoryFlags flag, bool value)
    {
        DirectoryState state = Table[Number];
        DirectoryFlags flags = value ? state.Flags | flag : state.Flags & ~flag;
        if (flags != state.Flags)
        {
            Table[Number] = state with { Flags = flags };
        }
    }
}

/// <summary>Byte strings by what is in them.</summary>
internal sealed class BytesComparer : IEqualityComparer<byte[]>
{
    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode([DisallowNull] byte[] obj)
    {
        HashCode hash = default;
        hash.AddBytes(obj);
        return hash.ToHashCode();
    }
}

/// <summary>One name in one directory.</summary>
internal readonly record struct NameKey(TouchedDirectory Directory, byte[] Name);

/// <summary>Names by their bytes.</summary>
internal sealed class NameKeyComparer : IEqualityComparer<NameKey>
{
    public bool Equals(NameKey x, NameKey y) => x.Directory == y.Directory && x.Name.AsSpan().SequenceEqual(y.Name);

    public int GetHashCode([DisallowNull] NameKey obj)
    {
        HashCode hash = default;
        hash.Add(obj.Directory.Number);
        hash.AddBytes(obj.Name);
        return hash.ToHashCode();
    }
}
