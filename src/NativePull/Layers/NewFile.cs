using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>Makes what an entry is, under a name that must be free, closed to everybody but its owner until it is finished.</summary>
internal static class NewFile
{
    private const uint OwnerReadsAndWrites = 0x180; // S_IRUSR | S_IWUSR

    private static readonly int Flags = OpenFlags.WriteOnly | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow;

    /// <summary>An empty file; 0 or an errno.</summary>
    internal static int Create(SafeFileHandle directory, byte[] name, out SafeFileHandle? made) =>
        Libc.OpenAt(directory, name, Flags, OwnerReadsAndWrites, out made);

    /// <summary>A symbolic link, fifo or device; 0 or an errno.</summary>
    internal static int CreateSpecial(SafeFileHandle directory, byte[] name, TarEntry entry) => entry.Kind switch
    {
        TarEntryKind.Symlink => Libc.MakeSymlink([.. entry.LinkName, 0], directory, name),
        TarEntryKind.Fifo => Libc.MakeNode(directory, name, FileType.Fifo | OwnerReadsAndWrites, 0, 0),
        TarEntryKind.CharacterDevice => Libc.MakeNode(directory, name, FileType.Character | OwnerReadsAndWrites, entry.DeviceMajor, entry.DeviceMinor),
        _ => Libc.MakeNode(directory, name, FileType.Block | OwnerReadsAndWrites, entry.DeviceMajor, entry.DeviceMinor),
    };
}
