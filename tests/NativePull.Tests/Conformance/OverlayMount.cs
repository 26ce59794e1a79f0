using System.Runtime.InteropServices;

namespace NativePull.Tests.Conformance;

/// <summary>Layer directories under the kernel's overlayfs, read-only, until disposed.</summary>
internal sealed partial class OverlayMount : IDisposable
{
    private const uint SetFlag = 0; // FSCONFIG_SET_FLAG, fsconfig(2)
    private const uint SetString = 1; // FSCONFIG_SET_STRING, fsconfig(2)
    private const uint Create = 6; // FSCONFIG_CMD_CREATE
    private const uint ReadOnly = 1; // MOUNT_ATTR_RDONLY
    private const int CurrentDirectory = -100; // AT_FDCWD
    private const uint FromHandle = 4; // MOVE_MOUNT_F_EMPTY_PATH
    private const int Detach = 2; // MNT_DETACH

    /// <param name="mountPoint">An empty directory.</param>
    /// <param name="userXattr">What the layers say of removal is in <c>user.overlay.*</c>.</param>
    internal OverlayMount(string mountPoint, IEnumerable<string> bottomFirst, bool userXattr = false)
    {
        MountPoint = mountPoint;
        // the kernel wants two lower directories where there is no upper one
        string empty = Directory.CreateDirectory(mountPoint + ".empty").FullName;
        // one by one, for all of them need not fit the one page that mount(2) takes
        int context = OpenFileSystem("overlay", 0);
        foreach (string lower in bottomFirst.Reverse().Append(empty))
        {
            Check(Configure(context, SetString, "lowerdir+", lower, 0), lower);
        }

        if (userXattr)
        {
            Check(Configure(context, SetFlag, "userxattr", null, 0), "userxattr");
        }

        Check(Configure(context, Create, null, null, 0), "create");
        int mount = MakeMount(context, 0, ReadOnly);
        Check(MoveMount(mount, "", CurrentDirectory, mountPoint, FromHandle), "move_mount");
        _ = Close(mount);
        _ = Close(context);
    }

    internal string MountPoint { get; }

    public void Dispose() => Check(Unmount(MountPoint, Detach), "umount");

    private static void Check(int result, string call)
    {
        if (result != 0)
        {
            throw new IOException($"{call}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    [LibraryImport("libc", EntryPoint = "fsopen", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenFileSystem(string type, uint flags);

    [LibraryImport("libc", EntryPoint = "fsconfig", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Configure(int context, uint command, string? key, string? value, int number);

    [LibraryImport("libc", EntryPoint = "fsmount", SetLastError = true)]
    private static partial int MakeMount(int context, uint flags, uint attributes);

    [LibraryImport("libc", EntryPoint = "move_mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MoveMount(int from, string fromPath, int to, string toPath, uint flags);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int file);

    [LibraryImport("libc", EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Unmount(string target, int flags);
}
