using System.Diagnostics.CodeAnalysis;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Layers;

/// <summary>
/// A directory that a layer speaks of or puts something into, and what remains to be done to it when the layer has ended. It knows its parent and
/// its own name rather than its path, so that a thousand nested directories cost a thousand names.
/// </summary>
internal sealed class TouchedDirectory(TouchedDirectory? parent, byte[] name, int number)
{
    /// <summary>Null: the root.</summary>
    internal TouchedDirectory? Parent { get; } = parent;

    /// <summary>Ends in NUL; "." for the root.</summary>
    internal byte[] Name { get; } = name;

    /// <summary>Tells it from every other of the layer, also from one of the same name that it replaced.</summary>
    internal int Number { get; } = number;

    /// <summary>Levels below the root.</summary>
    internal int Depth { get; } = parent is null ? 0 : parent.Depth + 1;

    /// <summary>Open while cached.</summary>
    internal SafeFileHandle? Handle { get; set; }

    /// <summary>Used since the cache last looked.</summary>
    internal bool IsRecent { get; set; }

    /// <summary>No entry of the layer describes it.</summary>
    internal bool IsImplied { get; set; }

    /// <summary>It or something below it is an entry of the layer; otherwise the layer only removes here.</summary>
    internal bool Holds { get; set; }

    /// <summary>No directory of a lower layer shows through: the layer removed it, or there was none.</summary>
    internal bool IsNew { get; set; }

    /// <summary>Hides all that lower layers have in it (overlay).</summary>
    internal bool IsOpaque { get; set; }

    /// <summary>Whiteouts of this layer are in it (overlay).</summary>
    internal bool HasWhiteouts { get; set; }

    /// <summary>Removed again.</summary>
    internal bool IsGone { get; set; }

    /// <summary>What its modification time shall be in the end.</summary>
    internal TarTime Modified { get; set; }

    /// <summary>What its mode shall be in the end, where it had to be another in the meantime.</summary>
    internal uint? FinalMode { get; set; }

    /// <summary>From the root, components joined by "/"; empty for the root.</summary>
    internal byte[] Path => PathFrom(null);

    /// <summary>From a directory above it; null is the root.</summary>
    internal byte[] PathFrom(TouchedDirectory? above)
    {
        int length = 0;
        for (TouchedDirectory at = this; at.Parent is not null && at != above; at = at.Parent)
        {
            length += at.Name.Length;
        }

        byte[] path = new byte[Math.Max(0, length - 1)];
        int end = path.Length;
        for (TouchedDirectory at = this; at.Parent is not null && at != above; at = at.Parent)
        {
            int start = end - (at.Name.Length - 1);
            at.Name.AsSpan(0, at.Name.Length - 1).CopyTo(path.AsSpan(start));
            end = start - 1;
            if (end > 0)
            {
                path[end] = (byte)'/';
            }
        }

        return path;
    }

    /// <summary>A name in it, as a path from the root.</summary>
    /// <param name="name">Ends in NUL.</param>
    internal byte[] PathOf(ReadOnlySpan<byte> name)
    {
        byte[] path = Path;
        return path.Length == 0 ? name[..^1].ToArray() : [.. path, (byte)'/', .. name[..^1]];
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
