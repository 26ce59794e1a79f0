using System.Collections.Concurrent;
using System.Globalization;
using NativePull.Layers;
using NativePull.Native;
using NativePull.Oci;
using NativePull.Store;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;
using Layer = System.Func<NativePull.Tests.Fakes.TarBuilder, NativePull.Tests.Fakes.TarBuilder>;

namespace NativePull.Tests.Conformance;

/// <summary>
/// A table of attacks: archives, and what may already lie in the root, that try to create, change, remove, open or follow something beside the root.
/// Each is tried flat and as layer directories, with both resolvers, in this process and, as root and as a user without rights, by the published executable.
/// </summary>
public sealed class BreakoutTests
{
    // The absolute path of what is beside the root, in names and targets.
    private const string Outside = "{outside}";

    // Layers; the names that must be in the flat tree afterwards (LayerStack.Words), or the reason of the refusal alone.
    private static readonly Dictionary<string, (Func<string, Layer[]> Layers, string[] Expected)> Attacks = new()
    {
        ["names with .."] = (_ => [tar => tar.File("../outside/secret", "x").File("a/../../outside/dir/../new", "y")], ["outside/secret=x", "outside/new=y"]),
        ["absolute names"] = (o => [tar => tar.File($"{o}/secret", "x").Directory($"/{o}/dir/", mode: 0)], [$"{Outside}/secret=x"]),
        ["the root's own parent"] = (_ => [tar => tar.Directory("../", mode: 0x1C0, uid: 5).Directory("../../..", mode: 0x1C0).File("..x")], ["..x="]),
        ["a file as .."] = (_ => [tar => tar.File("a/../..", "x")], [nameof(PullError.UnsafeEntry)]),
        ["a link as .."] = (_ => [tar => tar.Symlink("..", "outside")], [nameof(PullError.UnsafeEntry)]),
        ["a hard link as .."] = (_ => [tar => tar.File("f").HardLink("..", "f")], [nameof(PullError.UnsafeEntry)]),
        ["NUL in a name"] = (_ => [tar => tar.Pax("path", "a\0/../../outside/secret").File("x")], [nameof(PullError.Malformed)]),

        ["through a relative link"] = (_ => [tar => tar.Symlink("l", "../outside").File("l/secret", "x").Directory("l/dir/", mode: 0)], ["l->../outside", "outside/secret=x"]),
        ["through an absolute link"] = (o => [tar => tar.Symlink("l", o).File("l/secret", "x").Fifo("l/p")], [$"{Outside}/secret=x"]),
        ["through a relative link of the layer below"] = (_ => [tar => tar.Symlink("l", "../outside"), tar => tar.File("l/secret", "x")], ["l/", "l/secret=x"]),
        ["through an absolute link of the layer below"] = (o => [tar => tar.Symlink("l", o), tar => tar.Directory("l/dir/", mode: 0).File("l/dir/inner", "x")], ["l/", "l/dir/inner=x"]),
        ["through a chain of links"] = (_ => [tar => tar.Symlink("a", "b").Symlink("b", "c/..").Symlink("c", "../../outside/dir").File("a/secret", "x")], ["outside/secret=x"]),
        ["through a chain of links in three layers"] = (_ => [tar => tar.Symlink("a", "b"), tar => tar.Symlink("b", "../outside"), tar => tar.File("a/secret", "x")], ["a/secret=x"]),
        ["through links that go round"] = (_ => [tar => tar.Symlink("a", "b/..").Symlink("b", "a").File("a/x")], [nameof(PullError.UnsafeEntry)]),
        ["through more links than the kernel follows"] =
            (_ => [tar => Enumerable.Range(0, 41).Aggregate(tar, (t, i) => t.Symlink($"l{i}", i == 40 ? "../outside" : $"l{i + 1}")).File("l0/secret")], [nameof(PullError.UnsafeEntry)]),
        ["through a link that replaced a directory in use"] =
            (_ => [tar => tar.Directory("d/").File("d/one").Symlink("d", "../outside").File("d/secret", "x")], ["d->../outside", "outside/secret=x"]),
        ["through a directory whose parent became a link"] =
            (o => [tar => tar.Directory("d/dir/").File("d/dir/one").Symlink("d", o).File("d/dir/inner", "x")], [$"{Outside}/dir/inner=x"]),
        ["through magic links"] = (_ => [tar => tar.Symlink("l", "/proc/self/cwd").Symlink("m", "/proc/self/fd/3").File("l/x", "x").File("m/y", "y")], ["proc/self/cwd/x=x", "proc/self/fd/3/y=y"]),
        ["through a link with a long path"] =
            (_ => [tar => tar.Symlink("l", "../outside").File($"l/{string.Join('/', Enumerable.Repeat("d", 1500))}/../{string.Concat(Enumerable.Repeat("../", 1499))}secret", "x")], ["outside/secret=x"]),

        ["a file over a link"] = (o => [tar => tar.Symlink("s", $"{o}/secret").File("s", "x"), tar => tar.Symlink("t", $"{o}/secret"), tar => tar.File("t", "y", mode: 0)], ["s=x", "t=y 0"]),
        ["a directory over a link"] = (o => [tar => tar.Symlink("d", $"{o}/dir").Directory("d/", mode: 0x1C0, uid: 5), tar => tar.Symlink("e", "../outside"), tar => tar.Directory("e/", mode: 0)], []),
        ["a fifo, a link over a link"] = (o => [tar => tar.Symlink("a", $"{o}/secret").Fifo("a").Symlink("b", $"{o}/secret").Symlink("b", $"{o}/dir", uid: 7, mtime: 9)], ["a|"]),
        ["owner, mode, times and attributes of a link"] = (o => [tar => tar.Xattr("trusted.x", "1").Symlink("l", $"{o}/secret", uid: 5, gid: 6, mtime: 7)], []),
        ["the same of a link to a directory"] = (_ => [tar => tar.Xattr("user.x", "1").Member("l", '2', fields => fields.Mode(0).Uid(8).Gid(9), link: "../outside")], []),

        ["a hard link with .."] = (_ => [tar => tar.HardLink("h", "../outside/secret")], [nameof(PullError.Malformed)]),
        ["an absolute hard link"] = (o => [tar => tar.HardLink("h", $"{o}/secret")], [nameof(PullError.Malformed)]),
        ["a hard link through a link"] = (_ => [tar => tar.Symlink("l", "../outside").HardLink("h", "l/secret")], [nameof(PullError.Malformed)]),
        ["a hard link through a link of the layer below"] = (o => [tar => tar.Symlink("l", o), tar => tar.HardLink("h", "l/secret")], [nameof(PullError.Malformed)]),
        ["a hard link to a link, then a file over it"] = (o => [tar => tar.Symlink("l", $"{o}/secret").HardLink("h", "l").File("h", "x"), tar => tar.HardLink("i", "l")], ["h=x"]),
        ["a hard link from a link's place"] = (_ => [tar => tar.File("f", "x").Symlink("l", "../outside").HardLink("l/secret", "f")], ["f=x", "outside/secret=x@f"]),
        ["a hard link over a link"] = (o => [tar => tar.File("f", "x").Symlink("l", $"{o}/secret").HardLink("l", "f")], ["f=x", "l=x@f"]),
        ["a file over a hard link to a file"] = (_ => [tar => tar.File("f", "x").HardLink("g", "f"), tar => tar.File("g", "y")], ["f=x", "g=y"]),

        ["a whiteout with .."] = (_ => [tar => tar.Whiteout("../outside/secret").Whiteout("../outside").Opaque("../outside")], []),
        ["an absolute whiteout"] = (o => [tar => tar.Whiteout($"{o}/secret").Opaque(o)], []),
        ["a whiteout through a link"] = (_ => [tar => tar.Symlink("l", "../outside").Whiteout("l/secret").Opaque("l").Opaque("l/dir")], ["l->../outside"]),
        ["a whiteout through a link of the layer below"] = (o => [tar => tar.Symlink("l", o), tar => tar.Whiteout("l/secret").Opaque("l").Opaque("l/dir").Whiteout("l/dir")], []),
        ["a whiteout of a link"] = (o => [tar => tar.Symlink("l", o).Symlink("m", "../outside/secret"), tar => tar.Whiteout("l").Whiteout("m")], []),
        ["a tree with links in it removed"] = (o => [tar => tar.Directory("d/").Symlink("d/l", o).Symlink("d/m", "../../outside/dir").Fifo("d/p"), tar => tar.Whiteout("d")], []),
        ["a tree with links in it replaced"] = (o => [tar => tar.Directory("d/").Symlink("d/l", o).Fifo("d/p"), tar => tar.File("d", "x")], ["d=x"]),
        ["opaque over links"] = (o => [tar => tar.Directory("d/").Symlink("d/l", o).Fifo("d/p"), tar => tar.Opaque("d").File("d/l/secret", "x")], ["d/l/secret=x"]),
        ["a whiteout of the directory above"] = (_ => [tar => tar.File(".wh...")], [nameof(PullError.UnsafeEntry)]),
        ["a whiteout of .. with a slash in it"] = (_ => [tar => tar.File(".wh.../outside/secret")], [nameof(PullError.UnsafeEntry)]),

        ["below a fifo"] = (_ => [tar => tar.Fifo("p").File("p/x", "x").Fifo("q"), tar => tar.File("q/x", "y").Whiteout("p/x")], ["p/", "q/x=y"]),
        ["a file over a fifo, a fifo over a file"] = (_ => [tar => tar.Fifo("p").File("p", "x").File("q").Fifo("q"), tar => tar.File("q", "y")], ["p=x", "q=y"]),
        ["a hard link to a fifo"] = (_ => [tar => tar.Fifo("p").HardLink("q", "p"), tar => tar.HardLink("r", "p").File("p/x", "x")], ["q|", "p/x=x"]),
        ["below a device"] = (_ => [tar => tar.CharacterDevice("c", 5, 1).File("c/x", "x").BlockDevice("b", 7, 99), tar => tar.File("b/x", "y").Opaque("c")], ["b/x=y"]),
        ["names of our own"] = (o => [tar => tar.Symlink(".flat.nativepull", o).File(".flat.nativepull/secret").Symlink(".part", o).File(".nativepull/x")], [".nativepull/x="]),
        ["attributes that overlayfs obeys"] =
            (o => [tar => tar.File("secret", "mine"), tar => tar.Xattr("trusted.overlay.redirect", "/secret").Xattr("trusted.overlay.metacopy", "").File("x", "x")
                .Xattr("trusted.overlay.redirect", $"{o}").Xattr("trusted.overlay.opaque", "y").Directory("d/").Xattr("user.overlay.redirect", "/dir").Directory("e/")], ["x=x"]),
    };

    public static TheoryData<string, bool> Rows
    {
        get
        {
            TheoryData<string, bool> rows = [];
            foreach (string name in Attacks.Keys)
            {
                rows.Add(name, true);
                rows.Add(name, false);
            }

            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void Nothing_beside_the_root_is_touched(string attack, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "as root everything could be touched; the executable is tried without rights below");
        using TemporaryDirectory work = new();
        using World world = new(work);
        (Func<string, Layer[]> layers, string[] expected) = Attacks[attack];
        byte[][] archives = LayerStack.Of(layers(world.Outside));
        ExtractOptions options = new() { KernelResolution = openat2 };

        string? flat = RefusalOf(() => LayerStack.Flat(work, archives, options));
        string? overlay = RefusalOf(() => LayerStack.Overlay(work, archives, options));

        world.AssertUntouched();
        if (Enum.TryParse(expected.FirstOrDefault(), out PullError _))
        {
            Assert.Equal((expected[0], expected[0]), (flat, overlay));
            return;
        }

        Assert.Equal((null, null), (flat, overlay));
        string[] words = LayerStack.Words(work["flat"]);
        Assert.Empty(expected.Select(word => word.Replace(Outside, world.Outside[1..], StringComparison.Ordinal)).Except(words));
        using OverlayMount mount = new(Directory.CreateDirectory(work["m"]).FullName, Directory.GetDirectories(work["layers"]).Order());
        Assert.Equal(words.Select(WithoutGroup).Order(StringComparer.Ordinal), LayerStack.Words(mount.MountPoint).Select(WithoutGroup).Order(StringComparer.Ordinal));
    }

    // What lies in the root before the first layer; the layer; what is there afterwards.
    private static readonly Dictionary<string, (Action<string, string> Plant, Layer Layer, string[] Expected)> Planted = new()
    {
        ["a link to a directory, written through"] = ((root, o) => File.CreateSymbolicLink(root + "/d", o), tar => tar.File("d/secret", "x"), ["d/", "d/secret=x"]),
        ["a link to a directory, described"] = ((root, o) => File.CreateSymbolicLink(root + "/d", o), tar => tar.Directory("d/", mode: 0x1C0, uid: 5), ["d/ 700 5:0"]),
        ["a link to a directory, emptied"] = ((root, o) => File.CreateSymbolicLink(root + "/d", o), tar => tar.Opaque("d").Whiteout("d/secret").Opaque(""), []),
        ["a link to a file, written"] = ((root, o) => File.CreateSymbolicLink(root + "/f", o + "/secret"), tar => tar.File("f", "x"), ["f=x"]),
        ["a link to a file, hard-linked"] = ((root, o) => File.CreateSymbolicLink(root + "/f", o + "/secret"), tar => tar.HardLink("g", "f").File("f", "x").File("g", "y"), ["f=x", "g=y"]),
        ["a hard link to a file, written"] = ((root, o) => World.HardLink(o + "/dir/inner", root + "/f"), tar => tar.Fifo("f"), ["f|"]),
        ["a fifo, used as a directory and as a file"] = ((root, _) => World.MakeFifo(root + "/p", 0x1B6), tar => tar.File("p/x", "x").Opaque("p").File("p", "y"), ["p=y"]),
        ["a deep link"] = ((root, o) => File.CreateSymbolicLink(Directory.CreateDirectory(root + "/a/b").FullName + "/c", o), tar => tar.File("a/b/c/dir/inner", "x").Whiteout("a/b/c/secret"), ["a/", "a/b/", "a/b/c/", "a/b/c/dir/", "a/b/c/dir/inner=x"]),
    };

    public static TheoryData<string, bool> PlantedRows
    {
        get
        {
            TheoryData<string, bool> rows = [];
            foreach (string name in Planted.Keys)
            {
                rows.Add(name, true);
                rows.Add(name, false);
            }

            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(PlantedRows))]
    public void What_lies_in_the_root_already_leads_nowhere(string planted, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        using TemporaryDirectory work = new();
        string root = Directory.CreateDirectory(work["flat"]).FullName;
        (Action<string, string> plant, Layer layer, string[] expected) = Planted[planted];
        using World world = new(work);
        plant(root, world.Outside);
        // what planting did was seen too
        bool isWatched = !planted.StartsWith("a hard link", StringComparison.Ordinal);

        LayerStack.Flat(work, LayerStack.Of(layer), new ExtractOptions { KernelResolution = openat2 });

        world.AssertUntouched(isWatched);
        Assert.Equal(expected, LayerStack.Words(root));
    }

    [Fact]
    public void A_link_planted_where_the_tree_is_made_is_refused_and_not_followed()
    {
        using TemporaryDirectory work = new();
        using World world = new(work);
        File.CreateSymbolicLink(work[".rootfs.nativepull"], Path.Combine(world.Outside, "dir"));

        PullException refusal = Assert.Throws<PullException>(() => StagedDirectory.TryBegin(work["rootfs"], sync: false));

        Assert.Equal(PullError.Machine, refusal.Reason);
        world.AssertUntouched();
    }

    [Theory]
    [InlineData("--rootfs")]
    [InlineData("--layers")]
    public async Task What_lies_where_the_executable_makes_its_tree_leads_nowhere(string output)
    {
        using LayerRun run = new(LayoutLayer.Of(new TarBuilder().File("d/l/secret", "x").File("f", "x").File("p", "x").End().ToArray()));
        using TemporaryDirectory work = new();
        using World world = new(work);
        string[] arguments = [output, run["x"], "--ownership", "squash"];
        File.CreateSymbolicLink(run[".x.nativepull"], Path.Combine(world.Outside, "dir"));

        (await run.RunAsync(arguments)).Expect(8);

        File.Delete(run[".x.nativepull"]);
        File.CreateSymbolicLink(Directory.CreateDirectory(run[".x.nativepull/d"]).FullName + "/l", world.Outside);
        File.CreateSymbolicLink(run[".x.nativepull/f"], Path.Combine(world.Outside, "secret"));
        Assert.Equal(0, World.MakeFifo(run[".x.nativepull/p"], 0x1B6));
        (await run.RunAsync(arguments)).Expect(0);

        world.AssertUntouched();
        Assert.Equal(["layout", "x"], [.. Directory.GetFileSystemEntries(run.Path).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_mount_point_in_the_root_is_neither_entered_nor_emptied(bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounts need root");
        using TemporaryDirectory work = new();
        using World world = new(work);
        string root = Directory.CreateDirectory(work["flat/a/m"]).FullName;
        (await Binary.ProgramAsync("mount", "--bind", world.Outside, root)).Expect(0);
        try
        {
            ExtractOptions options = new() { KernelResolution = openat2 };
            Layer[] layers = [tar => tar.File("a/m/secret", "x"), tar => tar.Directory("a/m/", mode: 0), tar => tar.Whiteout("a/m"), tar => tar.Opaque("a/m"), tar => tar.Whiteout("a"), tar => tar.File("a")];
            foreach (Layer layer in layers)
            {
                Assert.Throws<LinuxException>(() => LayerStack.Flat(work, LayerStack.Of(layer), options));
            }
        }
        finally
        {
            await Binary.UnmountAsync(root);
        }

        world.AssertUntouched(opened: false);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_directory_that_another_process_keeps_swapping_for_a_link_leads_nowhere(bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root can enter a root in the making");
        using TemporaryDirectory work = new();
        using World world = new(work);
        File.CreateSymbolicLink(work["swap"], world.Outside);
        byte[][] layers = LayerStack.Of(
            tar => Enumerable.Range(0, 30).Aggregate(tar, (t, i) => t
                .Directory("d/", mode: 0x1C0 + (i % 2), uid: i)
                .File("d/secret", "x").File($"d/{i}/x", "x").Directory("d/dir/", mode: 0).File("d/dir/inner", "x").HardLink($"d/h{i}", "d/secret")
                .Symlink($"d/l{i}", "secret").Fifo("d/fifo", mode: 0).Whiteout("d/link").Opaque("d/dir")),
            tar => tar.Opaque("d").Whiteout("d/secret").File("d/new").Whiteout("d"));
        using CancellationTokenSource stop = new();
        long swaps = 0;
        Thread attacker = new(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                swaps += World.Swap(work["flat/d"], work["swap"]) ? 1 : 0;
            }
        });
        attacker.Start();
        int finished = 0;
        for (int i = 0; i < 60; i++)
        {
            try
            {
                LayerStack.Flat(work, layers, new ExtractOptions { KernelResolution = openat2 });
                finished++;
            }
            catch (Exception e) when (e is PullException or IOException)
            {
                // what it was about to use is another thing now
            }
        }

        stop.Cancel();
        attacker.Join();
        Assert.True(swaps > 500, $"{swaps} swaps, {finished} extractions came to their end");
        world.AssertUntouched(opened: false);
    }

    [Theory]
    [InlineData("--rootfs", true)]
    [InlineData("--rootfs", false)]
    [InlineData("--layers", true)]
    [InlineData("--layers", false)]
    public async Task Another_process_that_keeps_swapping_leads_the_executable_nowhere(string output, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root can enter a root in the making");
        byte[] tar = Enumerable.Range(0, 100).Aggregate(new TarBuilder(), (t, i) => t
            .Directory("d/", mode: 0x1C0 + (i % 2), uid: i).File("d/secret", "x").File($"d/{i}/x", "x").Directory("d/dir/", mode: 0).File("d/dir/inner", "x")
            .HardLink($"d/h{i}", "d/secret").Symlink($"d/l{i}", "secret").Fifo("d/fifo", mode: 0).Whiteout("d/link").Opaque("d/dir")).End().ToArray();
        using LayerRun run = new(LayoutLayer.Of(tar));
        using TemporaryDirectory work = new();
        using World world = new(work);
        string tree = output == "--rootfs" ? run[".x.nativepull/d"] : run[$".x.nativepull/01-{Digest.Of(tar).Hex[..12]}/d"];
        long swaps = 0;
        string[] arguments = ["extract", $"oci:{run.Path}/layout", "-q", "--platform", "linux/amd64", output, run["x"]];
        List<int> codes = [];
        for (int i = 0; i < 6; i++)
        {
            (await Binary.ProgramAsync("rm", "-rf", run["swap"], run["x"])).Expect(0);
            File.CreateSymbolicLink(run["swap"], world.Outside);
            using CancellationTokenSource stop = new();
            Task<long> attack = Task.Factory.StartNew(() => Swaps(tree, run["swap"], stop.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            BinaryResult result = await FilteredCallsTests.RunAsync(openat2, arguments);
            await stop.CancelAsync();
            swaps += await attack;
            // what it was about to use is another thing now: the archive's fault, as it seems, or the machine's, but none of its own
            Assert.True(result.Code is 0 or 6 or 7 or 8, $"{result.Code}: {result.Error}");
            codes.Add(result.Code);
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{swaps} swaps, exit codes {string.Join(' ', codes)}");
        Assert.True(swaps > 0, "nothing was swapped");
        world.AssertUntouched(opened: false);
    }

    private static long Swaps(string one, string other, CancellationToken stop)
    {
        long swaps = 0;
        while (!stop.IsCancellationRequested)
        {
            swaps += World.Swap(one, other) ? 1 : 0;
        }

        return swaps;
    }

    [Fact]
    public void Nobody_else_may_enter_before_the_layer_is_complete_and_setuid_comes_after_the_content()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        using TemporaryDirectory work = new();
        byte[] archive = new TarBuilder().Directory("./", mode: 0x1FF).File("su", Bytes.Repeat('x', 300_000), mode: 0x9ED, uid: 5).Directory("d/").End().ToArray();
        string flat = Directory.CreateDirectory(work["flat"]).FullName;
        using RootDirectory root = RootDirectory.Open(flat);
        root.SetDefaults();
        using LayerApplier applier = new(root, new ExtractOptions { Format = LayerFormat.Flat });
        List<(uint Root, uint File)> seen = [];

        applier.Apply(new WatchedStream(archive, () => seen.Add((ModeOf(flat), File.Exists(flat + "/su") ? ModeOf(flat + "/su") : 0))), CancellationToken.None);
        seen.Add((ModeOf(flat), 0));
        applier.Settle([], CancellationToken.None);

        Assert.All(seen, modes => Assert.Equal(0x1C0u, modes.Root));
        Assert.Contains(seen, modes => modes.File == 0x180);
        Assert.Equal((0x1FFu, 0x9EDu), (ModeOf(flat), ModeOf(flat + "/su")));
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public async Task The_executable_touches_nothing_beside_its_root_with_rights_and_without(bool asRoot, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming a user without rights needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        File.SetUnixFileMode(work.Path, (UnixFileMode)0x1FF);
        File.Copy(Binary.File, work["nativepull"]);
        ConcurrentBag<string> failures = [];
        await Parallel.ForEachAsync(Attacks.Select((attack, i) => (attack, i)), TestContext.Current.CancellationToken, async (row, token) =>
        {
            using TemporaryDirectory place = new();
            File.SetUnixFileMode(place.Path, (UnixFileMode)0x1FF);
            using World world = new(place);
            FakeImage image = new(registry, string.Create(CultureInfo.InvariantCulture, $"attack/{row.i}"));
            foreach (byte[] archive in LayerStack.Of(row.attack.Value.Layers(world.Outside)))
            {
                image.Layer(archive, Digest.Of(archive));
            }

            image.Publish();
            BinaryResult flat = await RunAsync("--rootfs", place["flat"]);
            BinaryResult overlay = await RunAsync("--layers", place["layers"]);
            int expected = row.attack.Value.Expected.FirstOrDefault() switch
            {
                nameof(PullError.UnsafeEntry) => 7,
                nameof(PullError.Malformed) => 6,
                // an attribute that the kernel sets on no link, where the policy is to keep all
                nameof(PullError.Permission) => asRoot ? 8 : 0,
                _ => 0,
            };
            if (flat.Code != expected || overlay.Code != expected)
            {
                failures.Add($"{row.attack.Key}: expected {expected}, got {flat.Code} and {overlay.Code}\n{flat.Error}{overlay.Error}");
            }

            try
            {
                world.AssertUntouched();
            }
            catch (Xunit.Sdk.XunitException touched)
            {
                failures.Add($"{row.attack.Key}: {touched.Message}");
            }

            Task<BinaryResult> RunAsync(params string[] output)
            {
                string[] who = asRoot ? ["/usr/bin/env"] : ["/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"];
                string[] filter = openat2 ? [] : ["python3", .. FilteredCallsTests.Without(38, [FilteredCallsTests.OpenAt2])];
                string[] call = [.. filter, .. who, work["nativepull"], "pull", image.Reference(), "--store", place["s"], .. output];
                return Binary.ProgramAsync(call[0], call[1..]);
            }
        });

        Assert.Empty(failures);
    }

    private static uint ModeOf(string path) => (uint)File.GetUnixFileMode(path);

    // Which names share an inode is not the same where lower files are copied up.
    private static string WithoutGroup(string word) => word.Split('@')[0];

    private static string? RefusalOf(Action extraction)
    {
        try
        {
            extraction();
            return null;
        }
        catch (PullException refusal)
        {
            return refusal.Reason.ToString();
        }
        catch (LinuxException machine)
        {
            return machine.Message;
        }
    }

    /// <summary>Tells when it is read from.</summary>
    private sealed class WatchedStream(byte[] content, Action look) : MemoryStream(content)
    {
        // reads into spans come here too
        public override int Read(byte[] buffer, int offset, int count)
        {
            look();
            return base.Read(buffer, offset, Math.Min(count, 4096));
        }
    }
}
