using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// The directories of one layer in progress: finds or makes the parent of each entry, keeps a few handles open, and remembers which directories
/// were touched and which names this layer wrote, for removal speaks of lower layers only.
/// </summary>
internal sealed class LayerDirectories : IDisposable
{
    // Entries come sorted by directory; more handles than this would only be held, not used.
    private const int MaximumOpen = 64;

    private readonly Dictionary<DirectoryKey, TouchedDirectory> touched = [];
    private readonly Dictionary<string, TouchedDirectory> open = [];
    private readonly Queue<string> openOrder = [];
    private readonly HashSet<(int Directory, ulong Name)> written = [];
    private readonly HashSet<(int Directory, ulong Name)> whiteouts = [];
    private readonly ulong seed = (ulong)Random.Shared.NextInt64();
    private readonly RootDirectory root;
    private readonly LayerFormat format;
    private readonly WhiteoutStyle whiteoutStyle;
    private TouchedDirectory? last;
    private int numbers;

    internal LayerDirectories(RootDirectory root, ExtractOptions options)
    {
        this.root = root;
        format = options.Format;
        whiteoutStyle = options.Whiteouts;
        Metadata = new EntryMetadata(options, Report);
    }

    internal ExtractReport Report { get; } = new();

    internal EntryMetadata Metadata { get; }

    internal IEnumerable<TouchedDirectory> Touched => touched.Values;

    /// <summary>An entry's parent, made with what is missing above it. Its handle is good until the next call.</summary>
    internal TouchedDirectory Get(ReadOnlySpan<byte> path)
    {
        if (last is not null && path.SequenceEqual(last.Path))
        {
            return last;
        }

        string key = EntryPath.Key(path);
        if (!open.TryGetValue(key, out TouchedDirectory? found))
        {
            int errno = root.OpenDirectory(path, out SafeFileHandle? handle);
            found = errno is Errno.NoEntry or Errno.NotDirectory or Errno.TooManyLinks && path.Length > 0
                ? Make(path)
                : Existing(path, handle, errno);
        }

        last = found;
        return found;
    }

    /// <summary>The directory at a path if it is there; the caller disposes. Nothing is made or remembered.</summary>
    internal SafeFileHandle? TryOpen(ReadOnlySpan<byte> path) => root.OpenDirectory(path, out SafeFileHandle? handle) == 0 ? handle : null;

    /// <summary>Takes over an open directory as the one at a path.</summary>
    internal TouchedDirectory Adopt(ReadOnlySpan<byte> path, SafeFileHandle handle, bool fresh)
    {
        FileStatus status = Libc.Status(handle, TarText.Show(path));
        DirectoryKey identity = DirectoryKey.Of(status);
        string key = EntryPath.Key(path);
        if (fresh || !touched.TryGetValue(identity, out TouchedDirectory? directory))
        {
            directory = new TouchedDirectory(++numbers, path.ToArray())
            {
                IsImplied = format == LayerFormat.Overlay,
                // made by us: a time of its own; there before: the time it had
                Modified = fresh || format == LayerFormat.Overlay ? default : new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds),
            };
            touched[identity] = directory;
        }

        if (open.Remove(key, out TouchedDirectory? before))
        {
            Close(before);
        }

        if (directory.Handle is not null)
        {
            // reached by another name before
            open.Remove(EntryPath.Key(directory.Path));
            Close(directory);
        }

        directory.Path = path.ToArray();
        directory.Handle = handle;
        open[key] = directory;
        openOrder.Enqueue(key);
        Trim();
        return directory;
    }

    /// <summary>Removes whatever a name is, directories with all they hold.</summary>
    internal void Remove(TouchedDirectory parent, byte[] name, ReadOnlySpan<byte> path)
    {
        int errno = Libc.Unlink(parent.Handle!, name);
        if (errno is Errno.IsDirectory or Errno.PermissionDenied)
        {
            DirectoryTree.Remove(parent.Handle!, name);
            CloseAllBut(parent);
        }
        else if (errno != Errno.NoEntry)
        {
            Failure.ThrowIf(errno, "unlink", path);
        }
    }

    /// <summary>Whether this layer has put something into, or spoken of, the directory.</summary>
    internal TouchedDirectory? Find(FileStatus status) => status.IsDirectory ? touched.GetValueOrDefault(DirectoryKey.Of(status)) : null;

    internal void MarkWritten(TouchedDirectory parent, ReadOnlySpan<byte> name) => written.Add(Mark(parent, name));

    internal bool IsWritten(TouchedDirectory parent, ReadOnlySpan<byte> name) => written.Contains(Mark(parent, name));

    internal void MarkWhiteout(TouchedDirectory parent, ReadOnlySpan<byte> name) => whiteouts.Add(Mark(parent, name));

    internal bool IsWhiteout(TouchedDirectory parent, ReadOnlySpan<byte> name) => whiteouts.Contains(Mark(parent, name));

    public void Dispose()
    {
        foreach (TouchedDirectory directory in open.Values)
        {
            Close(directory);
        }

        open.Clear();
    }

    private TouchedDirectory Existing(ReadOnlySpan<byte> path, SafeFileHandle? handle, int errno)
    {
        Failure.ThrowIf(errno, "open", path);
        if (path.Length > 0)
        {
            // those above are touched too: an opaque marker there must not remove what this layer puts here
            int slash = path.LastIndexOf((byte)'/');
            _ = Get(slash < 0 ? default : path[..slash]);
        }

        return Adopt(path, handle!, fresh: false);
    }

    private TouchedDirectory Make(ReadOnlySpan<byte> path)
    {
        int slash = path.LastIndexOf((byte)'/');
        TouchedDirectory parent = Get(slash < 0 ? default : path[..slash]);
        byte[] name = EntryPath.Terminated(path[(slash + 1)..]);
        TouchedDirectory made = MakeIn(parent, name, path, out bool hidesLower);
        Metadata.Default(made.Handle!, path);
        if (hidesLower)
        {
            MakeOpaque(made, path);
        }

        return made;
    }

    /// <summary>Makes the directory, in place of anything that is no directory; gives back one that is there.</summary>
    /// <param name="hidesLower">A whiteout of this layer stood there: the directory must be opaque.</param>
    internal TouchedDirectory MakeIn(TouchedDirectory parent, byte[] name, ReadOnlySpan<byte> path, out bool hidesLower)
    {
        hidesLower = false;
        int errno = Libc.MakeDirectory(parent.Handle!, name, 0x1C0);
        bool fresh = errno == 0;
        if (errno == Errno.Exists)
        {
            if (OpenChild(parent, name, out SafeFileHandle? there) == 0)
            {
                return Adopt(path, there!, fresh: false);
            }

            hidesLower = format == LayerFormat.Overlay && IsWhiteout(parent, name);
            Remove(parent, name, path);
            errno = Libc.MakeDirectory(parent.Handle!, name, 0x1C0);
            fresh = true;
        }

        Failure.ThrowIf(errno, "mkdir", path);
        Failure.ThrowIf(OpenChild(parent, name, out SafeFileHandle? made), "open", path);
        return Adopt(path, made!, fresh);
    }

    /// <summary>Hides all below the directory, and drops whiteouts in it, which then mean nothing.</summary>
    internal void MakeOpaque(TouchedDirectory directory, ReadOnlySpan<byte> path)
    {
        foreach (byte[] name in Libc.Names(directory.Handle!, TarText.Show(path)))
        {
            if (Libc.TryStatusAt(directory.Handle!, name, out FileStatus status) == 0 && OverlayMarks.IsWhiteout(directory.Handle!, name, status, whiteoutStyle))
            {
                Failure.ThrowIf(Libc.Unlink(directory.Handle!, name), "unlink", path);
            }
        }

        int errno = OverlayMarks.MakeOpaque(directory.Handle!, whiteoutStyle);
        if (Failure.IsRefusal(errno))
        {
            throw Failure.CannotHold(
                whiteoutStyle == WhiteoutStyle.Overlay ? "trusted.* attributes (--whiteouts overlay-user needs none)" : "user.* attributes", "setxattr", path, errno);
        }

        Failure.ThrowIf(errno, "setxattr", path);
        directory.IsOpaque = true;
    }

    private static int OpenChild(TouchedDirectory parent, byte[] name, out SafeFileHandle? opened) =>
        Libc.OpenAt(parent.Handle!, name, OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow, 0, out opened);

    private void Trim()
    {
        while (open.Count > MaximumOpen && openOrder.TryDequeue(out string? oldest))
        {
            if (open.TryGetValue(oldest, out TouchedDirectory? directory) && directory != last)
            {
                open.Remove(oldest);
                Close(directory);
            }
        }
    }

    // After a tree went, any handle may lead into what is no longer there.
    private void CloseAllBut(TouchedDirectory kept)
    {
        foreach (string key in open.Where(pair => pair.Value != kept).Select(pair => pair.Key).ToArray())
        {
            open.Remove(key, out TouchedDirectory? directory);
            Close(directory!);
        }

        last = null;
    }

    private static void Close(TouchedDirectory directory)
    {
        directory.Handle?.Dispose();
        directory.Handle = null;
    }

    // 64 bits of a seeded hash instead of the name: a layer of a million names costs megabytes, not hundreds of them.
    private (int Directory, ulong Name) Mark(TouchedDirectory parent, ReadOnlySpan<byte> name)
    {
        ulong hash = seed;
        foreach (byte b in name.TrimEnd((byte)0))
        {
            // FNV-1a
            hash = (hash ^ b) * 1099511628211;
        }

        return (parent.Number, hash);
    }
}
