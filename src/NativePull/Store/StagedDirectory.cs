using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// A directory being made beside the place where it will appear, under a lock on itself; published by one rename. What a killed process left
/// is removed by the next to come; disposing unpublished removes the tree.
/// </summary>
internal sealed class StagedDirectory : IDisposable
{
    private readonly string destination;
    private readonly bool sync;
    private SafeFileHandle? held;

    private StagedDirectory(string path, string destination, bool sync, SafeFileHandle held)
    {
        Path = path;
        this.destination = destination;
        this.sync = sync;
        this.held = held;
        Identity = Libc.IdentityOf(held, path).ToString();
    }

    /// <summary>Where the tree is made.</summary>
    internal string Path { get; }

    /// <summary>Which directory it is, before and after it is published.</summary>
    internal string Identity { get; }

    /// <summary>Refuses what can never become a directory, emptied or not.</summary>
    /// <exception cref="PullException">Machine.</exception>
    internal static void CheckKind(string destination)
    {
        destination = System.IO.Path.TrimEndingDirectorySeparator(destination);
        if (new FileInfo(destination).LinkTarget is { } target)
        {
            throw new PullException(PullError.Machine, $"{destination} is a symbolic link to {target}, which no rename can follow; name the directory itself");
        }

        if (File.Exists(destination) && !Directory.Exists(destination))
        {
            throw new PullException(PullError.Machine, $"{destination} is there and is not a directory");
        }
    }

    /// <summary>Refuses a destination that cannot be published to, before any work is done for it.</summary>
    /// <exception cref="PullException">Machine: it is not a directory, not empty, or a mount point.</exception>
    internal static void Check(string destination)
    {
        CheckKind(destination);
        if (!Directory.Exists(destination))
        {
            return;
        }

        if (Directory.EnumerateFileSystemEntries(destination).Any())
        {
            throw new PullException(PullError.Machine, $"{destination} is not empty");
        }

        if (Libc.IsMountPoint(destination))
        {
            throw new PullException(PullError.Machine, $"{destination} is a mount point, which no rename can replace; name a directory below it");
        }
    }

    /// <summary>
    /// Begins, after waiting for a live process that is making the same directory; null: what is wanted is there, now or after that wait.
    /// </summary>
    /// <exception cref="PullException">As <see cref="Check"/>.</exception>
    internal static async Task<StagedDirectory?> BeginAsync(string destination, StoreOptions options, Func<bool> isThere, CancellationToken token)
    {
        // how far the other process is cannot be seen from here, so the wait is for as long as its lock lives
        LockWait wait = new(options with { LockTimeout = TimeSpan.MaxValue }, destination, () => 0);
        while (!isThere())
        {
            StagedDirectory? staged;
            try
            {
                staged = TryBegin(destination, options.Sync);
            }
            catch (PullException) when (isThere())
            {
                // published between the two looks
                return null;
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

        return null;
    }

    /// <summary>Null: another live process is making the same directory.</summary>
    /// <exception cref="PullException">As <see cref="Check"/>.</exception>
    internal static StagedDirectory? TryBegin(string destination, bool sync)
    {
        destination = System.IO.Path.TrimEndingDirectorySeparator(destination);
        Check(destination);
        string parent = ParentOf(destination);
        Directory.CreateDirectory(parent);
        string path = System.IO.Path.Combine(parent, $".{System.IO.Path.GetFileName(destination)}.nativepull");
        while (true)
        {
            if (new FileInfo(path).LinkTarget is not null)
            {
                // we make none, and what it leads to is not ours to lock or to empty
                throw new PullException(PullError.Machine, $"{path} is a symbolic link, where a directory is to be made");
            }

            Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            SafeFileHandle? handle = Libc.TryOpenDirectory(path);
            if (handle is null)
            {
                continue;
            }

            if (!Libc.TryLock(handle, path))
            {
                handle.Dispose();
                return null;
            }

            bool ours = Libc.TryIdentityOf(path) == Libc.IdentityOf(handle, path);
            if (ours && !Directory.EnumerateFileSystemEntries(path).Any())
            {
                return new StagedDirectory(path, destination, sync, handle);
            }

            if (ours)
            {
                // left by a killed process; removed under its lock, then begun anew
                DirectoryTree.Remove(path);
            }

            handle.Dispose();
        }
    }

    /// <summary>Flushes the tree and renames it into place.</summary>
    /// <exception cref="PullException">As <see cref="Check"/>.</exception>
    internal void Publish()
    {
        Check(destination);
        if (sync)
        {
            Libc.FlushFileSystem(held!, Path);
        }

        Libc.Rename(Path, destination);
        if (sync)
        {
            Libc.FlushDirectory(ParentOf(destination));
        }

        held!.Dispose();
        held = null;
    }

    public void Dispose()
    {
        if (held is not null)
        {
            DirectoryTree.Remove(Path);
            held.Dispose();
            held = null;
        }
    }

    private static string ParentOf(string path) => System.IO.Path.GetDirectoryName(System.IO.Path.TrimEndingDirectorySeparator(path)) ?? "/";
}
