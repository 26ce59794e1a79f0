using Microsoft.Win32.SafeHandles;

namespace NativePull.Layers;

/// <summary>The handles of a layer's directories: a few are open at a time, any other is opened again from the nearest open one above it.</summary>
internal sealed class DirectoryHandles(RootDirectory root) : IDisposable
{
    // Entries come sorted by directory; more handles than this would only be held, not used.
    private const int MaximumOpen = 48;

    // Levels that are opened in one go.
    private const int LongWay = 16;

    private readonly Queue<TouchedDirectory> open = new();

    /// <summary>Its handle, good until the cache's many others were used.</summary>
    internal SafeFileHandle Open(TouchedDirectory directory)
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

            _ = Open(middle);
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
    }

    public void Dispose() => Close();

    /// <summary>Takes a handle over. Others are closed for it by the second-chance algorithm: what was used since the last look stays.</summary>
    internal void Keep(TouchedDirectory directory, SafeFileHandle handle)
    {
        while (open.Count >= MaximumOpen)
        {
            TouchedDirectory oldest = open.Dequeue();
            if (oldest.IsRecent)
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
