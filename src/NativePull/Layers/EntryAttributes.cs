using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>Extended attributes of entries under the policies, ACLs among them. What a policy lets go is counted in the report.</summary>
internal sealed class EntryAttributes(ExtractOptions options, ExtractReport report, Allowance allowance, OwnerMap owners)
{
    /// <summary>Those of an archive's entry: its ACLs, or all others.</summary>
    /// <returns>Whether any was set.</returns>
    internal bool Set(EntryPlace place, TarEntry entry, ReadOnlySpan<byte> path, bool acls)
    {
        bool any = false;
        foreach (TarXattr xattr in entry.Xattrs)
        {
            if (AccessList.Is(xattr.Name) != acls)
            {
                continue;
            }

            if (options.Xattrs == XattrPolicy.Drop || (options.Ownership == OwnershipPolicy.OverrideStat && OverrideStat.Is(xattr.Name)))
            {
                report.XattrsLost++;
                continue;
            }

            byte[] name = options.Format == LayerFormat.Overlay ? OverlayMarks.Escape(xattr.Name, options.Whiteouts) : xattr.Name;
            Take(xattr.Size, path);
            any |= IsSet(place.SetXattr([.. name, 0], options.Ownership == OwnershipPolicy.Map ? Mapped(xattr, path.ToArray()) : xattr.Value), xattr.Name, path, isFile: place.Name is null);
        }

        return any;
    }

    /// <summary>One that a file or directory of the layers below has, and that is no mark of an overlay's.</summary>
    /// <param name="name">Ending in NUL.</param>
    internal void Copy(SafeFileHandle to, byte[] name, byte[] value, ReadOnlySpan<byte> path)
    {
        Take(name.Length - 1 + value.Length, path);
        _ = IsSet(Libc.SetXattr(to, name, value), name, path, isFile: true);
    }

    private void Take(int bytes, ReadOnlySpan<byte> path)
    {
        report.AttributeBytes += bytes;
        allowance.TakeAttribute(path, bytes);
    }

    // An ACL's numbers are owners, too. A capability is good in the user namespace whose root it names: for mapped owners, that is what the image's root is
    // mapped to (struct vfs_ns_cap_data, capabilities(7) "File capability extensions").
    private byte[] Mapped(TarXattr xattr, byte[] path)
    {
        if (AccessList.Is(xattr.Name))
        {
            return AccessList.Map(
                xattr.Value,
                id => owners.User(id, "gives rights to", path),
                id => owners.Group(id, "gives rights to", path));
        }

        if (xattr.Value is not [_, _, _, 2, ..] || xattr.Value.Length != 20 || !xattr.Name.AsSpan().SequenceEqual("security.capability"u8) || owners.TryUser(0) is not { } root)
        {
            return xattr.Value;
        }

        byte[] value = [.. xattr.Value, 0, 0, 0, 0];
        value[3] = 3;
        BinaryPrimitives.WriteUInt32LittleEndian(value.AsSpan(20), root);
        return value;
    }

    // False: it is lost. isFile: or a directory.
    private bool IsSet(int errno, ReadOnlySpan<byte> name, ReadOnlySpan<byte> path, bool isFile)
    {
        if (errno == 0)
        {
            return true;
        }

        if (IsXattrRefusal(errno) && (options.Xattrs != XattrPolicy.Keep || IsForeign(name, errno, isFile)))
        {
            report.XattrsLost++;
            return false;
        }

        throw IsXattrRefusal(errno)
            ? Failure.CannotHold($"the attribute {TarText.Show(name.TrimEnd((byte)0))} (--xattrs try goes on without)", "setxattr", path, errno)
            : new LinuxException($"setxattr {TarText.Show(name.TrimEnd((byte)0))} of", TarText.Show(path), errno);
    }

    // What can be had nowhere on Linux is no reason to have none of the image (xattr(7)): names of other systems, as tar on a Mac writes them (com.apple.*), unless
    // the file system takes them; user.* of links, fifos and devices.
    private static bool IsForeign(ReadOnlySpan<byte> name, int errno, bool isFile)
    {
        bool isUsers = name.StartsWith("user."u8);
        return isUsers ? !isFile
            : errno == Errno.NotSupported && !name.StartsWith("trusted."u8) && !name.StartsWith("security."u8) && !name.StartsWith("system."u8);
    }

    // ENOSPC too: it is how ext4 says that an attribute is too large for it
    private static bool IsXattrRefusal(int errno) => Failure.IsRefusal(errno) || errno is Errno.AccessDenied
        or Errno.Invalid or Errno.TooBig or Errno.OutOfRange or Errno.NoSpace;
}
