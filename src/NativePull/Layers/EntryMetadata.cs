using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// Owner, mode, attributes and times of an entry, in the only order that works: chown clears setuid and file capabilities, so both come after it;
/// writing any of them moves no modification time, so times come last.
/// </summary>
internal sealed class EntryMetadata(ExtractOptions options, ExtractReport report)
{
    private static readonly byte[] Overlay = "trusted.overlay."u8.ToArray();

    /// <summary>Of an open file or directory; times are left out.</summary>
    internal void Apply(SafeFileHandle file, TarEntry entry, uint mode, ReadOnlySpan<byte> path)
    {
        Own(Libc.ChangeOwner(file, entry.Uid, entry.Gid), path);
        Failure.ThrowIf(Libc.ChangeMode(file, mode), "fchmod", path);
        foreach (TarXattr xattr in Wanted(entry))
        {
            Attribute(Libc.SetXattr(file, NameOf(xattr), xattr.Value), xattr, path);
        }
    }

    /// <summary>Of what cannot or must not be opened: links, devices, fifos. Times included.</summary>
    internal void ApplyAt(SafeFileHandle parent, ReadOnlySpan<byte> name, TarEntry entry, ReadOnlySpan<byte> path)
    {
        Own(Libc.ChangeOwnerAt(parent, name, entry.Uid, entry.Gid), path);
        if (entry.Kind != TarEntryKind.Symlink)
        {
            Failure.ThrowIf(Libc.ChangeModeAt(parent, name, entry.Mode), "fchmodat", path);
        }

        foreach (TarXattr xattr in Wanted(entry))
        {
            Attribute(Libc.SetXattrAt(parent, name, NameOf(xattr), xattr.Value), xattr, path);
        }

        Failure.ThrowIf(Libc.SetTimesAt(parent, name, entry.Modified.Seconds, entry.Modified.Nanoseconds), "utimensat", path);
    }

    /// <summary>Takes away what a directory had before, so that a layer's word on it is the whole word, as in an overlay.</summary>
    internal static void Forget(SafeFileHandle directory, ReadOnlySpan<byte> path)
    {
        foreach ((byte[] name, _) in Libc.GetXattrs(directory, TarText.Show(path)))
        {
            // what the kernel keeps for itself (a security label, say) may not be removable
            _ = Libc.RemoveXattr(directory, name);
        }
    }

    /// <summary>Owner, mode, attributes and times of a directory below, for one that a layer implies.</summary>
    internal void Copy(SafeFileHandle from, FileStatus status, SafeFileHandle to, ReadOnlySpan<byte> path)
    {
        Own(Libc.ChangeOwner(to, status.Uid, status.Gid), path);
        Failure.ThrowIf(Libc.ChangeMode(to, status.Permissions), "fchmod", path);
        if (options.Xattrs != XattrPolicy.Drop)
        {
            foreach ((byte[] name, byte[] value) in Libc.GetXattrs(from, TarText.Show(path)))
            {
                if (!name.AsSpan().StartsWith(Overlay) || name.AsSpan().StartsWith("trusted.overlay.overlay."u8))
                {
                    Attribute(Libc.SetXattr(to, name, value), new TarXattr(name, value), path);
                }
            }
        }
    }

    private IReadOnlyList<TarXattr> Wanted(TarEntry entry) => options.Xattrs == XattrPolicy.Drop ? [] : entry.Xattrs;

    // In an overlay's layer the image's own trusted.overlay.* must not be obeyed: the kernel shows what carries its escape prefix.
    private byte[] NameOf(TarXattr xattr) => options.Format == LayerFormat.Overlay && xattr.Name.AsSpan().StartsWith(Overlay)
        ? [.. "trusted.overlay.overlay."u8, .. xattr.Name.AsSpan(Overlay.Length), 0]
        : [.. xattr.Name, 0];

    private void Own(int errno, ReadOnlySpan<byte> path)
    {
        if (errno is Errno.PermissionDenied or Errno.Invalid && !Libc.IsRoot)
        {
            report.OwnersLost++;
            return;
        }

        Failure.ThrowIf(errno, "fchown", path);
    }

    private void Attribute(int errno, TarXattr xattr, ReadOnlySpan<byte> path)
    {
        if (errno == 0)
        {
            return;
        }

        if (options.Xattrs == XattrPolicy.Try && errno is Errno.NotSupported or Errno.PermissionDenied or Errno.NoSystemCall or Errno.Invalid or Errno.AccessDenied)
        {
            report.XattrsLost++;
            return;
        }

        throw new LinuxException($"setxattr {Encoding.Latin1.GetString(xattr.Name).TrimEnd('\0')} of", TarText.Show(path), errno);
    }
}
