using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using NativePull.Layers;
using NativePull.Native;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// Every output of an awkward image on the file systems that machines and containers have: the tree is the one on tmpfs, the layers mount to it, the
/// archive has the same bytes, and what is there is replaced.
/// </summary>
public sealed class TargetFileSystemTests
{
    // Of the year 4147, which neither ext4 nor xfs holds.
    private const string TooLate = "future2";

    [Theory]
    [InlineData("ext4", "truncate -s 300M i; mkfs.ext4 -q i; mount -o loop i t")]
    [InlineData("xfs", "truncate -s 400M i; mkfs.xfs -q i; mount -o loop i t")]
    [InlineData("btrfs", "truncate -s 300M i; mkfs.btrfs -q i; mount -o loop i t")]
    [InlineData("overlay", "mkdir lower u w; mount -t overlay o -o lowerdir=lower,upperdir=u,workdir=w t")]
    [InlineData("overlay", "truncate -s 300M i; mkfs.ext4 -q i; mkdir e; mount -o loop i e; mkdir e/lower e/u e/w; mount -t overlay o -o lowerdir=e/lower,upperdir=e/u,workdir=e/w t")]
    public async Task All_outputs_are_whole_and_are_replaced(string name, string mount)
    {
        using TemporaryDirectory work = new();
        await AwkwardTree.LayoutAsync(work);
        await SkipUnlessMountableAsync(name);
        (await Binary.RunAsync("extract", $"oci:{work["layout"]}", "-q", "--rootfs", work["r"], "--tar", work["x"])).Expect(0);
        SortedDictionary<string, string> expected = FileTree.Read(work["r"]);
        Directory.CreateDirectory(work["mnt"]);

        MountNamespace.Run(work["mnt"], () =>
        {
            string at = work["mnt/t"];
            AwkwardTree.Run(work["mnt"], $"mkdir t m; ({mount}) 2>&1; mkdir -p t/r/old t/l/old; echo old >t/x");
            try
            {
                // the second with next to no memory, so that names go to a file there
                for (int i = 0; i < 2; i++)
                {
                    BinaryResult result = Binary.RunAsync(
                        "extract", $"oci:{work["layout"]}", "--platform", "linux/amd64", "--json", "--rootfs", $"{at}/r", "--layers", $"{at}/l", "--tar", $"{at}/x", "--replace",
                        "--limit", i == 0 ? "memory=12MiB" : "memory=1").GetAwaiter().GetResult();
                    Same(expected, FileTree.Read($"{at}/r"), result.Expect(0).Out);
                }

                MountNamespace.MountOverlay(work["mnt/m"], [.. Directory.GetDirectories($"{at}/l").OrderDescending(StringComparer.Ordinal)]);
                Same(FileTree.Read($"{at}/r"), FileTree.Read(work["mnt/m"]), null);
                MountNamespace.Unmount(work["mnt/m"]);
                AwkwardTree.Run("/", $"cmp '{work["x"]}' '{at}/x'; test \"$(ls -A '{at}' | grep -vx lost+found | xargs)\" = 'l r x'");
            }
            finally
            {
                MountNamespace.Unmount(at);
            }
        });
    }

    [Fact]
    public async Task An_ACL_that_the_directory_above_gives_to_all_that_is_made_in_it_is_not_the_images()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        using LayerRun run = new(new TarBuilder[] { new TarBuilder().Directory("d/").File("d/f", "x").Fifo("p"), new TarBuilder().File("d/g") }
            .Select(layer => LayoutLayer.Of(layer.End().ToArray())));
        using (SafeFileHandle work = Libc.TryOpenDirectory(run.Path)!) // it is there
        {
            Assert.SkipUnless(Libc.SetXattr(work, EntryMetadata.DefaultAcl, LayerStackGenerator.DefaultAcl) == 0, "the temporary directory's file system has no ACLs");
        }

        (await run.ExtractAsync()).Expect(0);

        foreach (string tree in Directory.GetDirectories(run["l"]).Append(run["r"]))
        {
            Assert.All(FileTree.Read(tree).Values, text => Assert.DoesNotContain("posix_acl", text, StringComparison.Ordinal));
        }
    }

    private static void Same(SortedDictionary<string, string> expected, SortedDictionary<string, string> actual, string? json)
    {
        string[] different = [.. expected.Keys.Union(actual.Keys).Where(path => expected.GetValueOrDefault(path) != actual.GetValueOrDefault(path))];
        if (json is not null)
        {
            // told, not passed over
            long lost = JsonDocument.Parse(json).RootElement.GetProperty("lost").GetProperty("times").GetInt64();
            Assert.Equal(different.Length, lost);
            different = [.. different.Where(path => path != TooLate)];
        }

        Assert.True(different.Length == 0, string.Join('\n', different.Select(path => $"{TreeText.Show(path)}: {expected.GetValueOrDefault(path)} but {actual.GetValueOrDefault(path)}")));
    }

    private static async Task SkipUnlessMountableAsync(string name)
    {
        BinaryResult kernel = await Binary.ProgramAsync("bash", "-c", $"grep -qw {name} /proc/filesystems || modprobe -q {name}");
        Assert.SkipUnless(kernel.Code == 0, $"this kernel has no {name}");
        if (name == "overlay")
        {
            Assert.SkipUnless(Environment.OSVersion.Version >= new Version(6, 7), "overlayfs on overlayfs knows no whiteouts before Linux 6.7");
            return;
        }

        Assert.SkipUnless((await Binary.ProgramAsync("bash", "-c", $"command -v mkfs.{name}")).Code == 0, $"there is no mkfs.{name}");
        Assert.SkipUnless((await Binary.ProgramAsync("losetup", "-f")).Code == 0, "there are no loop devices here");
    }
}
