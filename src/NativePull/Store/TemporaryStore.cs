using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// The store of one pull that keeps none: a directory under a lock on itself for as long as the pull lasts. Removed when that is done; kept where it
/// failed or was killed, so that the next one goes on, unless there is nothing in it to go on with.
/// </summary>
internal sealed class TemporaryStore : IDisposable
{
    // Says that all of the directory may be removed: a store that somebody keeps under this name has none. The first file made, the last removed.
    private const string MarkName = "nativepull.temporary";

    private readonly SafeFileHandle held;
    private bool isGone;

    private TemporaryStore(StoreLayout layout, SafeFileHandle held)
    {
        Layout = layout;
        this.held = held;
    }

    internal StoreLayout Layout { get; }

    private string Mark => MarkOf(Layout.Root);

    /// <summary>Takes the directory, after waiting for a live process that has it.</summary>
    /// <exception cref="PullException">Machine: something else is there, or another user's.</exception>
    internal static async Task<TemporaryStore> BeginAsync(string path, StoreOptions options, CancellationToken token)
    {
        StoreLayout layout = new(path);
        LockWait wait = new(options with { LockTimeout = TimeSpan.MaxValue }, path, () => 0);
        while (true)
        {
            if (new FileInfo(path).LinkTarget is not null)
            {
                throw new PullException(PullError.Machine, $"{path} is a symbolic link, where the store of this pull is to be");
            }

            Directory.CreateDirectory(Path.GetDirectoryName(path) ?? "/");
            Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            SafeFileHandle? handle = Libc.TryOpenDirectory(path);
            if (handle is null)
            {
                continue;
            }

            try
            {
                if (!Libc.TryLock(handle, path))
                {
                    await wait.OnceMoreAsync(token);
                }
                else if (Libc.TryIdentityOf(path) == Libc.IdentityOf(handle, path))
                {
                    CheckOwner(handle, path);
                    MakeOurs(layout, options.Sync);
                    TemporaryStore store = new(layout, handle);
                    handle = null;
                    return store;
                }
            }
            finally
            {
                handle?.Dispose();
            }
        }
    }

    /// <summary>Removes it with all that it holds, once what was wanted of it is made.</summary>
    /// <exception cref="PullException">Machine: something of it cannot be removed.</exception>
    internal void Remove()
    {
        isGone = true;
        try
        {
            RemoveAll();
        }
        catch (Exception stuck) when (stuck is IOException or UnauthorizedAccessException)
        {
            throw new PullException(PullError.Machine, $"all is made, but of {Layout.Root}, which it came through, something is left: {stuck.Message}");
        }
    }

    public void Dispose()
    {
        using (held)
        {
            if (!isGone)
            {
                RemoveIfEmpty();
            }
        }
    }

    private void RemoveIfEmpty()
    {
        try
        {
            if (!HoldsBytes(Layout.AllBlobs) && !HoldsBytes(Layout.Parts))
            {
                RemoveAll();
            }
        }
        catch (Exception left) when (left is IOException or UnauthorizedAccessException)
        {
            // what led here is the failure to be told
        }
    }

    private void RemoveAll()
    {
        foreach (string path in Directory.EnumerateFileSystemEntries(Layout.Root).Where(path => path != Mark).ToArray())
        {
            if (Directory.Exists(path))
            {
                DirectoryTree.Remove(path);
            }
            else
            {
                File.Delete(path);
            }
        }

        File.Delete(Mark);
        Directory.Delete(Layout.Root);
    }

    private static string MarkOf(string root) => Path.Combine(root, MarkName);

    // Whoever has the directory can put links into it, marked or not: in /tmp it need not be this user. What a file system has one owner for (FAT, NFS
    // that squashes root) is told by a file made there.
    private static void CheckOwner(SafeFileHandle held, string path)
    {
        uint owner = Libc.Status(held, path).Uid;
        if (owner == Libc.EffectiveUser)
        {
            return;
        }

        ReadOnlySpan<byte> name = ".nativepull-owner\0"u8;
        _ = Libc.Unlink(held, name);
        bool made = Libc.OpenAt(held, name, OpenFlags.WriteOnly | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow, Permission.OwnerFile, out SafeFileHandle? file) == 0;
        using (file)
        {
            bool isSame = made && Libc.Status(file!, path).Uid == owner;
            _ = made ? Libc.Unlink(held, name) : 0;
            if (!isSame)
            {
                throw new PullException(PullError.Machine, $"{path} belongs to another user ({owner.ToString(CultureInfo.InvariantCulture)}), where the store of this pull is to be");
            }
        }
    }

    private static void MakeOurs(StoreLayout layout, bool sync)
    {
        string mark = MarkOf(layout.Root);
        if (!File.Exists(mark) && Directory.EnumerateFileSystemEntries(layout.Root).Any())
        {
            throw new PullException(PullError.Machine, $"{layout.Root} is not empty and was not made by --store none, which would work there");
        }

        using (SafeFileHandle file = File.OpenHandle(mark, FileMode.OpenOrCreate, FileAccess.Write))
        {
            if (sync)
            {
                // else a power cut may leave what is flushed later without it
                Libc.Flush(file, mark);
                Libc.FlushDirectory(layout.Root);
            }
        }

        // what a store begins with, for its other checks
        File.Open(layout.LockFile, FileMode.OpenOrCreate, FileAccess.Write).Dispose();
    }

    private static bool HoldsBytes(string directory) =>
        Directory.Exists(directory) && Directory.EnumerateFiles(directory, "*", SearchOption.AllDirectories).Any();
}
