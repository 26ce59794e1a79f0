using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// A new file under a name of our own beside a result, where others may have been first: nothing that is there is written to or followed. What a killed
/// process left is removed under its lock.
/// </summary>
internal static class OwnFile
{
    // of which the umask takes its part
    private const uint Mode = 0x1B6;

    /// <summary>Makes the file and locks it; null: a live process has it.</summary>
    /// <exception cref="PullException">Machine: something that is no file, or a link, has the name.</exception>
    internal static SafeFileHandle? TryMake(string path)
    {
        string parent = Path.GetDirectoryName(path) ?? "/";
        byte[] name = Encoding.UTF8.GetBytes(Path.GetFileName(path) + '\0');
        Directory.CreateDirectory(parent);
        using SafeFileHandle directory = Libc.TryOpenPlace(parent) ?? throw new PullException(PullError.Machine, $"{parent}: no such directory");
        while (true)
        {
            int errno = Libc.OpenAt(directory, name, OpenFlags.ReadWrite | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow, Mode, out SafeFileHandle? made);
            if (errno == 0)
            {
                // between the two calls another may have taken it for something left, and removed it
                if (TryTake(made!, directory, name, path))
                {
                    return made;
                }

                made!.Dispose();
            }
            else if (errno != Errno.Exists)
            {
                throw new LinuxException("open", path, errno);
            }
            else if (!TryRemoveLeft(directory, name, path))
            {
                return null;
            }
        }
    }

    private static bool TryTake(SafeFileHandle made, SafeFileHandle directory, byte[] name, string path)
    {
        try
        {
            return Libc.TryLock(made, path) && IsAt(path, made);
        }
        catch (LinuxException)
        {
            // a file system without locks: what was made for nothing goes
            using (made)
            {
                _ = Libc.Unlink(directory, name);
            }

            throw;
        }
    }

    // False: it is locked.
    private static bool TryRemoveLeft(SafeFileHandle directory, byte[] name, string path)
    {
        int errno = Libc.TryStatusAt(directory, name, out FileStatus status);
        if (errno == 0 && status.Type != FileType.Regular)
        {
            throw new PullException(PullError.Machine, $"{path} is {(status.Type == FileType.Symlink ? "a symbolic link" : "there and is no file")}, where a file is to be made");
        }

        SafeFileHandle? left = null;
        errno = errno != 0 ? errno : Libc.OpenAt(directory, name, OpenFlags.ReadWrite | OpenFlags.NoFollow | OpenFlags.NonBlocking, 0, out left);
        if (errno is not (0 or Errno.NoEntry))
        {
            throw new LinuxException("open", path, errno);
        }

        using (left)
        {
            if (left is not null && !Libc.TryLock(left, path))
            {
                return false;
            }

            if (left is not null && IsAt(path, left))
            {
                errno = Libc.Unlink(directory, name);
                if (errno is not (0 or Errno.NoEntry))
                {
                    throw new LinuxException("unlink", path, errno);
                }
            }
        }

        return true;
    }

    private static bool IsAt(string path, SafeFileHandle file) => Libc.TryIdentityOf(path) == Libc.IdentityOf(file, path);
}
