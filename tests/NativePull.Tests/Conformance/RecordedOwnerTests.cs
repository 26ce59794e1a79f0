using System.Globalization;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// <c>--ownership override-stat</c> as libkrun's file system device reads it, by the rules of its source, for it runs where the host is macOS
/// (src/devices/src/virtio/fs/macos/passthrough.rs): 32 bytes at most; three fields, of which it wants all; more are passed over. The other two readers are
/// run: <see cref="ContainersStorageTests"/>, <see cref="LossyTargetTests"/>.
/// </summary>
public sealed class RecordedOwnerTests
{
    private const int Buffer = 32;
    private const uint TypeBits = 0xF000; // S_IFMT, inode(7)

    [Fact]
    public async Task Libkrun_takes_the_images_owner_type_and_mode_from_what_is_recorded()
    {
        byte[] tar = new TarBuilder()
            .Directory("d/", 0x3FF, uid: 7, gid: 8).File("d/su", "x", 0x9ED, uid: 4294967294, gid: 4294967294).File("d/closed", default, 0, uid: 5, gid: 6)
            .End().ToArray();
        using LayerRun run = new(LayoutLayer.Of(tar));

        (await run.RunAsync("--rootfs", run["r"], "--ownership", "override-stat")).Expect(0);

        Assert.Equal((7u, 8u, 0x4000u | 0x3FF), await ReadAsync(run["r/d"], 0x4000));
        Assert.Equal((4294967294u, 4294967294u, 0x8000u | 0x9ED), await ReadAsync(run["r/d/su"], 0x8000));
        Assert.Equal((5u, 6u, 0x8000u), await ReadAsync(run["r/d/closed"], 0x8000));
    }

    // hostType: what the host's stat says; a mode without a type leaves it as it is
    private static async Task<(uint Uid, uint Gid, uint Mode)> ReadAsync(string path, uint hostType)
    {
        string value = (await Binary.ProgramAsync("getfattr", "--only-values", "-n", "user.containers.override_stat", "--absolute-names", path)).Expect(0).Out;
        Assert.InRange(value.Length, 1, Buffer);
        string[] fields = value.Split(':');
        uint mode = Convert.ToUInt32(fields[2], 8);
        return (
            uint.Parse(fields[0], NumberStyles.None, CultureInfo.InvariantCulture),
            uint.Parse(fields[1], NumberStyles.None, CultureInfo.InvariantCulture),
            (mode & TypeBits) == 0 ? hostType | mode : mode);
    }
}
