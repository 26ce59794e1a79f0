using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// A directory or file of a layer below, opened for reading. Where its mode keeps its own owner out (0, 0333), as it does not keep out root or the root
/// of a user namespace, the owner's bits are lent to it until it is disposed: there is no other way to its attributes and to what it holds.
/// </summary>
internal sealed class LowerHandle : IDisposable
{
    private uint? mode;

    internal LowerHandle(SafeFileHandle handle, uint? mode = null)
    {
        Handle = handle;
        this.mode = mode;
    }

    internal SafeFileHandle Handle { get; }

    /// <summary>Its owner's bits are not its own.</summary>
    internal bool IsLent => mode is not null;

    /// <summary>Opens a name, which is no link. 0 or an errno.</summary>
    internal static int Open(SafeFileHandle parent, byte[] name, int flags, out LowerHandle? opened)
    {
        flags |= OpenFlags.ReadOnly | OpenFlags.NoFollow;
        int errno = Libc.OpenAt(parent, name, flags, 0, out SafeFileHandle? handle);
        uint? mode = null;
        if (errno == Errno.AccessDenied && Libc.TryStatusAt(parent, name, out FileStatus status) == 0 && status.Uid == Libc.EffectiveUser)
        {
            uint needed = status.IsDirectory ? Permission.OwnerReadAndSearch : Permission.OwnerRead;
            // if it has them by now, another process has lent them
            if ((status.Permissions & needed) != needed && Libc.ChangeModeAt(parent, name, status.Permissions | needed) == 0)
            {
                mode = status.Permissions;
            }

            errno = Libc.OpenAt(parent, name, flags, 0, out handle);
            if (errno != 0 && mode is { } before)
            {
                _ = Libc.ChangeModeAt(parent, name, before);
            }
        }

        opened = errno == 0 ? new LowerHandle(handle!, mode) : null;
        return errno;
    }

    /// <summary>The status of a name in this directory, which may be open to reading and yet closed to searching (0400). 0 or an errno.</summary>
    internal int TryStatusAt(byte[] name, out FileStatus status)
    {
        int errno = Libc.TryStatusAt(Handle, name, out status);
        if (errno == Errno.AccessDenied && mode is null && Libc.TryStatus(Handle, out FileStatus own) == 0 && own.Uid == Libc.EffectiveUser
            && Libc.ChangeMode(Handle, own.Permissions | Permission.OwnerReadAndSearch) == 0)
        {
            mode = own.Permissions;
            errno = Libc.TryStatusAt(Handle, name, out status);
        }

        return errno;
    }

    public void Dispose()
    {
        if (mode is { } before)
        {
            _ = Libc.ChangeMode(Handle, before);
        }

        Handle.Dispose();
    }
}
