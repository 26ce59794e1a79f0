using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>Which inode something is: names change, this does not while the inode lives; the birth time tells a reused number apart.</summary>
internal readonly record struct FileIdentity(uint DeviceMajor, uint DeviceMinor, ulong Inode, long BornSeconds, uint BornNanoseconds)
{
    /// <summary>
    /// The same after a reboot, to be compared with what has the same path. A file system's device number is not: it is given out anew in the order in
    /// which disks are found or mounted. Where no birth time is kept, it must still do for telling inodes apart.
    /// </summary>
    internal string Lasting => (BornSeconds, BornNanoseconds) == (0, 0)
        ? string.Create(CultureInfo.InvariantCulture, $"{Inode} on {DeviceMajor}:{DeviceMinor}")
        : string.Create(CultureInfo.InvariantCulture, $"{Inode} born {BornSeconds}.{BornNanoseconds:d9}");
}

/// <summary>What a store needs of Linux beyond the BCL: locks on directories, flushing, publication by rename, and which inode a name means.</summary>
internal static unsafe partial class Libc
{
    private const int LockExclusive = 2; // LOCK_EX, flock(2)
    private const int LockNonBlocking = 4; // LOCK_NB
    private const int DuplicateCloseOnExec = 1030; // F_DUPFD_CLOEXEC, fcntl(2)
    private const int CurrentDirectory = -100; // AT_FDCWD
    private const int EmptyPath = 0x1000; // AT_EMPTY_PATH
    private const int LinkItself = 0x100; // AT_SYMLINK_NOFOLLOW
    private const uint BasicStatisticsAndBirth = 0xfff; // STATX_BASIC_STATS | STATX_BTIME
    private const int StatxSize = 256; // struct statx, statx(2)
    private const int NoSuchFile = 2; // ENOENT
    private const int Interrupted = 4; // EINTR
    private const int WouldBlock = 11; // EAGAIN
    private const int LongestPath = 4096; // PATH_MAX
    private const uint BeginToWrite = 2; // SYNC_FILE_RANGE_WRITE, sync_file_range(2)
    private const int ExchangeNames = 2; // RENAME_EXCHANGE, renameat2(2)

    private static readonly long CallRenameAt2 = RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.Arm64 => 276,
        Architecture.Arm => 382,
        _ => 316,
    };

    /// <summary>flock(2), exclusive, without waiting. False: another open file holds it.</summary>
    internal static bool TryLock(SafeFileHandle file, string subject)
    {
        while (flock(file, LockExclusive | LockNonBlocking) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
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

    /// <summary>A directory, for locking, flushing and identifying it; null where the name is absent.</summary>
    internal static SafeFileHandle? TryOpenDirectory(string path) => TryOpenDirectory(path, OpenFlags.ReadOnly);

    /// <summary>The same for nothing but the names in it that one knows: it need not be readable.</summary>
    internal static SafeFileHandle? TryOpenPlace(string path) => TryOpenDirectory(path, OpenFlags.PathOnly);

    private static SafeFileHandle? TryOpenDirectory(string path, int flags)
    {
        flags |= OpenFlags.CloseOnExec | OpenFlags.Directory;
        fixed (byte* bytes = Terminated(path))
        {
            int descriptor = open(bytes, flags, 0);
            int errno = Marshal.GetLastPInvokeError();
            return descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true)
                : errno == NoSuchFile ? null
                : throw new LinuxException("open", path, errno);
        }
    }

    /// <summary>mkdir(2), for its owner alone; false: something has the name.</summary>
    internal static bool TryMakeDirectory(string path)
    {
        fixed (byte* bytes = Terminated(path))
        {
            int errno = Result(mkdir(bytes, Permission.Owner));
            return errno is 0 or Errno.Exists ? errno == 0 : throw new LinuxException("mkdir", path, errno);
        }
    }

    /// <summary>rmdir(2), where it can be.</summary>
    internal static void RemoveEmptyDirectory(string path)
    {
        fixed (byte* bytes = Terminated(path))
        {
            _ = rmdir(bytes);
        }
    }

    /// <summary>
    /// A file for reading, without the shared lock that the BCL takes on every file it opens: that would fail where the writer has renamed
    /// the file into place and not yet given its own lock back. Null where the name is absent.
    /// </summary>
    internal static SafeFileHandle? TryOpenForReading(string path)
    {
        fixed (byte* bytes = Terminated(path))
        {
            int descriptor = open(bytes, OpenFlags.ReadOnly | OpenFlags.CloseOnExec, 0);
            int errno = Marshal.GetLastPInvokeError();
            return descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true)
                : errno == NoSuchFile ? null
                : throw new LinuxException("open", path, errno);
        }
    }

    /// <summary>fsync(2): of a directory, the names in it. EINVAL: its file system (vboxsf, for one) has nothing to flush of a directory.</summary>
    /// <param name="inside">Something on its file system, by which that is flushed where the directory may be written to and not read.</param>
    internal static void FlushDirectory(string path, SafeFileHandle? inside = null)
    {
        SafeFileHandle? opened;
        try
        {
            opened = TryOpenDirectory(path);
        }
        catch (LinuxException closed) when (closed.Errno == Errno.AccessDenied && inside is not null)
        {
            FlushFileSystem(inside, path);
            return;
        }

        using SafeFileHandle directory = opened ?? throw new LinuxException("open", path, NoSuchFile);
        Flush(directory, path);
    }

    /// <summary>
    /// fsync(2). The BCL's RandomAccess.FlushToDisk and FileStream.Flush make the same call and keep its failure to themselves: what the disk then does not have
    /// would be taken for good. EINVAL: as of a directory.
    /// </summary>
    internal static void Flush(SafeFileHandle file, string subject)
    {
        int errno;
        do
        {
            errno = Result(fsync(file));
        }
        while (errno == Interrupted);

        if (errno is not (0 or Errno.Invalid))
        {
            throw new LinuxException("fsync", subject, errno);
        }
    }

    /// <summary>syncfs(2): everything written to the file system that holds this file.</summary>
    internal static void FlushFileSystem(SafeFileHandle file, string subject) => Check(syncfs(file), "syncfs", subject);

    /// <summary>
    /// sync_file_range(2): these bytes are on their way to the disk from now on, and not when the kernel's time for them has come. A hint: nothing waits for
    /// it, and whether it is taken says nothing.
    /// </summary>
    internal static void BeginWriting(SafeFileHandle file, long start, long length) => _ = sync_file_range(file, start, length, BeginToWrite);

    /// <summary>A second handle on the same open file (fcntl(2), F_DUPFD_CLOEXEC), closed on its own.</summary>
    internal static SafeFileHandle Duplicate(SafeFileHandle file, string subject)
    {
        int copy = fcntl(file, DuplicateCloseOnExec, 3);
        return copy < 0 ? throw new LinuxException("fcntl", subject, Marshal.GetLastPInvokeError()) : new SafeFileHandle(copy, ownsHandle: true);
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

    /// <summary>renameat2(2), RENAME_EXCHANGE: both names exist throughout, and afterwards each means what the other did. 0 or an errno.</summary>
    internal static int Exchange(string one, string other)
    {
        fixed (byte* oneBytes = Terminated(one))
        fixed (byte* otherBytes = Terminated(other))
        {
            return Result((int)syscall(CallRenameAt2, CurrentDirectory, (nint)oneBytes, CurrentDirectory, (nint)otherBytes, ExchangeNames, 0));
        }
    }

    /// <summary>realpath(3): absolute, without links; null where something on the way is absent.</summary>
    internal static string? TryRealPath(string path)
    {
        byte* resolved = stackalloc byte[LongestPath];
        fixed (byte* bytes = Terminated(path))
        {
            if (realpath(bytes, resolved) is null)
            {
                int errno = Marshal.GetLastPInvokeError();
                return errno == NoSuchFile ? null : throw new LinuxException("realpath", path, errno);
            }
        }

        return Marshal.PtrToStringUTF8((nint)resolved);
    }

    /// <summary>A second handle on one of the three standard streams, closed on its own.</summary>
    internal static SafeFileHandle DuplicateStandard(int descriptor)
    {
        using SafeFileHandle standard = new(descriptor, ownsHandle: false);
        return Duplicate(standard, descriptor == 0 ? "stdin" : "stdout");
    }

    /// <summary>statx(2) of an open file.</summary>
    internal static FileIdentity IdentityOf(SafeFileHandle file, string subject)
    {
        byte* status = stackalloc byte[StatxSize];
        byte empty = 0;
        bool held = false;
        try
        {
            file.DangerousAddRef(ref held);
            Check(statx((int)file.DangerousGetHandle(), &empty, EmptyPath, BasicStatisticsAndBirth, status), "statx", subject);
        }
        finally
        {
            if (held)
            {
                file.DangerousRelease();
            }
        }

        return IdentityFrom(new ReadOnlySpan<byte>(status, StatxSize));
    }

    /// <summary>statx(2) of a name, a link itself rather than what it points to; null where it is absent.</summary>
    internal static FileIdentity? TryIdentityOf(string path)
    {
        byte* status = stackalloc byte[StatxSize];
        fixed (byte* bytes = Terminated(path))
        {
            if (statx(CurrentDirectory, bytes, LinkItself, BasicStatisticsAndBirth, status) != 0)
            {
                int errno = Marshal.GetLastPInvokeError();
                return errno == NoSuchFile ? null : throw new LinuxException("statx", path, errno);
            }
        }

        return IdentityFrom(new ReadOnlySpan<byte>(status, StatxSize));
    }

    /// <summary>
    /// Whether something is mounted on the directory (statx(2), STATX_ATTR_MOUNT_ROOT, Linux 5.8). Before that, whether its file system is
    /// another than its parent's, which misses a bind mount of the same one.
    /// </summary>
    internal static bool IsMountPoint(string path)
    {
        const ulong mountRoot = 0x2000; // STATX_ATTR_MOUNT_ROOT
        byte* status = stackalloc byte[StatxSize];
        fixed (byte* bytes = Terminated(path))
        {
            Check(statx(CurrentDirectory, bytes, LinkItself, BasicStatisticsAndBirth, status), "statx", path);
        }

        // stx_attributes 8, stx_attributes_mask 56
        ReadOnlySpan<byte> read = new(status, StatxSize);
        if ((BinaryPrimitives.ReadUInt64LittleEndian(read[56..]) & mountRoot) != 0)
        {
            return (BinaryPrimitives.ReadUInt64LittleEndian(read[8..]) & mountRoot) != 0;
        }

        FileIdentity own = IdentityFrom(read);
        return TryIdentityOf(Path.GetDirectoryName(path) ?? "/") is not { } parent
            || (own.DeviceMajor, own.DeviceMinor) != (parent.DeviceMajor, parent.DeviceMinor)
            || own.Inode == parent.Inode;
    }

    /// <summary>What a path leads to, links followed: a value of <see cref="FileType"/>; 0 where it leads to nothing.</summary>
    internal static uint TypeOf(string path)
    {
        byte* status = stackalloc byte[StatxSize];
        fixed (byte* bytes = Terminated(path))
        {
            if (statx(CurrentDirectory, bytes, 0, BasicStatisticsAndBirth, status) != 0)
            {
                int errno = Marshal.GetLastPInvokeError();
                return errno is NoSuchFile or Errno.NotDirectory ? 0u : throw new LinuxException("statx", path, errno);
            }
        }

        // stx_mode
        return BinaryPrimitives.ReadUInt16LittleEndian(new ReadOnlySpan<byte>(status + 28, sizeof(ushort))) & FileType.Mask;
    }

    // Offsets of struct statx: stx_ino 32, stx_btime 80, stx_dev_major 136, stx_dev_minor 140.
    private static FileIdentity IdentityFrom(ReadOnlySpan<byte> status) => new(
        BinaryPrimitives.ReadUInt32LittleEndian(status[136..]),
        BinaryPrimitives.ReadUInt32LittleEndian(status[140..]),
        BinaryPrimitives.ReadUInt64LittleEndian(status[32..]),
        BinaryPrimitives.ReadInt64LittleEndian(status[80..]),
        BinaryPrimitives.ReadUInt32LittleEndian(status[88..]));

    private static void Check(int result, string call, string subject)
    {
        if (result != 0)
        {
            throw new LinuxException(call, subject, Marshal.GetLastPInvokeError());
        }
    }

    private static byte[] Terminated(string path) => Encoding.UTF8.GetBytes(path + "\0");

    [LibraryImport("libc", SetLastError = true)]
    private static partial int flock(SafeFileHandle fd, int operation);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int open(byte* path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mkdir(byte* path, uint mode);

    [LibraryImport("libc")]
    private static partial int rmdir(byte* path);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fsync(SafeFileHandle fd);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int syncfs(SafeFileHandle fd);

    [LibraryImport("libc")]
    private static partial int sync_file_range(SafeFileHandle fd, long offset, long length, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(SafeFileHandle fd, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int rename(byte* from, byte* to);

    [LibraryImport("libc", SetLastError = true)]
    private static partial byte* realpath(byte* path, byte* resolved);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int statx(int directory, byte* path, int flags, uint mask, byte* status);
}
