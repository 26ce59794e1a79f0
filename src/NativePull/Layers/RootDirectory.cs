using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// The directory that must not be left: a handle, not a string. What is below is opened from a handle by names without "..", following no link and
/// crossing no mount point: by the kernel (openat2(2)) or, where that call is missing or filtered, by <see cref="PathWalker"/>. So no open leads
/// out, whatever lies there and whoever changes it meanwhile; links are followed by <see cref="LayerDirectories"/>, as text, or not at all.
/// </summary>
internal sealed class RootDirectory : IDisposable
{
    // Bytes; PATH_MAX less its NUL.
    private const int LongestPath = 4095;

    private bool kernel;

    private RootDirectory(SafeFileHandle handle, string path, bool kernel)
    {
        Handle = handle;
        Path = path;
        this.kernel = kernel;
    }

    internal SafeFileHandle Handle { get; }

    /// <summary>For messages only.</summary>
    internal string Path { get; }

    /// <param name="kernel">Off, openat2 is not tried.</param>
    /// <exception cref="PullException">Machine: there is no such directory.</exception>
    internal static RootDirectory Open(string path, bool kernel = true)
    {
        SafeFileHandle handle = Libc.TryOpenDirectory(path) ?? throw new PullException(PullError.Machine, $"{path}: no such directory");
        return new RootDirectory(handle, path, kernel);
    }

    /// <summary>
    /// Opens a directory below another. 0 or an errno: ENOTDIR or ELOOP where something on the way is none, links included; EXDEV at a mount point.
    /// </summary>
    /// <param name="path">Components joined by "/", of any length, without "", ".", ".." and NUL; not empty.</param>
    internal int OpenBelow(SafeFileHandle from, ReadOnlySpan<byte> path, out SafeFileHandle? opened)
    {
        // what is longer than the kernel takes goes piece by piece, each from the handle of the one before
        int errno;
        for (SafeFileHandle at = from; ; at = opened!)
        {
            int length = path.Length <= LongestPath ? path.Length : path[..(LongestPath + 1)].LastIndexOf((byte)'/');
            opened = null;
            errno = length < 0 ? Errno.NameTooLong : OpenPiece(at, EntryPath.Terminated(path[..length]), out opened);
            if (at != from)
            {
                at.Dispose();
            }

            if (errno != 0 || length == path.Length)
            {
                return errno;
            }

            path = path[(length + 1)..];
        }
    }

    /// <summary>What a root has that no layer lists: mode 0755, modification time 0.</summary>
    internal void SetDefaults()
    {
        EntryMetadata.ForgetAcl(Handle);
        Failure.ThrowIf(Libc.ChangeMode(Handle, Permission.UsualDirectory), "fchmod", Path);
        Failure.ThrowIf(Libc.SetTimes(Handle, 0, 0), "futimens", Path);
    }

    public void Dispose() => Handle.Dispose();

    private int OpenPiece(SafeFileHandle from, byte[] path, out SafeFileHandle? opened)
    {
        if (kernel)
        {
            int errno = Libc.OpenBelow(from, path, out opened);
            // an old kernel, or a sandbox that answers EPERM to calls it does not know
            if (errno is not (Errno.NoSystemCall or Errno.PermissionDenied))
            {
                return errno;
            }

            kernel = false;
        }

        return PathWalker.OpenBelow(from, path, out opened);
    }
}
