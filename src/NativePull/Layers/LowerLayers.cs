using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>A name of the layers below: by its directory's handle. Good until the next is looked for.</summary>
internal sealed class LowerFile(LowerHandle parent, byte[] name, FileStatus status, bool owned) : IDisposable
{
    internal SafeFileHandle Parent => parent.Handle;

    /// <summary>Ends in NUL; "." for the root.</summary>
    internal byte[] Name { get; } = name;

    internal FileStatus Status { get; } = status;

    public void Dispose()
    {
        if (owned)
        {
            parent.Dispose();
        }
    }
}

/// <summary>
/// What overlayfs would show of the layers below: the topmost that has a name wins, whiteouts and opaque directories hide the rest. Links are not followed.
/// <para>
/// A name is asked of those layers alone that show in its directory, as overlayfs does it; which these are is kept from one name to the next, for what is
/// asked comes directory by directory.
/// </para>
/// </summary>
/// <param name="topFirst">Extracted layers, each as its own root, all in one style.</param>
/// <param name="takeLookups">Told how many names are about to be looked up in one layer.</param>
internal sealed class LowerLayers(IReadOnlyList<RootDirectory> topFirst, WhiteoutStyle style, Action<int> takeLookups) : IDisposable
{
    // How many of the layers' directories stay open for the next name: most images have fewer layers, and a process often no more than 1,024 descriptors.
    private static readonly int MaximumOpen = (int)Math.Clamp(Libc.MaximumDescriptors() / 8, 8, 128);

    // Levels that the kernel walks in about the time of a lookup.
    private const int LevelsPerLookup = 32;

    // the directory that was asked for last, and of each layer the deepest level on the way to it that the layer shows in; 0 is the root, where all do
    private byte[] way = [];
    private readonly int[] reach = new int[topFirst.Count];

    // that directory, of some layers
    private readonly LowerHandle?[] open = new LowerHandle?[topFirst.Count];
    private int openCount;

    /// <summary>The name at a path as the lower layers together have it; null where it is absent or hidden.</summary>
    internal LowerFile? Find(byte[] path)
    {
        EntryPath parts = EntryPath.Of(path);
        byte[] parent = parts.Parent.ToArray();
        byte[] name = EntryPath.Terminated(parts.Base);
        int level = Go(parent);
        for (int layer = 0; layer < reach.Length; layer++)
        {
            if (reach[layer] >= level && Look(layer, parent, level, name, out bool hides) is var found && (found is not null || hides))
            {
                return found;
            }
        }

        return null;
    }

    /// <summary>Every name that is to be seen in the root, each ending in NUL.</summary>
    /// <param name="isNew">Asked once for each name of each layer, top first: whether it is the first time.</param>
    internal IEnumerable<byte[]> NamesInRoot(Predicate<byte[]> isNew)
    {
        foreach (RootDirectory layer in topFirst)
        {
            Libc.Rewind(layer.Handle, layer.Path);
            while (Libc.NextNames(layer.Handle, layer.Path) is { Count: > 0 } names)
            {
                foreach ((byte[] name, _) in names)
                {
                    takeLookups(1);
                    if (!isNew(name))
                    {
                        continue;
                    }

                    // what may not be looked at is there
                    int errno = Libc.TryStatusAt(layer.Handle, name, out FileStatus status);
                    if (errno == 0 ? !OverlayMarks.IsWhiteout(layer.Handle, name, status, style) : errno != Errno.NoEntry)
                    {
                        yield return name;
                    }
                }
            }
        }
    }

    public void Dispose()
    {
        for (int layer = 0; layer < open.Length && openCount > 0; layer++)
        {
            openCount -= open[layer] is null ? 0 : 1;
            open[layer]?.Dispose();
            open[layer] = null;
        }
    }

    private static int LevelsOf(ReadOnlySpan<byte> directory) => directory.Length == 0 ? 0 : directory.Count((byte)'/') + 1;

    // The bytes of two paths up to where their components part.
    private static int CommonLength(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b)
    {
        int same = a.CommonPrefixLength(b);
        return (same == a.Length || a[same] == '/') && (same == b.Length || b[same] == '/') ? same : Math.Max(0, a[..same].LastIndexOf((byte)'/'));
    }

    // Finds out which layers show in a directory; gives back its level.
    private int Go(byte[] directory)
    {
        if (directory.AsSpan().SequenceEqual(way))
        {
            return LevelsOf(directory);
        }

        Dispose();
        byte[] common = directory[..CommonLength(way, directory)];
        int level = LevelsOf(common);
        int last = LevelsOf(directory);
        // until all is known again
        way = common;
        for (int layer = 0; layer < reach.Length; layer++)
        {
            reach[layer] = Math.Min(reach[layer], level);
        }

        byte[] rest = directory.AsSpan(common.Length).TrimStart((byte)'/').ToArray();
        // of those further below, for what is above hides them
        int deepest = last;
        for (int layer = 0; layer < reach.Length && deepest > level; layer++)
        {
            if (reach[layer] == level)
            {
                reach[layer] = Descend(layer, common, rest, level, ref deepest);
            }
        }

        way = directory;
        return last;
    }

    // The deepest level that a layer shows in, no deeper than asked for; deepest becomes that of the layers below it.
    private int Descend(int layer, byte[] from, byte[] path, int level, ref int deepest)
    {
        int limit = deepest;
        LowerHandle at = Open(layer, from, level);
        try
        {
            foreach (Range range in path.AsSpan().Split((byte)'/'))
            {
                if (level == limit)
                {
                    break;
                }

                byte[] name = [.. path[range], 0];
                if (!Look(at, name, out FileStatus status))
                {
                    break;
                }

                if (OverlayMarks.IsWhiteout(at.Handle, name, status, style) || !status.IsDirectory)
                {
                    deepest = Math.Min(deepest, level);
                    break;
                }

                Failure.ThrowIf(LowerHandle.Open(at.Handle, name, OpenFlags.Directory, out LowerHandle? below), "open", path);
                at.Dispose();
                at = below!;
                if (OverlayMarks.IsOpaque(at.Handle, style))
                {
                    deepest = Math.Min(deepest, level);
                }

                level++;
            }
        }
        finally
        {
            at.Dispose();
        }

        return level;
    }

    // One layer's name in a directory that it shows in; or whether it hides what those below have there.
    private LowerFile? Look(int layer, byte[] parent, int level, byte[] name, out bool hides)
    {
        LowerHandle at = open[layer] ?? Open(layer, parent, level);
        bool isKept = open[layer] is not null;
        LowerFile? found = null;
        try
        {
            bool isThere = Look(at, name, out FileStatus status);
            hides = isThere && OverlayMarks.IsWhiteout(at.Handle, name, status, style);
            isKept |= Keep(layer, at);
            found = isThere && !hides ? new LowerFile(at, name, status, owned: !isKept) : null;
        }
        finally
        {
            if (!isKept && found is null)
            {
                at.Dispose();
            }
        }

        return found;
    }

    // Not one that has been lent its owner's rights, which are to go back soon.
    private bool Keep(int layer, LowerHandle handle)
    {
        if (open[layer] is not null || openCount == MaximumOpen || handle.IsLent)
        {
            return false;
        }

        open[layer] = handle;
        openCount++;
        return true;
    }

    private bool Look(LowerHandle at, byte[] name, out FileStatus status)
    {
        takeLookups(1);
        int errno = at.TryStatusAt(name, out status);
        if (errno != Errno.NoEntry)
        {
            Failure.ThrowIf(errno, "stat", name.AsSpan(0, name.Length - 1));
        }

        return errno == 0;
    }

    // A directory that the layer shows in.
    private LowerHandle Open(int layer, byte[] directory, int level)
    {
        takeLookups(level / LevelsPerLookup);
        RootDirectory root = topFirst[layer];
        if (directory.Length > 0)
        {
            int errno = root.OpenBelow(root.Handle, directory, out SafeFileHandle? opened);
            if (errno != Errno.AccessDenied)
            {
                Failure.ThrowIf(errno, "open", directory);
                return new LowerHandle(opened!);
            }
        }

        Failure.ThrowIf(LowerHandle.Open(root.Handle, ".\0"u8.ToArray(), OpenFlags.Directory, out LowerHandle? top), "open", root.Path);
        LowerHandle at = top!;
        if (directory.Length == 0)
        {
            return at;
        }

        // a directory that its own user may not enter lends the way, level by level
        foreach (Range range in directory.AsSpan().Split((byte)'/'))
        {
            byte[] name = [.. directory[range], 0];
            LowerHandle? below = null;
            int errno = at.TryStatusAt(name, out _);
            errno = errno == 0 ? LowerHandle.Open(at.Handle, name, OpenFlags.Directory, out below) : errno;
            at.Dispose();
            Failure.ThrowIf(errno, "open", directory);
            at = below!;
        }

        return at;
    }
}
