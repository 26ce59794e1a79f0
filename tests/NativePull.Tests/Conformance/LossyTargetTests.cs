using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using NativePull.Layers;
using NativePull.Native;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The executable as root, as nobody, in user namespaces and without single rights, onto file systems that hold everything or not: what can be
/// kept is kept, the rest is counted and told, and where a policy asks for more than there is, it fails and says what.
/// </summary>
public sealed class LossyTargetTests
{
    private const string Nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";

    // A file system of its own at /mnt, seen by this script alone; $ref names the image. show prints a tree; pull is the executable's.
    private const string Prelude = """
        set -eu
        umask 022
        mount --make-rprivate /
        mount -t tmpfs -o mode=0755 scratch /mnt
        cp "$0" /mnt/np
        cd /mnt
        ref=$1
        mkdir t; chmod 777 t
        show() { (cd "$1" && find . -printf '%P %y%#m %U:%G\n' | LC_ALL=C sort); }

        """;

    private static readonly string[] Everything =
    [
        " d0755 0:0", "bin d0555 0:0", "bin/ping f0755 0:0", "bin/sh l0777 0:0", "bin/su f04755 0:0", "bin/wall f02755 0:5", "dev d0755 0:0", "dev/loop0 b0660 0:0", "dev/null c0666 0:0",
        "fifo p0622 0:0", "home d0700 1234:4321", "home/hard f0400 1234:4321", "home/link l0777 1234:4321", "home/new f0600 1234:4321", "home/ro f0400 1234:4321",
        "note f0644 0:0", "opaque d0755 0:0", "opaque/new f0644 0:0", "removed d0755 0:0", "removed/b f0644 0:0", "tmp d01777 0:0",
    ];

    [Theory]
    [InlineData("a plain tmpfs", "")]
    [InlineData("mounted without setuid, devices and programs", "mount -t tmpfs -o nosuid,nodev,noexec none t;")]
    [InlineData("a umask that takes everything", "umask 0777;")]
    [InlineData("a umask that takes nothing", "umask 0000;")]
    [InlineData("a umask of the owner alone", "umask 0077;")]
    public async Task Root_keeps_everything(string what, string setUp)
    {
        string[] lines = await RunAsync($"{setUp} ./np pull $ref --store t/s --extract --rootfs t/r --json; show t/r; getfattr -d -m - t/r/bin/ping t/r/note t/r/fifo");

        Assert.Equal((0, 0, 0, 0, 0), Lost(lines[0]));
        Assert.Equal(Everything, lines[1..(Everything.Length + 1)]);
        Assert.Contains(lines, line => line.StartsWith("security.capability=", StringComparison.Ordinal));
        Assert.Contains("trusted.node=\"p\"", lines);
        Assert.True(lines.Contains("trusted.note=\"n\"") && lines.Contains("user.overlay.opaque=\"y\""), what);
    }

    [Theory]
    [InlineData("nobody", Nobody, 18, 2, 4, 2)]
    [InlineData("nobody, with a umask that takes everything", "umask 0777; " + Nobody, 18, 2, 4, 2)]
    [InlineData("nobody, with a umask that takes nothing", "umask 0000; " + Nobody, 18, 2, 4, 2)]
    [InlineData("nobody, with a umask of the owner alone", "umask 0077; " + Nobody, 18, 2, 4, 2)]
    [InlineData("root of a user namespace of one user", Nobody + " unshare -Ur", 5, 1, 3, 2)]
    [InlineData("the same with a umask that takes everything", "umask 0777; " + Nobody + " unshare -Ur", 5, 1, 3, 2)]
    [InlineData("the same with a umask that takes nothing", "umask 0000; " + Nobody + " unshare -Ur", 5, 1, 3, 2)]
    [InlineData("root without CAP_CHOWN", "setpriv --bounding-set -chown", 5, 1, 0, 2)]
    [InlineData("root without CAP_MKNOD", "setpriv --bounding-set -mknod", 0, 0, 0, 2)]
    public async Task Who_may_less_is_told_what_was_lost_and_gets_the_rest(string who, string way, long owners, long modes, long xattrs, long devices)
    {
        string[] lines = await RunAsync($"{way} /mnt/np pull $ref --store t/s --rootfs t/r --json --progress none 2>/dev/null; ls t/r/dev; show t/r; getfattr -d t/r/home/ro");

        JsonElement result = JsonDocument.Parse(lines[0]).RootElement;
        Assert.True((owners, modes, xattrs, devices, 0) == Lost(lines[0]), $"{who}: {lines[0]}");
        // one warning a kind, whatever the count
        Assert.Equal(new[] { owners, modes, xattrs, devices }.Count(lost => lost > 0), result.GetProperty("warnings").GetArrayLength());
        Assert.Contains("2 device nodes were left out (--devices skip)", result.GetProperty("warnings").EnumerateArray().Select(warning => warning.GetString()));
        Assert.Equal(Everything.Length - 2, lines.Count(line => line.Contains(':', StringComparison.Ordinal) && line[0] is not ('{' or '#')));
        Assert.Contains("user.comment=\"hi\"", lines);
        // nothing runs as somebody whom the image did not mean
        Assert.Equal(modes < 2, lines.Any(line => line.StartsWith("bin/su f04755", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_user_namespace_with_a_range_keeps_the_owners_in_it()
    {
        string[] lines = await RunAsync("""
            chown 100000:100000 t
            unshare -U sleep 100 & p=$!
            trap 'kill $p' EXIT
            until [ "$(readlink /proc/$p/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.02; done
            echo 0 100000 2000 > /proc/$p/uid_map
            echo 0 100000 4000 > /proc/$p/gid_map
            nsenter -t $p -U -S 0 -G 0 /mnt/np pull $ref --store t/s --extract --rootfs t/r --json 2> err
            show t/r; getfattr -d -m - t/r/bin/ping; ls t/s/layers/sha256
            """);

        // group 4321 is not in the range: home and what is in it
        Assert.Equal((4, 0, 3, 2, 0), Lost(lines[0]));
        Assert.Contains(" d0755 100000:100000", lines);
        Assert.Contains("bin/su f04755 100000:100000", lines);
        Assert.Contains("bin/wall f02755 100000:100005", lines);
        Assert.Contains(lines, line => line.StartsWith("security.capability=", StringComparison.Ordinal));
        Assert.Equal(2, lines.Count(line => line.EndsWith("-user-by0-try-nodev", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_setgid_bit_that_the_kernel_leaves_out_in_silence_is_counted()
    {
        string[] lines = await RunAsync(
            "setpriv --bounding-set -fsetid ./np pull $ref --store t/s --rootfs t/r --layers t/l --json 2>/dev/null; show t/r",
            registry =>
            {
                // files before and after: that other modes are kept is known by then
                byte[] layer = new TarBuilder().File("a", "", 0x1A4).File("b", "", 0x1ED).Directory("mail/", 0x5FD, 0, 8).File("wall", "", 0x5ED, 0, 5).File("z", "", 0x9ED, 1, 1)
                    .End().ToArray();
                byte[] above = new TarBuilder().File("mail/new").End().ToArray();
                return new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(layer), Digest.Of(layer)).Layer(TarBuilder.GZip(above), Digest.Of(above)).Publish();
            });

        Assert.Equal((0, 2, 0, 0, 0), Lost(lines[0]));
        Assert.Contains("mail d0775 0:8", lines);
        Assert.Contains("wall f0755 0:5", lines);
        Assert.Contains("z f04755 1:1", lines);
    }

    // chown(2) gives a file to any group of its owner's; and a directory with the setgid bit gives its own to whatever is made in it
    [Fact]
    public async Task Who_is_in_a_group_keeps_it_and_nothing_runs_for_one_that_only_its_directory_has()
    {
        string[] lines = await RunAsync(
            "setpriv --reuid 65534 --regid 65534 --groups 2000 ./np pull $ref --store t/s --rootfs t/r --json 2>/dev/null; show t/r",
            registry =>
            {
                byte[] layer = new TarBuilder().Directory("shared/", 0x5FD, 65534, 2000).File("shared/d/f").File("shared/mine", "", 0x5ED, 7, 65534)
                    .File("shared/other", "", 0x5ED, 7, 9).File("shared/ours", "", 0x5ED, 7, 2000).Symlink("shared/s", "ours", 7, 9).End().ToArray();
                return new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(layer), Digest.Of(layer)).Publish();
            });

        Assert.Equal((5, 1, 0, 0, 0), Lost(lines[0]));
        Assert.Equal(
            [
                " d0755 65534:65534", "shared d02775 65534:2000", "shared/d d0755 65534:65534", "shared/d/f f0644 65534:65534", "shared/mine f02755 65534:65534",
                "shared/other f0755 65534:65534", "shared/ours f02755 65534:2000", "shared/s l0777 65534:65534",
            ],
            lines[1..]);
    }

    [Theory]
    [InlineData("ramfs has no attributes", "mount -t ramfs none t", "", "--xattrs try")]
    [InlineData("ramfs, for layers", "mount -t ramfs none t", "--extract --xattrs try", "--whiteouts overlay-user")]
    [InlineData("ramfs, for layers of users", "mount -t ramfs none t", "--extract --xattrs try --whiteouts overlay-user", "user.* attributes")]
    [InlineData("ramfs, for recorded owners", "mount -t ramfs none t", "--ownership override-stat", "user.containers.override_stat")]
    public async Task Where_a_file_system_cannot_hold_what_the_policy_asks_for_it_is_exit_8_with_what_and_why(string what, string setUp, string options, string says)
    {
        string[] lines = await RunAsync($"{setUp}; code=0; ./np pull $ref --store t/s --rootfs t/r {options} 2>err || code=$?; echo $code; tail -n 1 err; ls t");

        Assert.True(lines[0] == "8", $"{what}: {string.Join('\n', lines)}");
        Assert.Contains("cannot hold", lines[1], StringComparison.Ordinal);
        Assert.Contains(says, lines[1], StringComparison.Ordinal);
        Assert.Equal("s", Assert.Single(lines[2..]));
    }

    [Fact]
    public async Task A_file_system_without_attributes_is_told_once_and_counted()
    {
        string[] lines = await RunAsync("mount -t ramfs none t; ./np pull $ref --store s --rootfs t/r --xattrs try --json 2>err; grep -c attribute err; show t/r");

        Assert.Equal((0, 0, 6, 0, 0), Lost(lines[0]));
        Assert.Equal("1", lines[1]);
        Assert.Equal(Everything, lines[2..]);
    }

    [Fact]
    public async Task A_file_system_of_whole_seconds_is_told()
    {
        // 128-byte inodes have no room for more
        string[] lines = await RunAsync("truncate -s 16M i; mkfs.ext4 -q -I 128 i >/dev/null 2>&1; mount -o loop i t; ./np pull $ref --store s --rootfs t/r --json 2>/dev/null; umount t");

        Assert.Equal((0, 0, 0, 0, 2), Lost(lines[0]));
    }

    [Fact]
    public async Task A_user_mounts_the_layers_in_a_namespace_and_sees_the_flattened_tree()
    {
        string[] lines = await RunAsync($$"""
            {{Nobody}} unshare -Urm bash -c '
              set -eu; cd /mnt/t; mkdir m u w
              /mnt/np pull '$ref' --store s --extract --rootfs r 2>/dev/null >/dev/null
              mount -t overlay o -o "$(/mnt/np layers '$ref' --store s --overlay),upperdir=u,workdir=w" m
              (cd r; find . -mindepth 1 -printf "%P %y%#m %U:%G %T@\n" | sort) > a; (cd m; find . -mindepth 1 -printf "%P %y%#m %U:%G %T@\n" | sort) > b; diff a b
              getfattr -d -m user. m/note
              rm m/note; echo changed > m/home/ro; ls r/note' 2>&1
            """);

        Assert.Contains("user.overlay.opaque=\"y\"", lines);
        Assert.Equal("r/note", lines[^1]);
    }

    [Fact]
    public async Task Fuse_overlayfs_shows_the_owners_and_modes_that_override_stat_recorded()
    {
        Assert.SkipUnless(System.IO.File.Exists("/dev/fuse") && System.IO.File.Exists("/usr/bin/fuse-overlayfs"), "fuse-overlayfs is not available");
        string[] lines = await RunAsync($$"""
            mkdir m; trap 'umount m' EXIT
            {{Nobody}} /mnt/np pull $ref --store t/s --extract --ownership override-stat --json 2>/dev/null
            lower=$(./np layers $ref --store t/s --overlay --ownership override-stat --xattrs try --whiteouts overlay-user 2>/dev/null || ./np layers $ref --store t/s --overlay)
            fuse-overlayfs -o "${lower#userxattr,}" m 2>/dev/null
            show m
            """);

        // the two symbolic links take no attribute; one capability and three trusted.* are not for nobody to set
        Assert.Equal((2, 0, 4, 0, 0), Lost(lines[0]));
        string[] shown = [.. Everything.Select(line => line.Split(' ') switch
        {
            ["fifo", ..] => "fifo f0622 0:0",
            ["dev/null", ..] => "dev/null f0666 0:0",
            ["dev/loop0", ..] => "dev/loop0 f0660 0:0",
            [var link, ['l', ..], _] => $"{link} l0777 65534:65534",
            _ => line,
        })];
        Assert.Equal(shown, lines[1..]);
    }

    [Fact]
    public async Task Layers_and_trees_of_one_policy_are_never_taken_for_those_of_another()
    {
        string[] lines = await RunAsync("""
            for options in "" "--whiteouts overlay-user" "--ownership squash"; do ./np pull $ref --store s --extract $options >/dev/null 2>&1; done
            ./np layers $ref --store s --overlay
            ./np layers $ref --store s --overlay --whiteouts overlay-user
            ./np layers $ref --store s --ownership squash | wc -l
            ./np layers $ref --store s --ownership squash --xattrs drop >/dev/null 2>&1 || echo $?
            ls s/layers/sha256 | wc -l
            ./np extract $ref --store s --rootfs r >/dev/null 2>&1; ./np extract $ref --store s --rootfs r >/dev/null 2>&1; echo $?
            ./np extract $ref --store s --rootfs r --ownership squash >/dev/null 2>&1 || echo $?
            """);

        Assert.StartsWith("lowerdir=/mnt/s/layers/", lines[0], StringComparison.Ordinal);
        Assert.StartsWith("userxattr,lowerdir=/mnt/s/layers/", lines[1], StringComparison.Ordinal);
        Assert.DoesNotContain("-user", lines[0], StringComparison.Ordinal);
        Assert.Equal(["2", "3", "6", "0", "8"], lines[2..]);
    }

    [Theory]
    [InlineData(WhiteoutStyle.Overlay, "")]
    [InlineData(WhiteoutStyle.OverlayUser, ",userxattr")]
    [SuppressMessage("Usage", "xUnit1031", Justification = "mounts belong to the thread")]
    internal void The_kernel_takes_a_whiteout_without_a_device_for_one(WhiteoutStyle style, string options)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        MountNamespace.Run("/mnt", () =>
        {
            foreach (string path in new[] { "/mnt/lower/d", "/mnt/upper/d", "/mnt/m" })
            {
                Directory.CreateDirectory(path);
            }

            string[] files = ["gone", "d/gone", "d/kept"];
            Array.ForEach(files, file => System.IO.File.WriteAllText("/mnt/lower/" + file, "x"));
            System.IO.File.WriteAllText("/mnt/upper/d/empty", "");
            foreach (string path in new[] { "/mnt/upper", "/mnt/upper/d" })
            {
                using SafeFileHandle directory = Libc.TryOpenDirectory(path)!;
                Assert.Equal(0, OverlayMarks.MakeEmptyWhiteout(directory, "gone\0"u8, style));
            }

            MountNamespace.MountOverlay("/mnt/m", ["/mnt/upper", "/mnt/lower"], options);
            string[] seen = [.. Directory.GetFileSystemEntries("/mnt/m", "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
            MountNamespace.Unmount("/mnt/m");

            Assert.Equal(["/mnt/m/d", "/mnt/m/d/empty", "/mnt/m/d/kept"], seen);
        });
    }

    [Fact]
    public async Task Nobody_writes_below_and_links_into_directories_that_a_lower_layer_closed()
    {
        string[] lines = await RunAsync(
            $$"""
            {{Nobody}} bash -euc '
              ./np pull $0 -q --store t/s --rootfs t/r
              ./np pull $0 -q --store t/s --extract
              ./np pull $0 -q --store t/s --layers t/l
              ' $ref
            echo flat; show t/r; echo lower; show t/l/01*; echo upper; show t/l/02*
            """,
            Closed);
        string[] Tree(string name) => [.. lines.SkipWhile(line => line != name).Skip(2).TakeWhile(line => line.Contains(' ', StringComparison.Ordinal)).Select(line => line[..line.LastIndexOf(' ')])];

        Assert.Equal(
            ["0 d0", "0/d d0755", "0/d/new f0644", "0/f f0644", "0/new f0644", "hard f0644", "ro d0555", "ro/f f0644", "ro/new f0644", "s d0333", "s/d d0400", "s/d/e d0755", "s/d/e/new f0644", "secret f0", "shadow f0"],
            Tree("flat"));
        Assert.Equal(["0 d0", "0/d d0755", "0/f f0644", "ro d0555", "ro/f f0644", "s d0333", "s/d d0400", "s/d/e d0755", "shadow f0"], Tree("lower"));
        Assert.Equal(
            ["0 d0", "0/d d0755", "0/d/new f0644", "0/f f0644", "0/new f0644", "hard f0644", "ro d0555", "ro/new f0644", "s d0333", "s/d d0400", "s/d/e d0755", "s/d/e/new f0644", "secret f0", "shadow f0"],
            Tree("upper"));
    }

    [Theory]
    [InlineData("", "d d0570", "d/e d0755", "d/e/f f0644", "d/f f070")]
    [InlineData("--ownership override-stat", "d d0770", "d/e d0755", "d/e/f f0644", "d/f f0670")]
    public async Task Nobody_writes_into_directories_whose_ACL_keeps_their_owner_out(string options, params string[] tree)
    {
        string[] lines = await RunAsync(
            $$"""
            {{Nobody}} ./np pull $ref -q --store t/s --rootfs t/r --layers t/l {{options}} >/dev/null
            for i in t/r t/l/*; do show $i | tail -n +2 | sed 's/ [^ ]*$//'; done
            """,
            registry =>
            {
                // their owner may read and search it, or nothing; user 5 and the group may do all
                byte[] directory = [2, 0, 0, 0, 1, 0, 5, 0, 0, 0, 0, 0, 2, 0, 7, 0, 5, 0, 0, 0, 4, 0, 7, 0, 0, 0, 0, 0, 16, 0, 7, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0];
                byte[] file = [.. directory];
                file[6] = 0;
                byte[] tar = new TarBuilder()
                    .Xattr("system.posix_acl_access", directory).Directory("d/", 0x178).Xattr("system.posix_acl_access", file).File("d/f", "f", 0x38).File("d/e/f", "f").End().ToArray();
                return new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(tar), Digest.Of(tar)).Publish();
            });

        Assert.Equal([.. tree, .. tree], lines);
    }

    private static FakeImage Closed(FakeRegistry registry)
    {
        byte[] lower = new TarBuilder()
            .Directory("ro/", 0x16D).File("ro/f", "f").Directory("0/", 0).File("0/f", "f").Directory("0/d/").File("shadow", "x", 0)
            .Directory("s/", 0xDB).Directory("s/d/", 0x100).Directory("s/d/e/").End().ToArray();
        byte[] upper = new TarBuilder()
            .File("ro/new", "new").File("0/new", "new").File("0/d/new", "new").File("s/d/e/new", "new").HardLink("hard", "0/f").HardLink("secret", "shadow").End().ToArray();
        return new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(lower), Digest.Of(lower)).Layer(TarBuilder.GZip(upper), Digest.Of(upper)).Publish();
    }

    // What the script printed; a script that fails shows everything.
    internal static async Task<string[]> RunAsync(string script, Func<FakeRegistry, FakeImage>? image = null)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting, and becoming somebody else, need root");
        if (script.Contains("unshare -U", StringComparison.Ordinal))
        {
            // a chroot and many containers do not allow them
            Assert.SkipUnless((await Binary.ProgramAsync("setpriv", "--reuid", "65534", "--clear-groups", "unshare", "-U", "true")).Code == 0, "user namespaces are not allowed here");
        }

        await using FakeRegistry registry = new FakeRegistry().Start();
        string reference = (image ?? Image)(registry).Reference();
        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-c", Prelude + script, Binary.File, reference);
        return result.Expect(0).Out.TrimEnd('\n').Split('\n').Where(line => line.Length > 0).ToArray();
    }

    internal static (long Owners, long Modes, long Xattrs, long Devices, long Times) Lost(string json)
    {
        JsonElement lost = JsonDocument.Parse(json).RootElement.GetProperty("lost");
        return (Count("owners"), Count("modes"), Count("xattrs"), Count("devices"), Count("times"));

        long Count(string kind) => lost.GetProperty(kind).GetInt64();
    }

    // Owners, modes, attributes, times and nodes that some target or other cannot hold; and all that overlayfs has a mark for.
    private static FakeImage Image(FakeRegistry registry)
    {
        byte[] capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        byte[] lower = new TarBuilder()
            .Directory("./").Directory("bin/", 0x16D)
            .Pax("mtime", "1700000000.123456789").File("bin/su", "su", 0x9ED).File("bin/wall", "wall", 0x5ED, gid: 5)
            .Xattr("security.capability", capability).File("bin/ping", "ping", 0x1ED).Symlink("bin/sh", "su")
            .Directory("home/", 0x1C0, 1234, 4321).Xattr("user.comment", "hi").File("home/ro", "ro", 0x100, 1234, 4321).Symlink("home/link", "ro", 1234, 4321)
            .Xattr("trusted.note", "n").Xattr("trusted.overlay.opaque", "y").Xattr("user.overlay.opaque", "y").File("note", "note")
            .Directory("dev/").CharacterDevice("dev/null", 1, 3).BlockDevice("dev/loop0", 7, 0)
            .Xattr("trusted.node", "p").Fifo("fifo", 0x192)
            .File("removed/a", "a").File("removed/b", "b").File("opaque/a", "a").Directory("tmp/", 0x3FF)
            .End().ToArray();
        byte[] upper = new TarBuilder()
            .Whiteout("removed/a").Opaque("opaque").Pax("mtime", "5000000000").File("opaque/new", "new")
            .File("home/new", "new", 0x180, 1234, 4321).HardLink("home/hard", "home/ro")
            .End().ToArray();
        return new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(lower), Digest.Of(lower)).Layer(TarBuilder.GZip(upper), Digest.Of(upper)).Publish();
    }
}
