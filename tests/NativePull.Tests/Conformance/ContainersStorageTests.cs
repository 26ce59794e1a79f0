using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// <c>--ownership override-stat</c> beside containers/storage with <c>force_mask</c>: its store takes layers that nobody extracted, reads their
/// <c>user.containers.override_stat</c> and mounts them with the owners and modes of the image; and it writes the same words for the same layer.
/// </summary>
public sealed class ContainersStorageTests
{
    // $1 the executable, $2 where its layout is; the store is in memory, and gone with the mount namespace. add puts a layer directory on another one.
    private const string Prelude = """
        set -eu
        umask 022
        mount --make-rprivate /
        mount -t tmpfs -o mode=0755 scratch /mnt
        cp "$1" /mnt/np; cp -r "$2"/* /mnt
        cd /mnt
        chmod -R a+rX layout
        mkdir t; chmod 777 t
        mkdir cs
        cat >storage.conf <<END
        [storage]
        driver = "overlay"
        runroot = "/mnt/cs/run"
        graphroot = "/mnt/cs/root"
        [storage.options.overlay]
        mount_program = "$(command -v fuse-overlayfs)"
        force_mask = "shared"
        END
        export CONTAINERS_STORAGE_CONF=/mnt/storage.conf
        made=
        trap 'for layer in $made; do containers-storage unmount -f $layer >/dev/null 2>&1 || true; done' EXIT
        new() { layer=$(containers-storage create-layer "$@"); made="$layer $made"; diff=cs/root/overlay/$layer/diff; }
        add() { from=$1; shift; new "$@"; rm -r $diff; mv "$from" $diff; }
        setpriv --reuid 65534 --regid 65534 --clear-groups ./np extract oci:layout -q --platform linux/amd64 --layers t/l --ownership override-stat >/dev/null

        """;

    [Fact]
    public async Task Its_store_mounts_layers_that_nobody_extracted_with_the_owners_and_modes_of_the_image()
    {
        string[] lines = await RunAsync("""
            add t/l/01-*; add t/l/02-* $layer; new $layer
            getfattr -n user.containers.override_stat --only-values $diff 2>/dev/null || echo -n none; echo
            cd "$(containers-storage mount $layer)"
            find . -mindepth 1 -printf '%P %y%#m %U:%G\n' | LC_ALL=C sort
            cat kept/new; echo
            cd /mnt
            """);

        // a new layer's root takes what its parent's says, read by containers/storage itself; old versions do not look
        Assert.Contains(lines[0], (string[])["none", "5:6:0711:dir"]);
        string[] expected =
        [
            "bin d0555 0:0", "bin/su f04755 0:0", "bin/wall f02755 0:5", "dev d0755 0:0", "dev/disk b0660 0:6", "dev/null c0666 0:0", "fifo p0622 0:0", "home d0700 1234:4321",
            "home/closed f0 4000000000:4000000001", "home/hard f0400 1234:4321", "home/ro f0400 1234:4321", "kept d02770 7:8", "kept/new f0644 9:9", "tmp d01777 0:0", "new",
        ];
        // fuse-overlayfs knows the short form alone, and shows the empty files that stand in for devices and fifos
        Assert.Equal(expected, lines[1..].Select(line => line.Replace("disk f", "disk b", StringComparison.Ordinal).Replace("null f", "null c", StringComparison.Ordinal).Replace("fifo f", "fifo p", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task It_says_the_same_of_the_same_layer()
    {
        string[] lines = await RunAsync("""
            new
            containers-storage applydiff $layer <full.tar 2>/dev/null || { containers-storage delete $layer; new; containers-storage applydiff $layer <plain.tar; }
            values() { (cd "$1"; find . -type f -o -type d | LC_ALL=C sort | while read -r f; do echo "$f $(getfattr -n user.containers.override_stat --only-values "$f" 2>/dev/null)"; done); }
            values $diff >theirs; values t/l/01-* >ours
            # old versions leave the root of a layer alone
            LC_ALL=C join theirs ours | grep -v '^[.] '
            """);

        Assert.True(lines.Length >= 10, string.Join('\n', lines));
        foreach (string line in lines)
        {
            string[] fields = line.Split(' ');
            string[] theirs = fields[1].Split(':');
            string[] ours = fields[2].Split(':');
            // uid:gid:0mode before 1.52, without special bits; since then uid:gid:mode:type. Ours has the type's bits, as libkrun's has.
            int bits = theirs.Length == 3 ? 0x1FF : 0xFFF;
            Assert.True(
                theirs[0] == ours[0] && theirs[1] == ours[1] && (Convert.ToInt32(theirs[2], 8) & bits) == (Convert.ToInt32(ours[2], 8) & bits)
                && (theirs.Length == 3 || theirs[3] is "dir" or "file" || fields[1] == fields[2]),
                $"{fields[0]}: {fields[1]} is theirs, {fields[2]} ours");
        }
    }

    private static async Task<string[]> RunAsync(string script)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting, and becoming somebody else, need root");
        BinaryResult available = await Binary.ProgramAsync("bash", "-c", "command -v containers-storage && command -v fuse-overlayfs && test -c /dev/fuse");
        Assert.SkipUnless(available.Code == 0, "containers-storage or fuse-overlayfs is not available");
        using TemporaryDirectory work = new();
        byte[] plain = Plain().End().ToArray();
        byte[] full = Plain().Directory("dev/").CharacterDevice("dev/null", 1, 3).Member("dev/disk", '4', fields => fields.Mode(0x1B0).Gid(6).Device(8, 17)).Fifo("fifo", 0x192).End().ToArray();
        byte[] upper = new TarBuilder().Whiteout("gone").Opaque("kept").File("kept/new", "new", 0x1A4, 9, 9).HardLink("home/hard", "home/ro").End().ToArray();
        LayoutDirectory.Write(work["layout"], "1", [full, upper]);
        await File.WriteAllBytesAsync(work["plain.tar"], plain, TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(work["full.tar"], full, TestContext.Current.CancellationToken);
        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-c", Prelude + script, "bash", Binary.File, work.Path);
        return result.Expect(0).Out.TrimEnd('\n').Split('\n');
    }

    private static TarBuilder Plain() => new TarBuilder()
        .Directory("./", 0x1C9, 5, 6).Directory("bin/", 0x16D).File("bin/su", "su", 0x9ED).File("bin/wall", "wall", 0x5ED, gid: 5)
        .Directory("home/", 0x1C0, 1234, 4321).File("home/ro", "ro", 0x100, 1234, 4321).File("home/closed", "closed", 0, 4_000_000_000, 4_000_000_001)
        .Directory("kept/", 0x5F8, 7, 8).File("kept/old", "old").Directory("tmp/", 0x3FF).File("gone", "gone");
}
