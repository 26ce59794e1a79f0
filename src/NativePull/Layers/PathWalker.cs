using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// What openat2(2) does with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_XDEV, for kernels without it: each component is opened by the
/// handle of the one before, as a directory and no link, and must be on the same mount.
/// </summary>
internal static class PathWalker
{
    /// <param name="path">Components joined by "/", without "", "." and "..", ending in NUL.</param>
    /// <returns>0 or an errno.</returns>
    internal static int OpenBelow(SafeFileHandle from, ReadOnlySpan<byte> path, out SafeFileHandle? opened)
    {
        opened = null;
        int errno = Libc.TryStatus(from, out FileStatus start);
        SafeFileHandle at = from;
        foreach (Range range in path[..^1].Split((byte)'/'))
        {
            if (errno == 0)
            {
                errno = Step(at, EntryPath.Terminated(path[range]), start, out opened);
            }

            if (at != from)
            {
                at.Dispose();
            }

            if (errno != 0)
            {
                return errno;
            }

            at = opened!;
        }

        return 0;
    }

    private static int Step(SafeFileHandle from, byte[] name, FileStatus start, out SafeFileHandle? opened)
    {
        int errno = Libc.OpenAt(from, name, OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow, 0, out opened);
        if (errno != 0)
        {
            return errno;
        }

        errno = Libc.TryStatus(opened!, out FileStatus status);
        if (errno == 0 && !status.IsOnMountOf(start))
        {
            errno = Errno.CrossDevice;
        }

        if (errno != 0)
        {
            opened!.Dispose();
            opened = null;
        }

        return errno;
    }
}
