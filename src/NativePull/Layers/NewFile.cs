using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>Makes what an entry is, under a name that must be free, closed to everybody but its owner until it is finished.</summary>
internal static class NewFile
{
    private static readonly int Flags = OpenFlags.WriteOnly | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow;

    /// <summary>An empty file; 0 or an errno.</summary>
    internal static int Create(SafeFileHandle directory, ReadOnlySpan<byte> name, out SafeFileHandle? made) =>
        Libc.OpenAt(directory, name, Flags, Permission.OwnerFile, out made);

    /// <summary>
    /// A file that no name leads to and that is gone when it is closed (open(2), O_TMPFILE; where the file system has none, made under a name that nothing
    /// else has and removed at once). Null: there is no place for one here.
    /// </summary>
    internal static SafeFileHandle? Nameless(SafeFileHandle directory)
    {
        int errno = Libc.OpenAt(directory, ".\0"u8, OpenFlags.Nameless | OpenFlags.ReadWrite, Permission.OwnerFile, out SafeFileHandle? made);
        return errno == 0 ? made : MadeAndRemoved(directory);
    }

    /// <summary>The same, where the file system knows only files with names.</summary>
    internal static SafeFileHandle? MadeAndRemoved(SafeFileHandle directory)
    {
        byte[] name = [.. Encoding.ASCII.GetBytes($".nativepull-{Guid.NewGuid():n}"), 0];
        int errno = Libc.OpenAt(directory, name, OpenFlags.ReadWrite | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow, Permission.OwnerFile, out SafeFileHandle? made);
        Failure.ThrowIf(errno == 0 ? Libc.Unlink(directory, name) : 0, "unlink", name);
        return made;
    }

    /// <summary>A symbolic link, fifo or device; 0 or an errno.</summary>
    internal static int CreateSpecial(SafeFileHandle directory, ReadOnlySpan<byte> name, TarEntry entry) => entry.Kind switch
    {
        TarEntryKind.Symlink => Libc.MakeSymlink([.. entry.LinkName, 0], directory, name),
        TarEntryKind.Fifo => Libc.MakeNode(directory, name, FileType.Fifo | Permission.OwnerFile, 0, 0),
        TarEntryKind.CharacterDevice => Libc.MakeNode(directory, name, FileType.Character | Permission.OwnerFile, entry.DeviceMajor, entry.DeviceMinor),
        _ => Libc.MakeNode(directory, name, FileType.Block | Permission.OwnerFile, entry.DeviceMajor, entry.DeviceMinor),
    };
}
