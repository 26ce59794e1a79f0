using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>
/// Linux calls on (directory handle, one name): names are bytes that end in NUL, handles are safe, an errno that the caller expects is returned
/// and any other throws <see cref="LinuxException"/>. This part opens, makes and removes names.
/// </summary>
internal static unsafe partial class Libc
{
    private const int NoFollowAt = 0x100; // AT_SYMLINK_NOFOLLOW
    private const int RemoveDirectoryFlag = 0x200; // AT_REMOVEDIR
    private const long CallOpenAt2 = 437; // openat2(2), the same number on every architecture
    private const ulong ResolveNoMounts = 0x01; // RESOLVE_NO_XDEV
    private const ulong ResolveNoLinks = 0x04; // RESOLVE_NO_SYMLINKS, magic ones among them
    private const ulong ResolveBelow = 0x08; // RESOLVE_BENEATH

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
}
