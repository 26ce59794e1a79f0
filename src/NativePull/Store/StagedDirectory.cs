using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// A directory being made beside the place where it will appear, under a lock on itself; published by one rename, or exchanged with what is there,
/// which is then removed by <see cref="RemoveOld"/>. What a killed process left is removed by the next to come; disposing unpublished removes the tree.
/// </summary>
internal sealed class StagedDirectory : IDisposable
{
    private readonly string destination;
    private readonly bool sync;
    private readonly bool replace;
    private SafeFileHandle? held;
    private bool flushed;
    private bool exchanged;

    private StagedDirectory(string path, string destination, bool sync, bool replace, SafeFileHandle held)
    {
        Path = path;
        this.destination = destination;
        this.sync = sync;
        this.replace = replace;
        this.held = held;
        Identity = Libc.IdentityOf(held, path).Lasting;
    }

    /// <summary>Where the tree is made.</summary>
    internal string Path { get; }

    /// <summary>Which directory it is, before and after it is published, and after a reboot.</summary>
    internal string Identity { get; }

    /// <summary>Refuses a destination that cannot be published to, before any work is done for it.</summary>
    /// <param name="replace">Whether what is there may be exchanged for the new tree.</param>
    /// <exception cref="PullException">Machine: it is not a directory, a mount point, not empty, or something is mounted in it.</exception>
    internal static void Check(string destination, bool replace)
    {
        destination = System.IO.Path.TrimEndingDirectorySeparator(destination);
        if (new FileInfo(destination).LinkTarget is { } target)
        {
            throw new PullException(PullError.Machine, $"{destination} is a symbolic link to {target}, which no rename can follow; name the directory itself");
        }

        switch (Libc.TypeOf(destination))
        {
            case 0:
                return;
            case FileType.Directory:
                break;
            default:
                throw new PullException(PullError.Machine, $"{destination} is there and is not a directory");
        }

        if (!replace && Directory.EnumerateFileSystemEntries(destination).Any())
        {
            throw new PullException(PullError.Machine, $"{destination} is not empty (--replace puts the new tree in its place)");
        }

        if (Libc.IsMountPoint(destination))
        {
            throw new PullException(PullError.Machine, Destination.MountPoint(destination));
        }

        // a bind mount of the same file system has its parent's device number
        Destination.CheckMounts(destination);
    }

    /// <summary>
    /// Begins, after waiting for a live process that is making the same directory; null: what is wanted is there, now or after that wait, and nothing
    /// that a killed process left is beside it.
    /// </summary>
    /// <exception cref="PullException">As <see cref="Check"/>.</exception>
    internal static async Task<StagedDirectory?> BeginAsync(
        string destination, StoreOptions options, Func<bool> isThere, CancellationToken token, bool replace = false)
    {
        // how far the other process is cannot be seen from here, so the wait is for as long as its lock lives
        LockWait wait = new(options with { LockTimeout = TimeSpan.MaxValue }, destination, () => 0);
        while (!isThere())
        {
            StagedDirectory? staged;
            try
            {
                staged = TryBegin(destination, options.Sync, replace);
            }
            catch (PullException) when (isThere())
            {
                // published between the two looks
                break;
            }

            if (staged is null)
            {
                await wait.OnceMoreAsync(token);
            }
            else if (isThere())
            {
                staged.Dispose();
            }
            else
            {
                return staged;
            }
        }

        Sweep(destination);
        return null;
    }

    /// <summary>Null: another live process is making the same directory.</summary>
    /// <exception cref="PullException">As <see cref="Check"/>.</exception>
    internal static StagedDirectory? TryBegin(string destination, bool sync, bool replace = false)
    {
        destination = System.IO.Path.TrimEndingDirectorySeparator(destination);
        Check(destination, replace);
        Directory.CreateDirectory(ParentOf(destination));
        string path = Destination.InProgressAt(destination);
        while (true)
        {
            if (new FileInfo(path).LinkTarget is not null)
            {
                // we make none, and what it leads to is not ours to lock or to empty
                throw new PullException(PullError.Machine, $"{path} is a symbolic link, where a directory is to be made");
            }

            // one that is there, be it empty, has somebody's owner, attributes and open handles
            bool made = Libc.TryMakeDirectory(path);
            SafeFileHandle? handle = null;
            try
            {
                handle = TryOpen(path);
                if (handle is not null && !Libc.TryLock(handle, path))
                {
                    return null;
                }

                bool ours = handle is not null && Libc.TryIdentityOf(path) == Libc.IdentityOf(handle, path);
                if (ours && made && !Directory.EnumerateFileSystemEntries(path).Any())
                {
                    if (replace && !IsAbsentOrEmpty(destination))
                    {
                        CheckExchange(path, destination);
                    }

                    StagedDirectory begun = new(path, destination, sync, replace, handle!);
                    handle = null;
                    return begun;
                }

                if (ours)
                {
                    // removed under its lock, then begun anew
                    RemoveLeft(path);
                }
            }
            catch when (made)
            {
                // too few open files, nothing to exchange with: what was made for nothing goes
                Libc.RemoveEmptyDirectory(path);
                throw;
            }
            finally
            {
                handle?.Dispose();
            }
        }
    }

    /// <summary>Removes what a killed process left beside a destination: a tree half made, or the old one after an exchange. A live one's is let be.</summary>
    internal static void Sweep(string destination)
    {
        string path = Destination.InProgressAt(System.IO.Path.TrimEndingDirectorySeparator(destination));
        if (Libc.TypeOf(path) != FileType.Directory)
        {
            return;
        }

        using SafeFileHandle? left = TryOpen(path);
        if (left is not null && Libc.TryLock(left, path) && Libc.TryIdentityOf(path) == Libc.IdentityOf(left, path))
        {
            RemoveLeft(path);
        }
    }

    /// <summary>What can fail before the rename: the destination may have changed since the tree was begun, and the disk turn out to be full or broken.</summary>
    /// <exception cref="PullException">As <see cref="Check"/>.</exception>
    internal void Prepare()
    {
        Check(destination, replace);
        if (sync && !flushed)
        {
            Libc.FlushFileSystem(held!, Path);
        }

        flushed = true;
    }

    /// <summary>Flushes the tree and renames it into place; where a tree is to be replaced, the two change places.</summary>
    /// <exception cref="PullException">As <see cref="Check"/>.</exception>
    internal void Publish()
    {
        Prepare();
        exchanged = MoveIntoPlace();
        using SafeFileHandle published = held!;
        held = null;
        try
        {
            if (sync)
            {
                Libc.FlushDirectory(ParentOf(destination), published);
            }
        }
        catch (LinuxException failure)
        {
            // the old tree is kept for the next call to remove: a power cut may bring back its name
            exchanged = false;
            throw new PullException(PullError.Machine, $"{destination} is the new tree, but may be the old one after a power cut: {failure.Message}");
        }
    }

    /// <summary>Removes what the published tree has replaced, and which has the staging name now: it is what a killed process would have left.</summary>
    /// <exception cref="PullException">Machine: something of it cannot be removed. The new tree is there all the same.</exception>
    internal void RemoveOld()
    {
        if (!exchanged)
        {
            return;
        }

        exchanged = false;
        try
        {
            Sweep(destination);
        }
        catch (Exception stuck) when (stuck is PullException or LinuxException)
        {
            throw new PullException(PullError.Machine, $"{destination} is the new tree, but of the old one something is left: {stuck.Message}");
        }
    }

    /// <summary>Empties it, to begin anew without letting go of it.</summary>
    internal void Clear()
    {
        foreach (byte[] name in Libc.Names(held!, Path))
        {
            DirectoryTree.Remove(held!, name);
        }

        foreach ((byte[] attribute, _) in Libc.GetXattrs(held!, Path))
        {
            // what the kernel keeps for itself may not be removable
            _ = Libc.RemoveXattr(held!, attribute);
        }
    }

    public void Dispose()
    {
        using SafeFileHandle? unpublished = held;
        held = null;
        if (unpublished is not null)
        {
            try
            {
                DirectoryTree.Remove(Path);
            }
            catch (LinuxException)
            {
                // what led here is the failure to be told; the next call tries again, and says why it cannot
            }
        }
    }

    // What has the staging name; null: nothing has. Where its mode keeps its own owner out, as that of an image's root may, the owner's bits are lent
    // to it until it is open: it may be another process's, who is about to publish it.
    private static SafeFileHandle? TryOpen(string path)
    {
        try
        {
            return Libc.TryOpenDirectory(path);
        }
        catch (LinuxException closed) when (closed.Errno == Errno.AccessDenied)
        {
            using SafeFileHandle? parent = Libc.TryOpenPlace(ParentOf(path));
            byte[] name = Encoding.UTF8.GetBytes(System.IO.Path.GetFileName(path) + '\0');
            if (parent is null || Libc.TryStatusAt(parent, name, out FileStatus status) != 0 || !status.IsDirectory
                || Libc.ChangeModeAt(parent, name, status.Permissions | Permission.Owner) != 0)
            {
                throw;
            }

            int errno = Libc.OpenAt(parent, name, OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow, 0, out SafeFileHandle? opened);
            _ = opened is null ? Libc.ChangeModeAt(parent, name, status.Permissions) : Libc.ChangeMode(opened, status.Permissions);
            return errno is 0 or Errno.NoEntry ? opened : throw new LinuxException("open", path, errno);
        }
    }

    private static void RemoveLeft(string path)
    {
        try
        {
            DirectoryTree.Remove(path);
        }
        catch (LinuxException failure)
        {
            throw new PullException(PullError.Machine, $"{path} cannot be removed, which an earlier call made or replaced: {failure.Message}");
        }
    }

    private static bool IsAbsentOrEmpty(string destination)
    {
        try
        {
            return Libc.TypeOf(destination) == 0 || !Directory.EnumerateFileSystemEntries(destination).Any();
        }
        catch (UnauthorizedAccessException)
        {
            // what may not be looked into can be exchanged all the same
            return false;
        }
    }

    // Found out with two directories made for it, before anything is fetched for a tree that could not be published.
    private static void CheckExchange(string staged, string destination)
    {
        string[] probes = [System.IO.Path.Combine(staged, "one"), System.IO.Path.Combine(staged, "other")];
        try
        {
            if (!probes.All(Libc.TryMakeDirectory))
            {
                return;
            }

            // some file systems in user space do not read the flag and rename: one is gone then, though the kernel would still show it
            int errno = Libc.Exchange(probes[0], probes[1]);
            if (IsNoExchange(errno) || (errno == 0 && Directory.EnumerateFileSystemEntries(staged).Count() != probes.Length))
            {
                throw CannotExchange(destination);
            }
        }
        finally
        {
            Array.ForEach(probes, Libc.RemoveEmptyDirectory);
        }
    }

    private static bool IsNoExchange(int errno) => errno is Errno.Invalid or Errno.NoSystemCall or Errno.NotSupported or Errno.CrossDevice;

    // two renames would do it on any file system, but a crash between them would leave nothing at the destination
    private static PullException CannotExchange(string destination) => new(
        PullError.Machine,
        $"{destination} cannot be replaced: its file system cannot exchange two directories (renameat2, RENAME_EXCHANGE); name a new directory, or remove it first");

    // True: what was there now has the staging name. There is no moment without a directory at the destination.
    private bool MoveIntoPlace()
    {
        if (!replace || IsAbsentOrEmpty(destination))
        {
            try
            {
                Libc.Rename(Path, destination);
                return false;
            }
            catch (LinuxException refused) when (refused.Errno == Errno.NotEmpty && IsAbsentOrEmpty(destination))
            {
                // an empty subvolume of btrfs, which can be exchanged like any other directory
            }
        }

        int errno = Libc.Exchange(Path, destination);
        return errno == 0 ? true
            : throw (IsNoExchange(errno) ? CannotExchange(destination) : new LinuxException("renameat2", $"{Path} and {destination}", errno));
    }

    private static string ParentOf(string path) => System.IO.Path.GetDirectoryName(System.IO.Path.TrimEndingDirectorySeparator(path)) ?? "/";
}
