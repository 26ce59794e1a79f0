using System.Runtime.InteropServices;

namespace NativePull.Tests.Conformance;

/// <summary>
/// Work on a thread with mounts of its own: what it mounts, nobody else sees, and the kernel takes it away with the thread. Each gets an empty tmpfs.
/// </summary>
internal static partial class MountNamespace
{
    private const int NewMountNamespace = 0x20000;
    private const int FileSystemAttributes = 0x200;
    private const ulong ReadOnly = 1;
    private const ulong RecursivelyPrivate = 0x4000 | 0x40000;
    private const int Detach = 2;

    internal static void Run(string mountPoint, Action work)
    {
        Exception? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                Check(Unshare(NewMountNamespace | FileSystemAttributes), "unshare");
                Check(Mount("none", "/", null, RecursivelyPrivate, null), "mount /");
                Check(Mount("tmpfs", mountPoint, "tmpfs", 0, "mode=0755"), $"mount {mountPoint}");
                work();
            }
#pragma warning disable CA1031 // carried over to the caller's thread
            catch (Exception e)
#pragma warning restore CA1031
            {
                failure = e;
            }
            finally
            {
                _ = Unmount(mountPoint, Detach);
            }
        });
        thread.Start();
        thread.Join();
        if (failure is not null)
        {
            throw new AggregateException(failure);
        }
    }

    /// <summary>A read-only overlay of directories, the topmost first.</summary>
    internal static void MountOverlay(string mountPoint, IEnumerable<string> topFirst, string options = "") =>
        Check(Mount("overlay", mountPoint, "overlay", ReadOnly, $"lowerdir={string.Join(':', topFirst)}{options}"), $"mount {mountPoint}");

    internal static void Unmount(string mountPoint) => Check(Unmount(mountPoint, Detach), $"umount {mountPoint}");

    private static void Check(int result, string call)
    {
        if (result < 0)
        {
            throw new IOException($"{call}: errno {Marshal.GetLastPInvokeError()}");
        }
    }

    [LibraryImport("libc", EntryPoint = "unshare", SetLastError = true)]
    private static partial int Unshare(int flags);

    [LibraryImport("libc", EntryPoint = "mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Mount(string source, string target, string? type, ulong flags, string? data);

    [LibraryImport("libc", EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Unmount(string target, int flags);
}
