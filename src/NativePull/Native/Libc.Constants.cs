using System.Runtime.InteropServices;

namespace NativePull.Native;

/// <summary>Numbers of the Linux ABI, named as in its headers; those that differ by architecture are chosen here.</summary>
internal static class Errno
{
    internal const int PermissionDenied = 1; // EPERM
    internal const int NoEntry = 2; // ENOENT
    internal const int Interrupted = 4; // EINTR
    internal const int NoSuchAddress = 6; // ENXIO
    internal const int TooBig = 7; // E2BIG
    internal const int AccessDenied = 13; // EACCES
    internal const int Busy = 16; // EBUSY
    internal const int Exists = 17; // EEXIST
    internal const int CrossDevice = 18; // EXDEV
    internal const int NotDirectory = 20; // ENOTDIR
    internal const int IsDirectory = 21; // EISDIR
    internal const int Invalid = 22; // EINVAL
    internal const int NoSpace = 28; // ENOSPC
    internal const int OutOfRange = 34; // ERANGE
    internal const int NameTooLong = 36; // ENAMETOOLONG
    internal const int NoSystemCall = 38; // ENOSYS
    internal const int NotEmpty = 39; // ENOTEMPTY
    internal const int TooManyLinks = 40; // ELOOP
    internal const int NoData = 61; // ENODATA
    internal const int Overflow = 75; // EOVERFLOW
    internal const int NotSupported = 95; // EOPNOTSUPP
    internal const int QuotaPassed = 122; // EDQUOT
}

/// <summary>open(2) flags.</summary>
internal static class OpenFlags
{
    internal const int ReadOnly = 0;
    internal const int WriteOnly = 1;
    internal const int ReadWrite = 2;
    internal const int Create = 0x40;
    internal const int Exclusive = 0x80;
    internal const int NonBlocking = 0x800; // O_NONBLOCK
    internal const int CloseOnExec = 0x80000;
    internal const int PathOnly = 0x200000; // O_PATH

    private static readonly bool Arm = RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm;

    // arm kept its own numbers: 0x10000 there is O_DIRECT
    internal static readonly int Directory = Arm ? 0x4000 : 0x10000;
    internal static readonly int NoFollow = Arm ? 0x8000 : 0x20000;
    internal static readonly int Nameless = 0x400000 | Directory; // O_TMPFILE
}

/// <summary>File type bits of a mode (inode(7)).</summary>
internal static class FileType
{
    internal const uint Mask = 0xF000;
    internal const uint Fifo = 0x1000;
    internal const uint Character = 0x2000;
    internal const uint Directory = 0x4000;
    internal const uint Block = 0x6000;
    internal const uint Regular = 0x8000;
    internal const uint Symlink = 0xA000;
}

/// <summary>Permission bits of a mode (inode(7)).</summary>
internal static class Permission
{
    internal const uint All = 0x1FF; // 0777
    internal const uint Owner = 0x1C0; // 0700, S_IRWXU
    internal const uint OwnerFile = 0x180; // 0600
    internal const uint OwnerRead = 0x100; // 0400
    internal const uint Group = 0x38; // 0070
    internal const uint Others = 0x7; // 0007
    internal const uint OwnerReadAndSearch = 0x140; // 0500
    internal const uint UsualDirectory = 0x1ED; // 0755
}

/// <summary>What statx(2) says of a file.</summary>
internal readonly record struct FileStatus(
    uint Mode,
    uint Links,
    uint Uid,
    uint Gid,
    long Size,
    ulong Inode,
    uint DeviceMajor,
    uint DeviceMinor,
    uint RawMajor,
    uint RawMinor,
    long ModifiedSeconds,
    uint ModifiedNanoseconds,
    ulong Mount)
{
    /// <summary>Whether both are on one mount; before Linux 5.8, on one file system.</summary>
    internal bool IsOnMountOf(FileStatus other) => (DeviceMajor, DeviceMinor, Mount) == (other.DeviceMajor, other.DeviceMinor, other.Mount);

    internal uint Type => Mode & FileType.Mask;

    internal bool IsSameFile(FileStatus other) => (DeviceMajor, DeviceMinor, Inode) == (other.DeviceMajor, other.DeviceMinor, other.Inode);

    internal uint Permissions => Mode & 0xFFF;

    internal bool IsDirectory => Type == FileType.Directory;

    /// <summary>How overlayfs marks a removed name (Documentation/filesystems/overlayfs.rst, "whiteouts").</summary>
    internal bool IsWhiteout => Type == FileType.Character && RawMajor == 0 && RawMinor == 0;
}
