using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>The handles of a layer's directories: a few are open at a time, any other is opened again from the nearest open one above it.</summary>
internal sealed class DirectoryHandles(RootDirectory root) : IDisposable
{
    // Entries come sorted by directory; more handles than this would only be held, not used. Where a process may have few, half of them are shared by
    // the layers that are applied at once, one a processor.
    private static readonly int MaximumOpen = (int)Math.Clamp((Libc.MaximumDescriptors() / 2 / Environment.ProcessorCount) - 8, 8, 48);

    // Levels that are opened in one go.
    private const int LongWay = 16;

    private readonly Dictionary<int, OpenDirectory> open = [];
    private readonly Queue<OpenDirectory> order = new();

    // The last that were asked for, by number: their handles may still be in use, a hard link's two at a time.
    private readonly int[] lent = [NameTable.None, NameTable.None, NameTable.None, NameTable.None];
    private int lends;

    /// <summary>Its handle, good until four others were asked for.</summary>
    internal SafeFileHandle Open(TouchedDirectory directory)
    {
        lent[lends++ & (lent.Length - 1)] = directory.Number;
        return Reach(directory);
    }

    private SafeFileHandle Reach(TouchedDirectory directory)
    {
        if (Find(directory) is { } handle)
        {
            return handle;
        }

        TouchedDirectory above = directory.Parent!;
        SafeFileHandle? from;
        while ((from = Find(above)) is null)
        {
            above = above.Parent!;
        }

        if (directory.Depth - above.Depth > LongWay)
        {
            // in halves: the next one will be near this one, and has not as far to go
            TouchedDirectory middle = directory;
            for (int depth = (directory.Depth + above.Depth) / 2; middle.Depth > depth;)
            {
                middle = middle.Parent!;
            }

            from = Reach(middle);
            above = middle;
        }

        Failure.ThrowIf(root.OpenBelow(from, directory.PathFrom(above), out SafeFileHandle? opened), "open", directory.Shown);
        Keep(directory, opened!);
        return opened!;
    }

    /// <summary>Gives up every handle but the root's; what is needed again is opened again.</summary>
    internal void Close()
    {
        foreach (OpenDirectory directory in order)
        {
            directory.Handle.Dispose();
        }

        order.Clear();
        open.Clear();
        Array.Fill(lent, NameTable.None);
    }

    public void Dispose() => Close();

    /// <summary>Takes a handle over. Others are closed for it by the second-chance algorithm: what was used since the last look stays, and what is lent.</summary>
    internal void Keep(TouchedDirectory directory, SafeFileHandle handle)
    {
        while (order.Count >= MaximumOpen)
        {
            OpenDirectory oldest = order.Dequeue();
            if (oldest.IsRecent || Array.IndexOf(lent, oldest.Number) >= 0)
            {
                oldest.IsRecent = false;
                order.Enqueue(oldest);
                continue;
            }

            oldest.Handle.Dispose();
            open.Remove(oldest.Number);
        }

        OpenDirectory kept = new(directory.Number, handle);
        open.Add(kept.Number, kept);
        order.Enqueue(kept);
    }

    private SafeFileHandle? Find(TouchedDirectory directory)
    {
        if (directory.Number == NameTable.Root)
        {
            return root.Handle;
        }

        if (!open.TryGetValue(directory.Number, out OpenDirectory? there))
        {
            return null;
        }

        there.IsRecent = true;
        return there.Handle;
    }

    private sealed class OpenDirectory(int number, SafeFileHandle handle)
    {
        internal int Number { get; } = number;

        internal SafeFileHandle Handle { get; } = handle;

        /// <summary>Used since the cache last looked.</summary>
        internal bool IsRecent { get; set; } = true;
    }
}
