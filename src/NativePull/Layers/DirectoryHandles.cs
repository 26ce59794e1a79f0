using Microsoft.Win32.SafeHandles;

namespace NativePull.Layers;

/// <summary>The handles of a layer's directories: a few are open at a time, any other is opened again from the nearest open one above it.</summary>
internal sealed class DirectoryHandles(RootDirectory root) : IDisposable
{
    // Entries come sorted by directory; more handles than this would only be held, not used.
    private const int MaximumOpen = 48;

    // Levels that are opened in one go.
    private const int LongWay = 16;

    private readonly Dictionary<int, OpenDirectory> open = [];
    private readonly Queue<OpenDirectory> order = new();

    /// <summary>Its handle, good until the cache's many others were used.</summary>
    internal SafeFileHandle Open(TouchedDirectory directory)
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

            from = Open(middle);
            above = middle;
        }

        Failure.ThrowIf(root.OpenBelow(from, directory.PathFrom(above), out SafeFileHandle? opened), "open", directory.Path);
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
    }

    public void Dispose() => Close();

    /// <summary>Takes a handle over. Others are closed for it by the second-chance algorithm: what was used since the last look stays.</summary>
    internal void Keep(TouchedDirectory directory, SafeFileHandle handle)
    {
        while (order.Count >= MaximumOpen)
        {
            OpenDirectory oldest = order.Dequeue();
            if (oldest.IsRecent)
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
