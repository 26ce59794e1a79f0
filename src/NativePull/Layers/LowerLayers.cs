using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What overlayfs would show of the layers below: the topmost that has a name wins, whiteouts and opaque directories hide the rest.</summary>
/// <param name="topFirst">Extracted layers, each as its own root, all in one style.</param>
internal sealed class LowerLayers(IReadOnlyList<RootDirectory> topFirst, WhiteoutStyle style)
{
    /// <summary>The name at a path as the lower layers together have it: its parent's handle (the caller disposes) and status; null where it is absent or hidden.</summary>
    internal (SafeFileHandle Parent, byte[] Name, FileStatus Status)? Find(byte[] path)
    {
        foreach (RootDirectory lower in topFirst)
        {
            if (Look(lower, path, out bool hides) is { } found)
            {
                return found;
            }

            if (hides)
            {
                return null;
            }
        }

        return null;
    }

    // One layer: what it has at the path; or whether it hides what those below have there.
    private (SafeFileHandle, byte[], FileStatus)? Look(RootDirectory layer, byte[] path, out bool hides)
    {
        hides = false;
        Failure.ThrowIf(Libc.OpenAt(layer.Handle, ".\0"u8, OpenFlags.ReadOnly | OpenFlags.Directory, 0, out SafeFileHandle? parent), "open", layer.Path);
        SafeFileHandle at = parent!;
        if (path.Length == 0)
        {
            return (at, ".\0"u8.ToArray(), Libc.Status(at, layer.Path));
        }

        foreach (Range range in path.AsSpan().Split((byte)'/'))
        {
            byte[] name = [.. path[range], 0];
            hides |= OverlayMarks.IsOpaque(at, style);
            if (Libc.TryStatusAt(at, name, out FileStatus status) != 0)
            {
                at.Dispose();
                return null;
            }

            if (OverlayMarks.IsWhiteout(at, name, status, style) || (range.End.Value < path.Length && !status.IsDirectory))
            {
                hides = true;
                at.Dispose();
                return null;
            }

            if (range.End.Value == path.Length)
            {
                return (at, name, status);
            }

            int errno = Libc.OpenAt(at, name, OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow, 0, out SafeFileHandle? below);
            at.Dispose();
            Failure.ThrowIf(errno, "open", path);
            at = below!;
        }

        at.Dispose();
        return null;
    }
}
