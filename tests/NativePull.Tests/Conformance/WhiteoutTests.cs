using NativePull.Layers;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;
using Layer = System.Func<NativePull.Tests.Fakes.TarBuilder, NativePull.Tests.Fakes.TarBuilder>;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The rules of the image specification's layer.md as a table: what layers become as one tree and, as directories of their own, under the kernel's
/// overlayfs. Both are the same tree, and the one written here.
/// </summary>
public sealed class WhiteoutTests
{
    private static readonly Layer Base = tar => tar
        .Directory("d/", mode: 0x1C0, uid: 5, gid: 6, mtime: 100).File("d/a", "a", mtime: 7).File("d/b", "b")
        .Directory("d/sub/", mode: 0x1E8, uid: 7, mtime: 200).File("d/sub/x", "x").File("f", "f");

    private static readonly string[] BaseTree = ["d/ 700 5:6", "d/a=a", "d/b=b", "d/sub/ 750 7:0", "d/sub/x=x", "f=f"];

    // A stack; what it becomes, in the words of LayerStack, or the reason why it is refused.
    internal static readonly Dictionary<string, (Layer[] Layers, string[] Tree)> Trees = new()
    {
        ["nothing at all"] = ([tar => tar], []),
        ["a base alone"] = ([Base], BaseTree),
        ["whiteouts in the lowest layer"] = ([tar => tar.Whiteout("d/x").Opaque("e").File("d/y").Whiteout("z")], ["d/", "d/y="]),

        // "a whiteout filename consists of the prefix .wh. plus the basename of the path to be deleted"
        ["a file removed"] = ([Base, tar => tar.Whiteout("d/a")], ["d/ 700 5:6", "d/b=b", "d/sub/ 750 7:0", "d/sub/x=x", "f=f"]),
        ["a directory removed"] = ([Base, tar => tar.Whiteout("d")], ["f=f"]),
        ["a nested directory removed"] = ([Base, tar => tar.Whiteout("d/sub")], ["d/ 700 5:6", "d/a=a", "d/b=b", "f=f"]),
        ["an absent name removed"] = ([Base, tar => tar.Whiteout("d/nothing").Whiteout("nothing")], BaseTree),
        ["a name of an absent directory removed"] = ([Base, tar => tar.Whiteout("no/such/thing").Opaque("neither/this")], BaseTree),
        ["a name below a file removed"] = ([Base, tar => tar.Whiteout("f/x").Opaque("f")], BaseTree),
        ["removed, and there again a layer later"] =
            ([Base, tar => tar.Whiteout("d"), tar => tar.File("d/new", "n")], ["d/", "d/new=n", "f=f"]),
        ["removed twice"] = ([Base, tar => tar.Whiteout("f"), tar => tar.Whiteout("f").Whiteout("d")], []),
        ["a whiteout that is a directory"] = ([Base, tar => tar.Directory("d/.wh.a/")], ["d/ 700 5:6", "d/b=b", "d/sub/ 750 7:0", "d/sub/x=x", "f=f"]),
        ["a link removed, not what it leads to"] =
            ([tar => tar.File("t", "t").Symlink("l", "t").Directory("dir/").File("dir/f").Symlink("m", "dir"), tar => tar.Whiteout("l").Whiteout("m")], ["dir/", "dir/f=", "t=t"]),

        // "whiteout files MUST only apply to resources in lower/parent layers", "regardless of the ordering"
        ["whiteout, then the file"] = ([Base, tar => tar.Whiteout("f").File("f", "new")], [.. BaseTree[..5], "f=new"]),
        ["the file, then its whiteout"] = ([Base, tar => tar.File("f", "new").Whiteout("f")], [.. BaseTree[..5], "f=new"]),
        ["whiteout, file, whiteout"] = ([Base, tar => tar.Whiteout("f").File("f", "new").Whiteout("f")], [.. BaseTree[..5], "f=new"]),
        ["whiteout, then the directory"] = ([Base, tar => tar.Whiteout("d").Directory("d/").File("d/n")], ["d/", "d/n=", "f=f"]),
        ["the directory, then its whiteout"] = ([Base, tar => tar.Directory("d/").File("d/n").Whiteout("d")], ["d/", "d/n=", "f=f"]),
        ["an implied directory, then its whiteout"] = ([Base, tar => tar.File("d/n").Whiteout("d")], ["d/", "d/n=", "f=f"]),
        ["a nested implied directory, then a whiteout above it"] = ([Base, tar => tar.File("d/sub/n").Whiteout("d")], ["d/", "d/sub/", "d/sub/n=", "f=f"]),
        ["whiteout, then something deep below"] = ([Base, tar => tar.Whiteout("d").File("d/sub/n")], ["d/", "d/sub/", "d/sub/n=", "f=f"]),
        ["whiteouts of a directory and within it"] = ([Base, tar => tar.Whiteout("d/a").Whiteout("d")], ["f=f"]),
        ["whiteouts within a directory and of it"] = ([Base, tar => tar.Whiteout("d").Whiteout("d/a").Opaque("d/sub")], ["f=f"]),
        ["a removed directory that is a file now"] = ([Base, tar => tar.Whiteout("d").File("d", "file")], ["d=file", "f=f"]),
        ["a link of the layer, then its whiteout"] = ([Base, tar => tar.Symlink("f", "d").Whiteout("f")], [.. BaseTree[..5], "f->d"]),
        ["a hard link of the layer, then its whiteout"] = ([Base, tar => tar.File("g", "g").HardLink("f", "g").Whiteout("f").Whiteout("g")], [.. BaseTree[..5], "f=g", "g=g@f"]),

        // "an opaque whiteout entry is a file with the name .wh..wh..opq indicating that all siblings are hidden in the lower layer"
        ["opaque alone"] = ([Base, tar => tar.Opaque("d")], ["d/ 700 5:6", "f=f"]),
        ["opaque root"] = ([Base, tar => tar.Opaque("").File("n")], ["n="]),
        ["opaque root at the end"] = ([Base, tar => tar.File("d/n").Opaque("")], ["d/", "d/n="]),
        ["opaque before its siblings"] = ([Base, tar => tar.Opaque("d").File("d/n")], ["d/ 700 5:6", "d/n=", "f=f"]),
        ["opaque after its siblings"] = ([Base, tar => tar.File("d/n").Opaque("d")], ["d/ 700 5:6", "d/n=", "f=f"]),
        ["opaque twice"] = ([Base, tar => tar.Opaque("d").File("d/n").Opaque("d")], ["d/ 700 5:6", "d/n=", "f=f"]),
        ["opaque, and a sibling of the same name"] = ([Base, tar => tar.File("d/a", "new").Opaque("d")], ["d/ 700 5:6", "d/a=new", "f=f"]),
        ["opaque above an implied directory, before"] = ([Base, tar => tar.Opaque("d").File("d/sub/n")], ["d/ 700 5:6", "d/sub/", "d/sub/n=", "f=f"]),
        ["opaque above an implied directory, after"] = ([Base, tar => tar.File("d/sub/n").Opaque("d")], ["d/ 700 5:6", "d/sub/", "d/sub/n=", "f=f"]),
        ["nested opaque"] = ([Base, tar => tar.File("d/n").Opaque("d/sub").File("d/sub/n")], ["d/ 700 5:6", "d/a=a", "d/b=b", "d/n=", "d/sub/ 750 7:0", "d/sub/n=", "f=f"]),
        ["opaque in opaque"] = ([Base, tar => tar.Opaque("d").Opaque("d/sub").File("d/sub/n")], ["d/ 700 5:6", "d/sub/", "d/sub/n=", "f=f"]),
        ["a whiteout in an opaque directory"] = ([Base, tar => tar.Opaque("d").Whiteout("d/a").File("d/n").Whiteout("d/n")], ["d/ 700 5:6", "d/n=", "f=f"]),
        ["a whiteout below an opaque directory"] = ([Base, tar => tar.Opaque("d").Whiteout("d/sub/x").File("d/sub/n")], ["d/ 700 5:6", "d/sub/", "d/sub/n=", "f=f"]),
        ["a whiteout, then its directory opaque"] = ([Base, tar => tar.Whiteout("d/a").Whiteout("d/sub/x").Opaque("d")], ["d/ 700 5:6", "f=f"]),
        ["opaque over three layers"] =
            ([Base, tar => tar.File("d/two", "2"), tar => tar.Opaque("d").File("d/three", "3"), tar => tar.File("d/four", "4")], ["d/ 700 5:6", "d/four=4", "d/three=3", "f=f"]),

        // "hidden": aufs's own names
        ["names of aufs"] = ([Base, tar => tar.File(".wh..wh.aufs").Directory(".wh..wh.plnk/").File(".wh..wh.plnk/1.2", "x").File("d/.wh..wh.orph")], BaseTree),

        // "if the entry and the existing path are both directories, then the existing path's attributes MUST be replaced"
        ["a directory over a directory"] = ([Base, tar => tar.Directory("d/", mode: 0x1ED, uid: 1, gid: 2)], ["d/ 1:2", .. BaseTree[1..]]),
        ["a directory twice in one layer"] = ([tar => tar.Xattr("user.x", "1").Directory("d/").File("d/f").Directory("d/", mode: 0x1C0)], ["d/ 700", "d/f="]),
        ["a directory after its content"] = ([tar => tar.File("d/e/f").Directory("d/e/", mode: 0x140, uid: 3).Directory("d/", mode: 0x140)], ["d/ 500", "d/e/ 500 3:0", "d/e/f="]),
        // "in all other cases: removing the file path, recreating the file path"
        ["a file over a directory"] = ([Base, tar => tar.File("d", "file")], ["d=file", "f=f"]),
        ["a directory over a file"] = ([Base, tar => tar.Directory("f/").File("f/g")], [.. BaseTree[..5], "f/", "f/g="]),
        ["an implied directory over a file"] = ([Base, tar => tar.File("f/g")], [.. BaseTree[..5], "f/", "f/g="]),
        ["a link over a directory"] = ([Base, tar => tar.Symlink("d", "f")], ["d->f", "f=f"]),
        ["a directory over a link to a directory"] = ([tar => tar.Directory("t/").File("t/x").Symlink("l", "t"), tar => tar.Directory("l/").File("l/y")], ["l/", "l/y=", "t/", "t/x="]),
        ["a file over a link"] = ([tar => tar.File("t", "t").Symlink("l", "t"), tar => tar.File("l", "new")], ["l=new", "t=t"]),
        ["a fifo over a file, a file over a fifo"] = ([tar => tar.File("a").Fifo("b"), tar => tar.Fifo("a").File("b")], ["a|", "b="]),
        ["a device over a directory"] = ([Base, tar => tar.CharacterDevice("d", 1, 3)], ["dc1:3", "f=f"]),
        ["file, directory, file of one name in one layer"] = ([Base, tar => tar.File("d").Directory("d/").File("d/n").File("d", "3")], ["d=3", "f=f"]),
        ["file, then directory of one name in one layer"] = ([Base, tar => tar.File("d").Directory("d/").File("d/n")], ["d/", "d/n=", "f=f"]),
        ["a file twice in one layer"] = ([tar => tar.File("x", "1").HardLink("y", "x").File("x", "2")], ["x=2", "y=1"]),
        ["a directory replaced and below it something again"] = ([Base, tar => tar.File("d/n").File("d", "1").File("d/m", "2")], ["d/", "d/m=2", "f=f"]),

        // parents that the layer does not list
        ["implied parents keep what lower layers say"] = ([Base, tar => tar.File("d/sub/n")], [.. BaseTree, "d/sub/n="]),
        ["implied parents of the nearest lower layer"] =
            ([Base, tar => tar.Directory("d/", mode: 0x1FF, uid: 9), tar => tar.File("d/n"), tar => tar.File("d/m")], ["d/ 777 9:0", "d/a=a", "d/b=b", "d/m=", "d/n=", .. BaseTree[3..]]),
        ["implied parents that nothing lists"] = ([tar => tar.File("a/b/c", "c", uid: 4)], ["a/", "a/b/", "a/b/c=c 4:0"]),
        ["an implied directory below one with the setgid bit"] = ([tar => tar.Directory("s/", mode: 0x5FD, gid: 50), tar => tar.File("s/a/b")], ["s/ 2775 0:50", "s/a/", "s/a/b="]),
        ["read-only directories with content"] = ([tar => tar.Directory("r/", mode: 0x16D).File("r/f", "1"), tar => tar.File("r/g", "2").Whiteout("r/f")], ["r/ 555", "r/g=2"]),

        // links on the way: the layer alone decides
        ["below a link of the same layer"] = ([tar => tar.Directory("t/").Symlink("l", "t").File("l/x", "x")], ["l->t", "t/", "t/x=x"]),
        ["below an absolute link of the same layer"] = ([tar => tar.Directory("t/").Symlink("d/l", "/t").File("d/l/x", "x")], ["d/", "d/l->/t", "t/", "t/x=x"]),
        ["below a link of the same layer to a lower directory"] = ([Base, tar => tar.Symlink("l", "d/sub").File("l/n", "n")], [.. BaseTree[..4], "d/sub/n=n", "d/sub/x=x", "f=f", "l->d/sub"]),
        ["below a link of the same layer to nothing"] = ([tar => tar.Symlink("l", "no/where").File("l/x", "x")], ["l->no/where", "no/", "no/where/", "no/where/x=x"]),
        ["below links with dots"] = ([tar => tar.Directory("a/b/").Symlink("a/up", "../a/./b//..").File("a/up/x", "x")], ["a/", "a/b/", "a/up->../a/./b//..", "a/x=x"]),
        ["below a link through what is not there"] = ([tar => tar.Symlink("l", "no/../x").File("l/f")], ["l->no/../x", "x/", "x/f="]),
        ["below a link through what is not there, out of its directory"] =
            ([tar => tar.Symlink("a/l", "no/no/../../../x").File("a/l/f").File("a/l/g")], ["a/", "a/l->no/no/../../../x", "x/", "x/f=", "x/g="]),
        ["below a link through a file of the layer"] = ([tar => tar.File("no").Symlink("l", "no/../x").File("l/f")], ["l->no/../x", "no=", "x/", "x/f="]),
        ["below a link through a lower file"] = ([Base, tar => tar.Symlink("l", "f/../x").File("l/n")], [.. BaseTree, "l->f/../x", "x/", "x/n="]),
        ["below a link through a lower link"] = ([tar => tar.Symlink("s", "t"), tar => tar.Symlink("l", "s/../x").File("l/f")], ["l->s/../x", "s->t", "x/", "x/f="]),
        ["below a link through what is not there, then a link"] =
            ([tar => tar.Directory("t/").Symlink("m", "t").Symlink("l", "no/../m/x").File("l/f")], ["l->no/../m/x", "m->t", "t/", "t/x/", "t/x/f="]),
        ["a hard link through a link through what is not there"] =
            ([tar => tar.File("x/f", "1").Symlink("a/l", "no/../../x").HardLink("g", "a/l/f")], ["a/", "a/l->no/../../x", "g=1", "x/", "x/f=1@g"]),
        ["a hard link through a link through what is not there to a lower file"] =
            ([Base, tar => tar.Symlink("a/l", "no/../../d").HardLink("g", "a/l/a")], ["a/", "a/l->no/../../d", .. BaseTree[..1], "d/a=a", .. BaseTree[2..], "g=a@d/a"]),
        ["below a link of a lower layer"] = ([tar => tar.Directory("t/").File("t/x").Symlink("l", "t"), tar => tar.File("l/y", "y")], ["l/", "l/y=y", "t/", "t/x="]),
        ["removal below a link of a lower layer"] = ([tar => tar.Directory("t/").File("t/x").Symlink("l", "t"), tar => tar.Whiteout("l/x").Opaque("l")], ["l->t", "t/", "t/x="]),
        ["removal below a link of the same layer"] = ([tar => tar.File("t/x").File("t/y"), tar => tar.Symlink("l", "t").Whiteout("l/x")], ["l->t", "t/", "t/x=", "t/y="]),
        ["removal below a link of the same layer that goes round"] = ([Base, tar => tar.Symlink("l", "l").Whiteout("l/x").Opaque("l")], [.. BaseTree, "l->l"]),
        ["removal below a lower file, then a hard link to it"] = ([Base, tar => tar.Whiteout("f/x").HardLink("g", "f")], [.. BaseTree, "g=f@f"]),
        ["a hard link to a lower file, then a link where its directory was"] = ([Base, tar => tar.HardLink("g", "d/a").Symlink("d", "e").Directory("e/")], ["d->e", "e/", "f=f", "g=a"]),
        ["below a hard link to a lower link"] = ([tar => tar.Symlink("l", "t"), tar => tar.HardLink("m", "l").File("m/x", "x").HardLink("l", "l").File("l/x", "y")], ["l/", "l/x=y", "m/", "m/x=x"]),
        ["below a hard link to a link of the layer"] = ([tar => tar.Directory("t/").Symlink("l", "t").HardLink("m", "l").File("m/x", "x")], ["l->t", "m->t@l", "t/", "t/x=x"]),

        // hard links
        ["a hard link in the layer"] = ([tar => tar.File("x", "1", uid: 3).HardLink("d/y", "x").HardLink("./z", "/d/y")], ["d/", "d/y=1 3:0", "x=1 3:0@d/y", "z=1 3:0@d/y"]),
        ["a hard link to a lower layer"] = ([Base, tar => tar.HardLink("g", "d/a")], [.. BaseTree, "g=a@d/a"]),
        ["two hard links to a lower layer"] = ([Base, tar => tar.HardLink("g", "d/a").HardLink("h", "g").HardLink("i", "d/a")], [.. BaseTree, "g=a@d/a", "h=a@d/a", "i=a@d/a"]),
        ["a hard link to a lower file that the layer then removes"] = ([Base, tar => tar.HardLink("g", "d/a").Whiteout("d/a")], ["d/ 700 5:6", "d/b=b", .. BaseTree[3..], "g=a"]),
        ["a hard link to a lower file whose directory the layer then removes"] = ([Base, tar => tar.HardLink("g", "d/a").Whiteout("d")], ["f=f", "g=a"]),
        ["a hard link to a lower file that the layer then hides"] = ([Base, tar => tar.HardLink("g", "d/a").Opaque("d")], ["d/ 700 5:6", "f=f", "g=a"]),
        ["a hard link to a lower file that the layer then replaces"] = ([Base, tar => tar.HardLink("g", "f").File("f", "new")], [.. BaseTree[..5], "f=new", "g=f"]),
        ["a hard link to a lower file, then replaced"] = ([Base, tar => tar.HardLink("g", "f").File("g", "new")], [.. BaseTree, "g=new"]),
        ["a hard link to a lower file, then a directory"] = ([Base, tar => tar.HardLink("g", "f").Directory("g/")], [.. BaseTree, "g/"]),
        ["a hard link to a lower file in a directory that goes"] = ([Base, tar => tar.HardLink("n/g", "f").File("n", "1")], [.. BaseTree, "n=1"]),
        ["a hard link to a lower file, then its whiteout"] = ([Base, tar => tar.HardLink("g", "f").Whiteout("g")], [.. BaseTree, "g=f@f"]),
        ["a hard link over the file that it links"] = ([Base, tar => tar.HardLink("f", "f").HardLink("d/a", "./d/a")], BaseTree),
        ["a hard link over a lower directory"] = ([Base, tar => tar.HardLink("d/sub", "f")], [.. BaseTree[..3], "d/sub=f", "f=f@d/sub"]),
        ["a hard link in the layer whose target is replaced"] = ([tar => tar.File("x", "1").HardLink("y", "x").Directory("x/")], ["x/", "y=1"]),
        ["a hard link to a link"] = ([tar => tar.Symlink("l", "nowhere").HardLink("m", "l")], ["l->nowhere", "m->nowhere@l"]),
        ["a hard link to a lower link and a lower fifo"] = ([tar => tar.Symlink("l", "x", uid: 3).Fifo("p"), tar => tar.HardLink("m", "l").HardLink("q", "p")], ["l->x 3:0", "m->x 3:0@l", "p|", "q|@p"]),
        ["a hard link through a link of the layer into a lower layer"] = ([Base, tar => tar.Symlink("s", "d").HardLink("g", "s/a")], [.. BaseTree, "g=a@d/a", "s->d"]),
    };

    public static TheoryData<string, bool> Rows => WithBothResolvers(Trees.Keys);

    [Theory]
    [MemberData(nameof(Rows))]
    public void Layers_become_the_same_tree_flat_and_under_overlayfs(string stack, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners, devices and mounts need root");
        (Layer[] layers, string[] tree) = Trees[stack];
        using TemporaryDirectory work = new();
        ExtractOptions options = new() { KernelResolution = openat2 };

        string flat = LayerStack.Flat(work, LayerStack.Of(layers), options);
        List<string> overlay = LayerStack.Overlay(work, LayerStack.Of(layers), options);
        using OverlayMount mount = new(Directory.CreateDirectory(work["m"]).FullName, overlay);

        string[] expected = [.. tree.Order(StringComparer.Ordinal)];
        Assert.Equal(expected, LayerStack.Words(flat).Order(StringComparer.Ordinal));
        Assert.Equal(expected, LayerStack.Words(mount.MountPoint).Order(StringComparer.Ordinal));
        TreeListing.AssertSame(TreeListing.Of(flat), TreeListing.Of(mount.MountPoint));
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public async Task The_executable_makes_the_same_tree_in_every_output_and_style(string stack, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners, devices and mounts need root");
        (Layer[] layers, string[] tree) = Trees[stack];
        using LayerRun run = new(LayerStack.Of(layers).Select(LayoutLayer.Of)) { OpenAt2 = openat2 };

        (await run.ExtractAsync("--whiteouts", "overlay")).Expect(0);
        (await run.RunAsync("--layers", run["u"], "--whiteouts", "overlay-user")).Expect(0);

        AwkwardTree.Run(run.Path, "mkdir t; tar -x -p --numeric-owner --delay-directory-restore -C t -f x");
        using OverlayMount mount = new(Directory.CreateDirectory(run["m"]).FullName, Directory.GetDirectories(run["l"]).Order(StringComparer.Ordinal));
        using OverlayMount user = new(Directory.CreateDirectory(run["n"]).FullName, Directory.GetDirectories(run["u"]).Order(StringComparer.Ordinal), userXattr: true);
        string[] expected = [.. tree.Order(StringComparer.Ordinal)];
        TreeListing rootfs = TreeListing.Of(run["r"]);
        Assert.Equal(expected, LayerStack.Words(run["r"]).Order(StringComparer.Ordinal));
        TreeListing.AssertSame(rootfs, TreeListing.Of(run["t"]));
        TreeListing.AssertSame(rootfs, TreeListing.Of(mount.MountPoint));
        TreeListing.AssertSame(rootfs, TreeListing.Of(user.MountPoint));
    }

    // A stack that is refused for what its last layer says.
    internal static readonly Dictionary<string, (Layer[] Layers, string Reason)> Refusals = new()
    {
        ["whiteout of no name"] = ([Base, tar => tar.File("d/.wh.")], nameof(PullError.UnsafeEntry)),
        ["whiteout of the directory itself"] = ([Base, tar => tar.File("d/.wh..")], nameof(PullError.UnsafeEntry)),
        ["whiteout of the directory above"] = ([Base, tar => tar.File("d/.wh...")], nameof(PullError.UnsafeEntry)),
        ["below a whiteout"] = ([Base, tar => tar.File("d/.wh.a/b")], nameof(PullError.UnsafeEntry)),
        ["below a link to a whiteout's name"] = ([tar => tar.Symlink("l", ".wh.n").File("l/f")], nameof(PullError.UnsafeEntry)),
        ["below a link to the longest of a whiteout's names"] = ([tar => tar.Symlink("l", ".wh." + new string('n', 255)).File("l/f")], nameof(PullError.UnsafeEntry)),
        ["a hard link to the longest of a whiteout's names"] = ([tar => tar.HardLink("l", ".wh." + new string('n', 255))], nameof(PullError.Malformed)),
        ["a link as the root"] = ([Base, tar => tar.Symlink("d/..", "x")], nameof(PullError.UnsafeEntry)),
        ["links that go round"] = ([tar => tar.Symlink("a", "b").Symlink("b", "a").File("a/x")], nameof(PullError.UnsafeEntry)),
        ["a hard link to nothing"] = ([Base, tar => tar.HardLink("g", "nothing")], nameof(PullError.Malformed)),
        ["a hard link into nothing"] = ([Base, tar => tar.HardLink("g", "no/thing")], nameof(PullError.Malformed)),
        ["a hard link to what comes later"] = ([Base, tar => tar.HardLink("g", "later").File("later")], nameof(PullError.Malformed)),
        ["a hard link to itself"] = ([Base, tar => tar.HardLink("g", "g")], nameof(PullError.Malformed)),
        ["a hard link to what is below itself"] = ([tar => tar.File("d/f").HardLink("d", "d/f")], nameof(PullError.Malformed)),
        ["a hard link to what is below itself in a lower layer"] = ([Base, tar => tar.HardLink("d", "d/a")], nameof(PullError.Malformed)),
        ["a hard link to the root"] = ([Base, tar => tar.HardLink("g", "/.")], nameof(PullError.Malformed)),
        ["a hard link to a directory"] = ([tar => tar.Directory("d/").HardLink("g", "d")], nameof(PullError.Malformed)),
        ["a hard link to a lower directory"] = ([Base, tar => tar.HardLink("g", "d/sub")], nameof(PullError.Malformed)),
        ["a hard link to a removed file"] = ([Base, tar => tar.Whiteout("f").HardLink("g", "f")], nameof(PullError.Malformed)),
        ["a hard link into a removed directory"] = ([Base, tar => tar.Whiteout("d").HardLink("g", "d/a")], nameof(PullError.Malformed)),
        ["a hard link into an opaque directory"] = ([Base, tar => tar.Opaque("d").HardLink("g", "d/sub/x")], nameof(PullError.Malformed)),
        ["a hard link to a file removed two layers below"] = ([Base, tar => tar.Whiteout("f"), tar => tar.File("x"), tar => tar.HardLink("g", "f")], nameof(PullError.Malformed)),
        ["a hard link through a link of a lower layer"] = ([tar => tar.File("t/x").Symlink("l", "t"), tar => tar.HardLink("g", "l/x")], nameof(PullError.Malformed)),
        ["a hard link below a file"] = ([Base, tar => tar.HardLink("g", "f/x")], nameof(PullError.Malformed)),
        ["a link to nothing"] = ([tar => tar.Symlink("l", "")], nameof(PullError.Malformed)),
        ["a link with a NUL"] = ([tar => tar.Pax("linkpath", "a\0b").Symlink("l", "x")], nameof(PullError.Malformed)),
        ["a link too long for Linux"] = ([tar => tar.Symlink("l", Bytes.Repeat('x', 4096))], nameof(PullError.LimitPassed)),
        ["a name with a NUL"] = ([tar => tar.Pax("path", "a\0b").File("x")], nameof(PullError.Malformed)),
        ["a name too long for any"] = ([tar => tar.LongName(Bytes.Repeat('/', 3)).Pax("path", Bytes.Repeat('x', 70_000)).File("x")], nameof(PullError.LimitPassed)),
    };

    public static TheoryData<string, bool> RefusedRows => WithBothResolvers(Refusals.Keys);

    [Theory]
    [MemberData(nameof(RefusedRows))]
    public void Layers_are_refused_flat_and_as_directories_alike(string stack, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        (Layer[] layers, string reason) = Refusals[stack];
        using TemporaryDirectory work = new();
        ExtractOptions options = new() { KernelResolution = openat2 };

        PullException flat = Assert.Throws<PullException>(() => LayerStack.Flat(work, LayerStack.Of(layers), options));
        PullException overlay = Assert.Throws<PullException>(() => LayerStack.Overlay(work, LayerStack.Of(layers), options));

        Assert.Equal((reason, reason), (flat.Reason.ToString(), overlay.Reason.ToString()));
    }

    [Theory]
    [MemberData(nameof(RefusedRows))]
    public async Task The_executable_refuses_them_and_leaves_nothing(string stack, bool openat2)
    {
        (Layer[] layers, string reason) = Refusals[stack];
        byte[][] archives = LayerStack.Of(layers);
        using LayerRun run = new(archives.Select(LayoutLayer.Of)) { OpenAt2 = openat2 };

        await run.AssertRefusedAsync(
            reason == nameof(PullError.Malformed) ? 6 : 7, [$"layer {Digest.Of(archives[^1])}: archive: "], "--ownership", "squash", "--devices", "skip", "--xattrs", "drop");
    }

    private static TheoryData<string, bool> WithBothResolvers(IEnumerable<string> names)
    {
        TheoryData<string, bool> rows = [];
        foreach (string name in names)
        {
            rows.Add(name, true);
            rows.Add(name, false);
        }

        return rows;
    }
}
