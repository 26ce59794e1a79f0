using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>Owner, mode, times and extended attributes, by handle or by a name that is never followed.</summary>
internal static unsafe partial class Libc
{
    private const long CallFchmodAt2 = 452; // fchmodat2(2), Linux 6.6
    private const long CallSetXattrAt = 463; // setxattrat(2), Linux 6.13

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

    /// <summary>fgetxattr(2); null where the attribute is absent, or not for this process.</summary>
    /// <exception cref="LinuxException">It cannot be read: nobody knows then whether it is there.</exception>
    internal static byte[]? GetXattr(SafeFileHandle file, ReadOnlySpan<byte> name)
    {
        Span<byte> small = stackalloc byte[256];
        nint length = GetXattr(file, name, small);
        if (length >= 0)
        {
            return small[..(int)length].ToArray();
        }

        if (Marshal.GetLastPInvokeError() == Errno.OutOfRange)
        {
            byte[] value = new byte[64 * 1024]; // XATTR_SIZE_MAX
            length = GetXattr(file, name, value);
            if (length >= 0)
            {
                return value[..(int)length];
            }
        }

        int errno = Marshal.GetLastPInvokeError();
        return errno is Errno.NoData or Errno.NotSupported or Errno.NoSystemCall or Errno.PermissionDenied or Errno.AccessDenied
            ? null
            : throw new LinuxException("fgetxattr", Encoding.UTF8.GetString(name).TrimEnd('\0'), errno);
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
}
