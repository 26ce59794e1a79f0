using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>What a store needs of Linux beyond the BCL: locks, flushing, publication by rename, and which inode a name means.</summary>
internal static unsafe partial class Libc
{
    private const int LockExclusive = 2; // LOCK_EX, flock(2)
    private const int LockNonBlocking = 4; // LOCK_NB
    private const int LockUnlock = 8; // LOCK_UN
    private const int DuplicateCloseOnExec = 1030; // F_DUPFD_CLOEXEC, fcntl(2)
    private const int AtCurrentDirectory = -100; // AT_FDCWD
    private const int RenameExchangeFlag = 2; // RENAME_EXCHANGE, rename(2)
    private const int WouldBlock = 11; // EAGAIN
    private const int Interrupted = 4; // EINTR

    /// <summary>flock(2), exclusive, without waiting. False: another open file holds it.</summary>
    internal static bool TryLock(SafeFileHandle file, string subject)
    {
        while (flock(file, LockExclusive | LockNonBlocking) != 0)
        {
            int errno = Marshal.GetLastSystemError();
            if (errno == WouldBlock)
            {
                return false;
            }

            if (errno != Interrupted)
            {
                throw new LinuxException("flock", subject, errno);
            }
        }

        return true;
    }

    /// <summary>Gives the lock back before the last handle of the open file is closed.</summary>
    internal static void Unlock(SafeFileHandle file, string subject)
    {
        if (flock(file, LockUnlock) != 0)
        {
            throw new LinuxException("flock", subject, Marshal.GetLastSystemError());
        }
    }

    /// <summary>fsync(2): of a file its bytes, of a directory its names.</summary>
    internal static void Flush(SafeFileHandle file, string subject) => Check(fsync(file), "fsync", subject);

    /// <summary>syncfs(2): everything written to the file system that holds this file.</summary>
    internal static void FlushFileSystem(SafeFileHandle file, string subject) => Check(syncfs(file), "syncfs", subject);

    /// <summary>A second handle on the same open file (fcntl(2), F_DUPFD_CLOEXEC): same lock, closed on its own.</summary>
    internal static SafeFileHandle Duplicate(SafeFileHandle file, string subject)
    {
        int copy = fcntl(file, DuplicateCloseOnExec, 3);
        return copy < 0 ? throw new LinuxException("fcntl", subject, Marshal.GetLastSystemError()) : new SafeFileHandle(copy, ownsHandle: true);
    }

    /// <summary>rename(2). Over an empty directory it replaces that directory.</summary>
    internal static void Rename(string from, string to)
    {
        fixed (byte* fromBytes = Terminated(from))
        fixed (byte* toBytes = Terminated(to))
        {
            Check(rename(fromBytes, toBytes), "rename", $"{from} to {to}");
        }
    }

    private static void Check(int result, string call, string subject)
    {
        if (result != 0)
        {
            throw new LinuxException(call, subject, Marshal.GetLastSystemError());
        }
    }

    private static byte[] Terminated(string path) => Encoding.UTF8.GetBytes(path + "\0");

    [LibraryImport("libc", SetLastError = false)]
    private static partial int flock(SafeFileHandle fd, int operation);

    [LibraryImport("libc", SetLastError = false)]
    private static partial int fsync(SafeFileHandle fd);

    [LibraryImport("libc", SetLastError = false)]
    private static partial int syncfs(SafeFileHandle fd);

    [LibraryImport("libc", SetLastError = false)]
    private static partial int fcntl(SafeFileHandle fd, int command, int argument);

    [LibraryImport("libc", SetLastError = false)]
    private static partial int rename(byte* from, byte* to);
}
