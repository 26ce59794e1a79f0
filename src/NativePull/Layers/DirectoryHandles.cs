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

    private readonly Queue<TouchedDirectory> open = new();

    // The last that were asked for: their handles may still be in use, a hard link's two at a time.
    private readonly TouchedDirectory?[] lent = new TouchedDirectory?[4];
    private int lends;

    /// <summary>Its handle, good until four others were asked for.</summary>
    internal SafeFileHandle Open(TouchedDirectory directory)
    {
        lent[lends++ & (lent.Length - 1)] = directory;
        return Reach(directory);
    }

    private SafeFileHandle Reach(TouchedDirectory directory)
    {
        directory.IsRecent = true;
        if (directory.Handle is { } handle)
        {
            return handle;
        }

        TouchedDirectory above = directory.Parent!;
        while (above.Handle is null)
        {
            above = above.Parent!;
        }

        if (directory.Depth - above.Depth > LongWay)
        {
            // in halves: the next one will be near this one, and has not as far to go
            TouchedDirectory middle = directory;
            while (middle.Depth > (directory.Depth + above.Depth) / 2)
            {
                middle = middle.Parent!;
            }

            _ = Reach(middle);
            above = middle;
        }

        Failure.ThrowIf(root.OpenBelow(above.Handle!, directory.PathFrom(above), out SafeFileHandle? opened), "open", directory.Path);
        Keep(directory, opened!);
        return opened!;
    }

    /// <summary>Gives up every handle but the root's; what is needed again is opened again.</summary>
    internal void Close()
    {
        while (open.TryDequeue(out TouchedDirectory? directory))
        {
            directory.Handle?.Dispose();
            directory.Handle = null;
        }

        Array.Clear(lent);
    }

    public void Dispose() => Close();

    /// <summary>Takes a handle over. Others are closed for it by the second-chance algorithm: what was used since the last look stays, and what is lent.</summary>
    internal void Keep(TouchedDirectory directory, SafeFileHandle handle)
    {
        while (open.Count >= MaximumOpen)
        {
            TouchedDirectory oldest = open.Dequeue();
            if (oldest.IsRecent || Array.IndexOf(lent, oldest) >= 0)
            {
                oldest.IsRecent = false;
                open.Enqueue(oldest);
                continue;
            }

            oldest.Handle?.Dispose();
            oldest.Handle = null;
        }

        directory.Handle = handle;
        directory.IsRecent = true;
        open.Enqueue(directory);
    }
}
