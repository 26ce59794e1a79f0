using System.Text;

namespace NativePull.Layers;

/// <summary>
/// The attribute by which owner and mode travel where they cannot be set: <c>uid:gid:0mode</c>. Files and directories carry the whole st_mode, as
/// libkrun writes it, which reads three fields, of 32 bytes at most, and a type only where there is one (src/devices/src/virtio/fs/macos/passthrough.rs;
/// its device for Linux hosts reads none, but there are versions of it that read the same); fuse-overlayfs and containers/storage take the permission
/// bits of it. What stands in for a device or fifo carries containers/storage's longer form, <c>uid:gid:mode:char-major-minor</c>, without type bits:
/// older fuse-overlayfs adds them to those of the empty file it sees, which would make a link of a device.
/// </summary>
internal static class OverrideStat
{
    private const uint Regular = 0x8000; // S_IFREG, inode(7)
    private const uint Directory = 0x4000; // S_IFDIR

    internal static ReadOnlySpan<byte> Name => "user.containers.override_stat\0"u8;

    /// <summary>Whether an image brings this very attribute along, which must not speak for it.</summary>
    internal static bool Is(ReadOnlySpan<byte> name) => name.SequenceEqual(Name[..^1]);

    internal static byte[] Of(TarEntry entry) => entry.Kind switch
    {
        TarEntryKind.Directory => OfDirectory(entry.Uid, entry.Gid, entry.Mode),
        TarEntryKind.CharacterDevice => Special(entry, FormattableString.Invariant($"char-{entry.DeviceMajor}-{entry.DeviceMinor}")),
        TarEntryKind.BlockDevice => Special(entry, FormattableString.Invariant($"block-{entry.DeviceMajor}-{entry.DeviceMinor}")),
        TarEntryKind.Fifo => Special(entry, "pipe"),
        _ => Value(entry.Uid, entry.Gid, Regular | entry.Mode),
    };

    internal static byte[] OfDirectory(uint uid, uint gid, uint mode) => Value(uid, gid, Directory | mode);

    private static byte[] Value(uint uid, uint gid, uint mode) =>
        Encoding.ASCII.GetBytes(FormattableString.Invariant($"{uid}:{gid}:0{Convert.ToString(mode, 8)}"));

    private static byte[] Special(TarEntry entry, string type) =>
        Encoding.ASCII.GetBytes(FormattableString.Invariant($"{entry.Uid}:{entry.Gid}:{Convert.ToString(entry.Mode, 8).PadLeft(4, '0')}:{type}"));
}
