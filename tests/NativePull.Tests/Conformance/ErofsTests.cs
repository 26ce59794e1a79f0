using System.Globalization;
using System.Text.RegularExpressions;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Conformance;

/// <summary>
/// What <c>--tar</c> writes, through a pipe into <c>mkfs.erofs --tar</c>, is in the kernel's eyes the tree that <c>--rootfs</c> makes. What mkfs.erofs
/// loses of any archive is told apart by giving it GNU tar's archive of that tree.
/// </summary>
[Collection(WitnessTests.Name)]
public sealed class ErofsTests(WitnessFixture fixture)
{
    // Before 1.9 it reads -86400.25 as a quarter after second -86400.
    private const string FractionBefore1970 = "old";

    [Fact]
    public async Task The_archive_of_the_real_image_becomes_a_file_system_with_the_tree_of_the_image()
    {
        fixture.SkipUnlessReady();
        string mkfs = await MakerAsync();
        using TemporaryDirectory work = new();

        await MakeAsync(mkfs, work["image"], $"'{Binary.File}' extract '{fixture.Reference}' --store '{fixture.Store}' --tar - -q");

        await AssertIsAsync(mkfs, work, fixture.Rootfs);
    }

    [Fact]
    public async Task An_awkward_tree_does_too()
    {
        string mkfs = await MakerAsync();
        using TemporaryDirectory work = new();
        await AwkwardTree.LayoutAsync(work);
        (await Binary.RunAsync("extract", $"oci:{work["layout"]}", "-q", "--rootfs", work["rootfs"])).Expect(0);

        await MakeAsync(mkfs, work["image"], $"'{Binary.File}' extract 'oci:{work["layout"]}' --tar - -q");

        Assert.Contains(FileTree.Read(work["rootfs"])["dir"], text => text == '='); // attributes of a directory that is listed twice
        SortedDictionary<string, string> mounted = await AssertIsAsync(mkfs, work, work["rootfs"]);
        // of GNU tar's archive a mkfs.erofs before 1.9 makes 1234567890.000000012
        Assert.Contains(" 1234567890.120000000", mounted["pipe"], StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_archive_has_the_same_bytes_whoever_makes_it_under_whatever_policies()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "devices, and becoming somebody else, need root");
        using TemporaryDirectory work = new();
        await AwkwardTree.LayoutAsync(work);
        string script = $"""
            mount -t tmpfs -o mode=0777 none /mnt; cp -r '{work["layout"]}' /mnt/layout; cp '{Binary.File}' /mnt/np; cd /mnt; chmod -R a+rX layout
            ./np extract oci:layout -q --tar first
            ./np extract oci:layout -q --tar second
            (umask 0077; TZ=Asia/Tokyo LC_ALL=C ./np extract oci:layout -q --tar - --ownership squash --xattrs drop --devices fail --whiteouts overlay-user >third)
            setpriv --reuid 65534 --regid 65534 --clear-groups ./np extract oci:layout -q --tar - >fourth
            cmp first second; cmp first third; cmp first fourth; stat -c %s first
            """;

        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-euc", script);

        Assert.True(int.Parse(result.Expect(0).Out.Split('\n')[^2], CultureInfo.InvariantCulture) > 100_000, result.Out);
    }

    private static Task MakeAsync(string mkfs, string image, string archive) =>
        WitnessFixture.RunAsync("bash", "-o", "pipefail", "-c", $"{archive} | '{mkfs}' --quiet --tar=f '{image}'");

    private static async Task<SortedDictionary<string, string>> AssertIsAsync(string mkfs, TemporaryDirectory work, string rootfs)
    {
        SortedDictionary<string, string> expected = FileTree.Read(rootfs);
        SortedDictionary<string, string> ours = Mounted(work["image"], work["mnt"]);
        string[] different = [.. expected.Keys.Union(ours.Keys).Where(path => expected.GetValueOrDefault(path) != ours.GetValueOrDefault(path))];
        if (different.Length > 0)
        {
            await MakeAsync(mkfs, work["control"], $"tar -C '{rootfs}' --create --format=posix --numeric-owner --xattrs --xattrs-include='*' .");
            SortedDictionary<string, string> control = Mounted(work["control"], work["mnt"]);
            // what versions before 1.8 lose was not looked into: any path that they lose something of
            bool old = Regex.IsMatch((await Binary.ProgramAsync("bash", "-c", $"'{mkfs}' -V 2>&1")).Out, "[( ]1[.][67]([. )\n-]|$)");
            different = [.. different.Where(path => control.GetValueOrDefault(path) is var text
                && (text == expected.GetValueOrDefault(path) || (text != ours.GetValueOrDefault(path) && path != FractionBefore1970 && !old)))];
        }

        Assert.True(different.Length == 0, string.Join('\n', different.Select(path =>
            $"{TreeText.Show(path)}: expected {expected.GetValueOrDefault(path)}, mounted {ours.GetValueOrDefault(path)}")));
        return ours;
    }

    private static SortedDictionary<string, string> Mounted(string image, string at)
    {
        SortedDictionary<string, string>? tree = null;
        Directory.CreateDirectory(at);
        MountNamespace.Run(at, () =>
        {
            AwkwardTree.Run("/", $"mount -t erofs -o loop,ro '{image}' '{at}'");
            try
            {
                tree = FileTree.Read(at);
            }
            finally
            {
                MountNamespace.Unmount(at);
            }
        });
        return tree!;
    }

    // A mkfs.erofs that knows --tar, where the kernel can mount what it makes.
    private static async Task<string> MakerAsync()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        string named = Environment.GetEnvironmentVariable("NATIVEPULL_MKFS_EROFS") is { Length: > 0 } path ? path : "mkfs.erofs";
        BinaryResult help = await Binary.ProgramAsync("bash", "-c", "\"$1\" --help 2>&1", "bash", named);
        Assert.SkipUnless(help.Out.Contains("--tar=", StringComparison.Ordinal), $"{named} does not read archives (erofs-utils before 1.7, or none)");
        BinaryResult kernel = await Binary.ProgramAsync("bash", "-c", "grep -qw erofs /proc/filesystems || modprobe -q erofs");
        Assert.SkipUnless(kernel.Code == 0, "this kernel has no erofs");
        BinaryResult loop = await Binary.ProgramAsync("losetup", "-f");
        Assert.SkipUnless(loop.Code == 0, "there are no loop devices here");
        return named;
    }
}
