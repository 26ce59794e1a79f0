using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>
/// Linux calls on (directory handle, one name): names are bytes that end in NUL, handles are safe, an errno that the caller expects is returned
/// and any other throws <see cref="LinuxException"/>.
/// </summary>
internal static unsafe partial class Libc
{
    private const int NoFollowAt = 0x100; // AT_SYMLINK_NOFOLLOW
    private const int RemoveDirectoryFlag = 0x200; // AT_REMOVEDIR
    private const uint MountId = 0x1000; // STATX_MNT_ID, Linux 5.8; 0 before
    private const byte DirectoryEntry = 4; // DT_DIR, getdents(2)
    private const long CallOpenAt2 = 437; // openat2(2), the same number on every architecture
    private const long CallFchmodAt2 = 452; // fchmodat2(2), Linux 6.6
    private const long CallSetXattrAt = 463; // setxattrat(2), Linux 6.13
    private const ulong ResolveNoMounts = 0x01; // RESOLVE_NO_XDEV
    private const ulong ResolveNoLinks = 0x04; // RESOLVE_NO_SYMLINKS, magic ones among them
    private const ulong ResolveBelow = 0x08; // RESOLVE_BENEATH

    private static readonly byte[] EmptyName = [0];

    /// <summary>openat(2); 0 or an errno.</summary>
    internal static int OpenAt(SafeFileHandle parent, ReadOnlySpan<byte> name, int flags, uint mode, out SafeFileHandle? opened)
    {
        fixed (byte* bytes = name)
        {
            return Opened(openat(parent, bytes, flags | OpenFlags.CloseOnExec, mode), out opened);
        }
    }

    /// <summary>openat2(2) of a directory below another: no link is followed, no mount point crossed, ".." refused. 0 or an errno.</summary>
    internal static int OpenBelow(SafeFileHandle parent, ReadOnlySpan<byte> path, out SafeFileHandle? opened)
    {
        // struct open_how: flags, mode, resolve
        ulong* how = stackalloc ulong[3];
        how[0] = (ulong)(uint)(OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.CloseOnExec);
        how[1] = 0;
        how[2] = ResolveBelow | ResolveNoLinks | ResolveNoMounts;
        fixed (byte* bytes = path)
        {
            bool held = false;
            parent.DangerousAddRef(ref held);
            try
            {
                return Opened((int)syscall(CallOpenAt2, parent.DangerousGetHandle(), (nint)bytes, (nint)how, 3 * sizeof(ulong), 0, 0), out opened);
            }
            finally
            {
                parent.DangerousRelease();
            }
        }
    }

    /// <summary>mkdirat(2); 0 or an errno.</summary>
    internal static int MakeDirectory(SafeFileHandle parent, ReadOnlySpan<byte> name, uint mode)
    {
        fixed (byte* bytes = name)
        {
            return Result(mkdirat(parent, bytes, mode));
        }
    }

    /// <summary>symlinkat(2); 0 or an errno.</summary>
    internal static int MakeSymlink(ReadOnlySpan<byte> target, SafeFileHandle parent, ReadOnlySpan<byte> name)
    {
        fixed (byte* targetBytes = target)
        fixed (byte* bytes = name)
        {
            return Result(symlinkat(targetBytes, parent, bytes));
        }
    }

    /// <summary>linkat(2), never through a link; 0 or an errno.</summary>
    internal static int MakeLink(SafeFileHandle targetParent, ReadOnlySpan<byte> target, SafeFileHandle parent, ReadOnlySpan<byte> name)
    {
        fixed (byte* targetBytes = target)
        fixed (byte* bytes = name)
        {
            return Result(linkat(targetParent, targetBytes, parent, bytes, 0));
        }
    }

    /// <summary>mknodat(2) with type bits in the mode; 0 or an errno.</summary>
    internal static int MakeNode(SafeFileHandle parent, ReadOnlySpan<byte> name, uint mode, uint major, uint minor)
    {
        // glibc's makedev(3)
        ulong device = ((ulong)(major & 0xfff) << 8) | (minor & 0xff) | ((ulong)(minor & ~0xffu) << 12) | ((ulong)(major & ~0xfffu) << 32);
        fixed (byte* bytes = name)
        {
            return Result(mknodat(parent, bytes, mode, device));
        }
    }

    /// <summary>unlinkat(2) of anything but a directory; 0 or an errno.</summary>
    internal static int Unlink(SafeFileHandle parent, ReadOnlySpan<byte> name)
    {
        fixed (byte* bytes = name)
        {
            return Result(unlinkat(parent, bytes, 0));
        }
    }

    /// <summary>unlinkat(2) of an empty directory; 0 or an errno.</summary>
    internal static int RemoveDirectory(SafeFileHandle parent, ReadOnlySpan<byte> name)
    {
        fixed (byte* bytes = name)
        {
            return Result(unlinkat(parent, bytes, RemoveDirectoryFlag));
        }
    }

    /// <summary>write(2) until all is written; 0 or an errno.</summary>
    internal static int WriteAll(SafeFileHandle file, ReadOnlySpan<byte> content)
    {
        fixed (byte* bytes = content)
        {
            int written = 0;
            while (written < content.Length)
            {
                nint count = write(file, bytes + written, content.Length - written);
                if (count < 0)
                {
                    int errno = Marshal.GetLastPInvokeError();
                    if (errno != 4)
                    {
                        return errno;
                    }

                    continue;
                }

                written += (int)count;
            }
        }

        return 0;
    }

    /// <summary>fchown(2); 0 or an errno.</summary>
    internal static int ChangeOwner(SafeFileHandle file, uint uid, uint gid) => Result(fchown(file, uid, gid));

    /// <summary>fchownat(2) of a name itself, never what it links to; 0 or an errno.</summary>
    internal static int ChangeOwnerAt(SafeFileHandle parent, ReadOnlySpan<byte> name, uint uid, uint gid)
    {
        fixed (byte* bytes = name)
        {
            return Result(fchownat(parent, bytes, uid, gid, NoFollowAt));
        }
    }

    /// <summary>fchmod(2); 0 or an errno.</summary>
    internal static int ChangeMode(SafeFileHandle file, uint mode) => Result(fchmod(file, mode));

    /// <summary>fchmodat2(2) of a name itself, never what it links to; where that call is missing or filtered, by <see cref="ChangeModeByHandle"/>. 0 or an errno.</summary>
    internal static int ChangeModeAt(SafeFileHandle parent, ReadOnlySpan<byte> name, uint mode)
    {
        fixed (byte* bytes = name)
        {
            bool held = false;
            parent.DangerousAddRef(ref held);
            try
            {
                int errno = Result((int)syscall(CallFchmodAt2, parent.DangerousGetHandle(), (nint)bytes, (nint)mode, NoFollowAt, 0, 0));
                return errno is Errno.NoSystemCall or Errno.PermissionDenied ? ChangeModeByHandle(parent, name, mode) : errno;
            }
            finally
            {
                parent.DangerousRelease();
            }
        }
    }

    /// <summary>
    /// chmod(2) before Linux 6.6, whose calls all follow links: the name is held by a handle that follows none, and changed by that handle's name
    /// in /proc. Without /proc it is changed by name, after a look that it is still the file that is held: between the look and the change only a
    /// process could slip in that may write to the directory. 0 or an errno; ELOOP for a link.
    /// </summary>
    internal static int ChangeModeByHandle(SafeFileHandle parent, ReadOnlySpan<byte> name, uint mode, string descriptors = "/proc/self/fd")
    {
        int errno = OpenAt(parent, name, OpenFlags.PathOnly | OpenFlags.NoFollow, 0, out SafeFileHandle? opened);
        if (errno != 0)
        {
            return errno;
        }

        using SafeFileHandle held = opened!;
        FileStatus status = Status(held, descriptors);
        if (status.Type == FileType.Symlink)
        {
            return Errno.TooManyLinks;
        }

        fixed (byte* path = Terminated($"{descriptors}/{held.DangerousGetHandle()}"))
        {
            errno = Result(chmod(path, mode));
        }

        if (errno is not (Errno.NoEntry or Errno.NotDirectory))
        {
            return errno;
        }

        errno = TryStatusAt(parent, name, out FileStatus now);
        if (errno != 0 || now.Type != status.Type || now.Inode != status.Inode)
        {
            return errno == 0 ? Errno.TooManyLinks : errno;
        }

        fixed (byte* bytes = name)
        {
            return Result(fchmodat(parent, bytes, mode, 0));
        }
    }

    /// <summary>futimens(2): access and modification time alike; 0 or an errno.</summary>
    internal static int SetTimes(SafeFileHandle file, long seconds, long nanoseconds)
    {
        long* times = stackalloc long[4] { seconds, nanoseconds, seconds, nanoseconds };
        return Result(futimens(file, times));
    }

    /// <summary>utimensat(2) of a name itself; 0 or an errno.</summary>
    internal static int SetTimesAt(SafeFileHandle parent, ReadOnlySpan<byte> name, long seconds, long nanoseconds)
    {
        long* times = stackalloc long[4] { seconds, nanoseconds, seconds, nanoseconds };
        fixed (byte* bytes = name)
        {
            return Result(utimensat(parent, bytes, times, NoFollowAt));
        }
    }

    /// <summary>fsetxattr(2); 0 or an errno.</summary>
    internal static int SetXattr(SafeFileHandle file, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        fixed (byte* nameBytes = name)
        fixed (byte* valueBytes = value)
        {
            return Result(fsetxattr(file, nameBytes, valueBytes, value.Length, 0));
        }
    }

    /// <summary>
    /// setxattrat(2) of a name itself, for what cannot be opened (links, devices, fifos). Before Linux 6.13, or where a sandbox refuses the call,
    /// lsetxattr(2) through /proc; without /proc the call's own errno, ENOSYS there. 0 or an errno.
    /// </summary>
    internal static int SetXattrAt(SafeFileHandle parent, ReadOnlySpan<byte> name, ReadOnlySpan<byte> xattr, ReadOnlySpan<byte> value)
    {
        fixed (byte* bytes = name)
        fixed (byte* xattrBytes = xattr)
        fixed (byte* valueBytes = value)
        {
            // struct xattr_args: value, size and flags
            ulong* arguments = stackalloc ulong[2];
            arguments[0] = (ulong)valueBytes;
            arguments[1] = (uint)value.Length;
            bool held = false;
            parent.DangerousAddRef(ref held);
            try
            {
                int errno = Result((int)syscall(
                    CallSetXattrAt, parent.DangerousGetHandle(), (nint)bytes, NoFollowAt, (nint)xattrBytes, (nint)arguments, 2 * sizeof(ulong)));
                if (errno is not (Errno.NoSystemCall or Errno.PermissionDenied))
                {
                    return errno;
                }

                int other = SetXattrThroughProc(parent, name, xattr, value);
                return other is Errno.NoEntry or Errno.NotDirectory ? errno : other;
            }
            finally
            {
                parent.DangerousRelease();
            }
        }
    }

    /// <summary>fremovexattr(2); 0 or an errno.</summary>
    internal static int RemoveXattr(SafeFileHandle file, ReadOnlySpan<byte> name)
    {
        fixed (byte* bytes = name)
        {
            return Result(fremovexattr(file, bytes));
        }
    }

    /// <summary>flistxattr(2) and fgetxattr(2): every attribute this process may see, names ending in NUL; none where the file system has none.</summary>
    internal static IReadOnlyList<(byte[] Name, byte[] Value)> GetXattrs(SafeFileHandle file, string subject)
    {
        Span<byte> names = stackalloc byte[1024];
        nint length = ListXattrs(file, names, subject);
        if (length < 0)
        {
            names = new byte[64 * 1024]; // XATTR_LIST_MAX
            length = ListXattrs(file, names, subject);
        }

        List<(byte[], byte[])> found = [];
        for (int start = 0; start < length;)
        {
            int end = start + names[start..].IndexOf((byte)0) + 1;
            byte[] name = names[start..end].ToArray();
            if (GetXattr(file, name) is { } value)
            {
                found.Add((name, value));
            }

            start = end;
        }

        return found;
    }

    /// <summary>fgetxattr(2); null where the attribute is absent.</summary>
    internal static byte[]? GetXattr(SafeFileHandle file, ReadOnlySpan<byte> name)
    {
        Span<byte> small = stackalloc byte[256];
        nint length = GetXattr(file, name, small);
        if (length >= 0)
        {
            return small[..(int)length].ToArray();
        }

        if (Marshal.GetLastPInvokeError() != Errno.OutOfRange)
        {
            return null;
        }

        byte[] value = new byte[64 * 1024]; // XATTR_SIZE_MAX
        length = GetXattr(file, name, value);
        return length < 0 ? null : value[..(int)length];
    }

    /// <summary>readlinkat(2); null where the name is no link.</summary>
    internal static byte[]? ReadLink(SafeFileHandle parent, ReadOnlySpan<byte> name)
    {
        byte[] target = new byte[4096]; // PATH_MAX
        fixed (byte* bytes = name)
        fixed (byte* targetBytes = target)
        {
            nint length = readlinkat(parent, bytes, targetBytes, target.Length);
            return length < 0 ? null : target[..(int)length];
        }
    }

    /// <summary>statx(2) of an open file.</summary>
    internal static FileStatus Status(SafeFileHandle file, string subject) =>
        TryStatus(file, EmptyName, out FileStatus status, EmptyPath) == 0 ? status : throw new LinuxException("statx", subject, Marshal.GetLastPInvokeError());

    /// <summary>statx(2) of an open file; 0 or an errno.</summary>
    internal static int TryStatus(SafeFileHandle file, out FileStatus status) => TryStatus(file, EmptyName, out status, EmptyPath);

    /// <summary>statx(2) of a name itself; 0 or an errno.</summary>
    internal static int TryStatusAt(SafeFileHandle parent, ReadOnlySpan<byte> name, out FileStatus status) =>
        TryStatus(parent, name, out status, NoFollowAt);

    /// <summary>getdents64(2): the names in a directory, each ending in NUL, without "." and "..". Reads from the directory's start.</summary>
    internal static List<byte[]> Names(SafeFileHandle directory, string subject)
    {
        List<byte[]> all = [];
        Rewind(directory);
        while (NextNames(directory, subject) is { Count: > 0 } some)
        {
            foreach ((byte[] name, _) in some)
            {
                all.Add(name);
            }
        }

        return all;
    }

    /// <summary>lseek(2): <see cref="NextNames"/> begins anew.</summary>
    internal static void Rewind(SafeFileHandle directory) => _ = lseek(directory, 0, 0);

    /// <summary>getdents64(2): the next names, a buffer of them, so that a directory may be larger than memory; none at its end.</summary>
    internal static List<(byte[] Name, bool IsDirectory)> NextNames(SafeFileHandle directory, string subject)
    {
        List<(byte[], bool)> found = [];
        byte[] buffer = ArrayPool<byte>.Shared.Rent(32 * 1024);
        try
        {
            nint length;
            do
            {
                fixed (byte* bytes = buffer)
                {
                    length = getdents64(directory, bytes, buffer.Length);
                }

                // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name
                for (int at = 0; at < length; at += BinaryPrimitives.ReadUInt16LittleEndian(buffer.AsSpan(at + 16)))
                {
                    int end = Array.IndexOf(buffer, (byte)0, at + 19) + 1;
                    byte[] name = buffer[(at + 19)..end];
                    if (!name.AsSpan().SequenceEqual(".\0"u8) && !name.AsSpan().SequenceEqual("..\0"u8))
                    {
                        found.Add((name, buffer[at + 18] == DirectoryEntry));
                    }
                }
            }
            while (length > 0 && found.Count == 0);

            return length >= 0 ? found : throw new LinuxException("getdents64", subject, Marshal.GetLastPInvokeError());
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static nint ListXattrs(SafeFileHandle file, Span<byte> names, string subject)
    {
        fixed (byte* bytes = names)
        {
            nint length = flistxattr(file, bytes, names.Length);
            int errno = Marshal.GetLastPInvokeError();
            return length >= 0 ? length
                : errno == Errno.NotSupported ? 0
                : errno == Errno.OutOfRange && names.Length < 64 * 1024 ? -1
                : throw new LinuxException("flistxattr", subject, errno);
        }
    }

    private static nint GetXattr(SafeFileHandle file, ReadOnlySpan<byte> name, Span<byte> value)
    {
        fixed (byte* nameBytes = name)
        fixed (byte* valueBytes = value)
        {
            return fgetxattr(file, nameBytes, valueBytes, value.Length);
        }
    }

    private static int TryStatus(SafeFileHandle parent, ReadOnlySpan<byte> name, out FileStatus status, int flags)
    {
        byte* raw = stackalloc byte[StatxSize];
        fixed (byte* bytes = name)
        {
            bool held = false;
            parent.DangerousAddRef(ref held);
            try
            {
                int errno = Result(statx((int)parent.DangerousGetHandle(), bytes, flags, BasicStatisticsAndBirth | MountId, raw));
                status = errno == 0 ? StatusFrom(new ReadOnlySpan<byte>(raw, StatxSize)) : default;
                return errno;
            }
            finally
            {
                parent.DangerousRelease();
            }
        }
    }

    // Offsets of struct statx (statx(2)).
    private static FileStatus StatusFrom(ReadOnlySpan<byte> raw) => new(
        BinaryPrimitives.ReadUInt16LittleEndian(raw[28..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[16..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[20..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[24..]),
        BinaryPrimitives.ReadInt64LittleEndian(raw[40..]),
        BinaryPrimitives.ReadUInt64LittleEndian(raw[32..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[136..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[140..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[128..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[132..]),
        BinaryPrimitives.ReadInt64LittleEndian(raw[112..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[120..]),
        BinaryPrimitives.ReadUInt64LittleEndian(raw[144..]));

    private static int Opened(int descriptor, out SafeFileHandle? opened)
    {
        if (descriptor < 0)
        {
            opened = null;
            return Marshal.GetLastPInvokeError();
        }

        opened = new SafeFileHandle(descriptor, ownsHandle: true);
        return 0;
    }

    private static int Result(int result) => result == 0 ? 0 : Marshal.GetLastPInvokeError();

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(long number, nint a, nint b, nint c, nint d, nint e, nint f);

    [LibraryImport("libc")]
    private static partial uint geteuid();

    [LibraryImport("libc", SetLastError = true)]
    private static partial int openat(SafeFileHandle directory, byte* name, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mkdirat(SafeFileHandle directory, byte* name, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int symlinkat(byte* target, SafeFileHandle directory, byte* name);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int linkat(SafeFileHandle oldDirectory, byte* oldName, SafeFileHandle directory, byte* name, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mknodat(SafeFileHandle directory, byte* name, uint mode, ulong device);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int unlinkat(SafeFileHandle directory, byte* name, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(SafeFileHandle file, byte* bytes, nint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchown(SafeFileHandle file, uint uid, uint gid);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchownat(SafeFileHandle directory, byte* name, uint uid, uint gid, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchmod(SafeFileHandle file, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int chmod(byte* path, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchmodat(SafeFileHandle directory, byte* name, uint mode, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int futimens(SafeFileHandle file, long* times);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int utimensat(SafeFileHandle directory, byte* name, long* times, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fsetxattr(SafeFileHandle file, byte* name, byte* value, nint size, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fremovexattr(SafeFileHandle file, byte* name);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint flistxattr(SafeFileHandle file, byte* list, nint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint fgetxattr(SafeFileHandle file, byte* name, byte* value, nint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint readlinkat(SafeFileHandle directory, byte* name, byte* target, nint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint getdents64(SafeFileHandle directory, byte* buffer, nint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial long lseek(SafeFileHandle file, long offset, int whence);
}
