using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What the calls are for: an open file, or (where there is a name) a name in an open directory.</summary>
internal readonly record struct EntryPlace(SafeFileHandle Handle, byte[]? Name)
{
    internal int ChangeOwner(uint uid, uint gid) => Name is null ? Libc.ChangeOwner(Handle, uid, gid) : Libc.ChangeOwnerAt(Handle, Name, uid, gid);

    internal int ChangeMode(uint mode) => Name is null ? Libc.ChangeMode(Handle, mode) : Libc.ChangeModeAt(Handle, Name, mode);

    internal int SetXattr(byte[] name, byte[] value) => Name is null ? Libc.SetXattr(Handle, name, value) : Libc.SetXattrAt(Handle, Name, name, value);

    internal FileStatus Status(ReadOnlySpan<byte> path)
    {
        if (Name is null)
        {
            return Libc.Status(Handle, TarText.Show(path));
        }

        Failure.ThrowIf(Libc.TryStatusAt(Handle, Name, out FileStatus status), "statx", path);
        return status;
    }
}
