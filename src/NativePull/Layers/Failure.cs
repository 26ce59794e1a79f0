using NativePull.Native;

namespace NativePull.Layers;

/// <summary>Linux errors of this room as exceptions that name the entry; what they mean (no space, no permission) their errno tells.</summary>
internal static class Failure
{
    internal static void ThrowIf(int errno, string call, ReadOnlySpan<byte> path)
    {
        if (errno != 0)
        {
            throw new LinuxException(call, TarText.Show(path), errno);
        }
    }

    internal static void ThrowIf(int errno, string call, string path)
    {
        if (errno != 0)
        {
            throw new LinuxException(call, path, errno);
        }
    }

    /// <summary>How file systems and the kernel say that they do not do such things at all; ENOSYS is FUSE's way.</summary>
    internal static bool IsRefusal(int errno) => errno is Errno.PermissionDenied or Errno.NotSupported or Errno.NoSystemCall;

    /// <summary>A refusal by what the tree is made on, rather than by what is in the archive.</summary>
    /// <param name="what">What is refused, with what to do about it.</param>
    internal static PullException CannotHold(string what, string call, ReadOnlySpan<byte> path, int errno) => new(
        errno is Errno.PermissionDenied or Errno.AccessDenied ? PullError.Permission : PullError.Machine,
        $"{Shown(path)}: this file system or process cannot hold {what}",
        new LinuxException(call, Shown(path), errno));

    /// <summary>The root is the root of an image's tree, and can be nothing but a directory.</summary>
    internal static PullException ReplacesRoot(TarEntry entry) => new(
        PullError.UnsafeEntry,
        $"archive: {(entry.Name.Length == 0 ? "an entry without a name" : TarText.Show(entry.Name))} would replace the root by a {entry.Kind}");

    private static string Shown(ReadOnlySpan<byte> path) => path.Length == 0 ? "the root directory" : TarText.Show(path);
}
