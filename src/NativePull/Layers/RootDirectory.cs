using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// The directory that must not be left: a handle, not a string. Every path is resolved inside it, by the kernel (openat2(2), RESOLVE_IN_ROOT)
/// or, where that call is missing or filtered, by <see cref="PathWalker"/>.
/// </summary>
internal sealed class RootDirectory : IDisposable
{
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

    /// <summary>Opens a directory inside; its last component may be a link too. 0 or an errno.</summary>
    /// <param name="path">Relative, without NUL; empty is the root.</param>
    internal int OpenDirectory(ReadOnlySpan<byte> path, out SafeFileHandle? opened)
    {
        if (kernel)
        {
            int errno = Libc.OpenInRoot(Handle, EntryPath.Terminated(path), OpenFlags.ReadOnly | OpenFlags.Directory, out opened);
            // an old kernel, or a sandbox that answers EPERM to calls it does not know
            if (errno is not (Errno.NoSystemCall or Errno.PermissionDenied))
            {
                return errno;
            }

            kernel = false;
        }

        return PathWalker.OpenDirectory(Handle, path, out opened);
    }

    /// <summary>What a root has that no layer lists: mode 0755, modification time 0.</summary>
    internal void SetDefaults()
    {
        Failure.ThrowIf(Libc.ChangeMode(Handle, 0x1ED), "fchmod", Path);
        Failure.ThrowIf(Libc.SetTimes(Handle, 0, 0), "futimens", Path);
    }

    public void Dispose() => Handle.Dispose();
}
