using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// How an overlay's layer says that something below is hidden, in either style (Documentation/filesystems/overlayfs.rst: "whiteouts and opaque
/// directories", "user xattr", "nesting overlayfs mounts"), and how an image's own words of that kind are kept from being obeyed.
/// </summary>
internal static class OverlayMarks
{
    private static ReadOnlySpan<byte> Trusted => "trusted.overlay."u8;

    private static ReadOnlySpan<byte> User => "user.overlay."u8;

    /// <summary>Hides all that lower layers have in the directory. 0 or an errno.</summary>
    internal static int MakeOpaque(SafeFileHandle directory, WhiteoutStyle style) => Libc.SetXattr(directory, Opaque(style), "y"u8);

    internal static bool IsOpaque(SafeFileHandle directory, WhiteoutStyle style) => Libc.GetXattr(directory, Opaque(style)) is [(byte)'y'];

    /// <summary>
    /// Hides one name of the lower layers: device 0:0, which any user may make since Linux 5.8; where that is refused, an empty file that says so
    /// by attribute in a directory marked to hold such (Linux 6.7). 0 or an errno; EEXIST where the name is taken.
    /// </summary>
    internal static int MakeWhiteout(SafeFileHandle parent, ReadOnlySpan<byte> name, WhiteoutStyle style)
    {
        int refused = Libc.MakeNode(parent, name, FileType.Character, 0, 0);
        return (Failure.IsRefusal(refused) || refused == Errno.Invalid) && MakeEmptyWhiteout(parent, name, style) == 0 ? 0 : refused;
    }

    /// <summary>Whether a name, of which this is the status, is a whiteout of either form.</summary>
    internal static bool IsWhiteout(SafeFileHandle parent, ReadOnlySpan<byte> name, FileStatus status, WhiteoutStyle style)
    {
        if (status.IsWhiteout)
        {
            return true;
        }

        if (status.Type != FileType.Regular || status.Size != 0 || Libc.GetXattr(parent, Opaque(style)) is not [(byte)'x'])
        {
            return false;
        }

        int errno = Libc.OpenAt(parent, name, OpenFlags.ReadOnly | OpenFlags.NoFollow, 0, out SafeFileHandle? opened);
        if (errno is Errno.NoEntry or Errno.AccessDenied)
        {
            // an image's file that its owner may not read; whiteouts are ours, and open to us
            return false;
        }

        Failure.ThrowIf(errno, "open", name[..^1]);
        using SafeFileHandle file = opened!;
        return Libc.GetXattr(file, Whiteout(style)) is not null;
    }

    /// <summary>An image's attribute as a layer must carry it for a mount to show it under its own name: overlayfs's own prefix escaped by itself.</summary>
    internal static byte[] Escape(byte[] name, WhiteoutStyle style)
    {
        ReadOnlySpan<byte> prefix = Prefix(style);
        return name.AsSpan().StartsWith(prefix) ? [.. prefix, .. "overlay."u8, .. name.AsSpan(prefix.Length)] : name;
    }

    /// <summary>Whether a layer's attribute is a word to overlayfs, rather than the image's own, escaped.</summary>
    internal static bool IsMark(ReadOnlySpan<byte> name, WhiteoutStyle style)
    {
        ReadOnlySpan<byte> prefix = Prefix(style);
        return name.StartsWith(prefix) && !name[prefix.Length..].StartsWith("overlay."u8);
    }

    /// <summary>The form of <see cref="MakeWhiteout"/> for where no device can be made.</summary>
    internal static int MakeEmptyWhiteout(SafeFileHandle parent, ReadOnlySpan<byte> name, WhiteoutStyle style)
    {
        int errno = NewFile.Create(parent, name, out SafeFileHandle? made);
        if (errno != 0)
        {
            return errno;
        }

        using SafeFileHandle file = made!;
        errno = Libc.SetXattr(file, Whiteout(style), "y"u8);
        if (errno == 0 && !IsOpaque(parent, style))
        {
            errno = Libc.SetXattr(parent, Opaque(style), "x"u8);
        }

        if (errno != 0)
        {
            _ = Libc.Unlink(parent, name);
        }

        return errno;
    }

    private static ReadOnlySpan<byte> Prefix(WhiteoutStyle style) => style == WhiteoutStyle.Overlay ? Trusted : User;

    private static ReadOnlySpan<byte> Opaque(WhiteoutStyle style) => style == WhiteoutStyle.Overlay ? "trusted.overlay.opaque\0"u8 : "user.overlay.opaque\0"u8;

    private static ReadOnlySpan<byte> Whiteout(WhiteoutStyle style) => style == WhiteoutStyle.Overlay ? "trusted.overlay.whiteout\0"u8 : "user.overlay.whiteout\0"u8;
}
