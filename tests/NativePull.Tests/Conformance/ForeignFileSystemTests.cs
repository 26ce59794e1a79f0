using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>exFAT and NTFS, as programs serve them: modes that are taken and not kept, names that differ in case alone, no owners and no links.</summary>
public sealed class ForeignFileSystemTests
{
    [Fact]
    public async Task A_file_system_that_takes_any_mode_and_keeps_none_is_found_out()
    {
        Assert.SkipUnless(File.Exists("/dev/fuse") && File.Exists("/usr/sbin/mount.exfat-fuse"), "exFAT by FUSE is not available");
        byte[] tar = new TarBuilder()
            .Directory("d/", 0x1E8).File("d/open", "x", 0x1FF, uid: 5).File("d/closed", "x", 0x180).Pax("mtime", "1700000000.5").File("d/also", "x", 0x180)
            .End().ToArray();
        string[] lines = await LossyTargetTests.RunAsync("""
            truncate -s 16M i; mkfs.exfat i >/dev/null; l=$(losetup -f --show i); trap 'umount t; losetup -d $l' EXIT
            mount.exfat-fuse $l t >/dev/null
            ./np pull $ref --store s --rootfs t/r --ownership squash --json 2>/dev/null; cat t/r/d/closed
            """, registry => new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(tar), Digest.Of(tar)).Publish());

        // the root, the directory and two files; the one that was to be open to all is
        Assert.Equal((1, 4, 0, 0, 1), LossyTargetTests.Lost(lines[0]));
        Assert.Equal("x", lines[1]);
    }

    [Theory]
    [InlineData("files", "file: this file system takes names that differ in case alone for one, and has File already")]
    [InlineData("directories", "d/dir: this file system takes names that differ in case alone for one, and has Dir already")]
    [InlineData("parents", "d/dir: this file system takes names that differ in case alone for one, and has Dir already")]
    [InlineData("a file removed", "FILE: this file system takes names that differ in case alone for one, and has file already")]
    [InlineData("none", null)]
    public async Task A_file_system_that_takes_two_names_for_one_refuses_an_image_that_has_both(string names, string? says)
    {
        Assert.SkipUnless(File.Exists("/dev/fuse") && File.Exists("/usr/sbin/mount.exfat-fuse"), "exFAT by FUSE is not available");
        byte[] tar = (names switch
        {
            "files" => new TarBuilder().File("File").File("file"),
            "directories" => new TarBuilder().Directory("d/").Directory("d/Dir/").Directory("d/dir/"),
            "parents" => new TarBuilder().File("d/Dir/a").File("d/dir/b"),
            _ => new TarBuilder().File("file").File("file").File("d/Dir/a").Directory("d/").Directory("d/Dir/").File("d/Dir/b"),
        }).End().ToArray();
        byte[] upper = (names == "a file removed" ? new TarBuilder().Whiteout("FILE") : new TarBuilder().Whiteout("file").Whiteout("absent").File("d/Dir/b")).End().ToArray();
        string[] lines = await LossyTargetTests.RunAsync("""
            truncate -s 16M i; mkfs.exfat i >/dev/null; l=$(losetup -f --show i); trap 'umount t; losetup -d $l' EXIT
            mount.exfat-fuse $l t >/dev/null
            code=0; ./np pull $ref --store s --rootfs t/r --ownership squash -q >/dev/null 2>err || code=$?
            echo $code; grep -v ' modes were not kept' err || true; (cd t; find . -type f | sort)
            """, registry => new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(tar), Digest.Of(tar)).Layer(TarBuilder.GZip(upper), Digest.Of(upper)).Publish());

        if (says is null)
        {
            Assert.Equal(["0", "./r/d/Dir/a", "./r/d/Dir/b"], lines);
            return;
        }

        Assert.Equal("8", lines[0]);
        Assert.EndsWith(says, Assert.Single(lines[1..]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("another name", "FILE: this file system takes names that differ in case alone for one")]
    [InlineData("a target that is not there", "FILE: this file system takes names that differ in case alone for one")]
    [InlineData("none", null)]
    public async Task Hard_links_between_names_that_a_file_system_takes_for_one_are_refused(string names, string? says)
    {
        // exFAT, which the others of this kind are tried on, has no hard links
        Assert.SkipUnless(File.Exists("/dev/fuse") && File.Exists("/usr/bin/lowntfs-3g"), "NTFS by FUSE is not available");
        byte[] tar = (names switch
        {
            "another name" => new TarBuilder().File("file", "x").HardLink("FILE", "file"),
            "a target that is not there" => new TarBuilder().File("file", "x").HardLink("other", "FILE"),
            _ => new TarBuilder().File("file", "x").HardLink("other", "file").HardLink("other", "file"),
        }).End().ToArray();
        string[] lines = await LossyTargetTests.RunAsync("""
            truncate -s 16M i; mkfs.ntfs -q -F i >/dev/null 2>&1; l=$(losetup -f --show i); trap 'umount t; losetup -d $l' EXIT
            lowntfs-3g -o ignore_case,permissions $l t >/dev/null
            code=0; ./np pull $ref --store s --rootfs t/r -q >/dev/null 2>err || code=$?
            echo $code; cat err; if [ -e t/r ]; then (cd t/r; find . -type f -links 2 | sort); fi
            """, registry => new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(tar), Digest.Of(tar)).Publish());

        if (says is null)
        {
            Assert.Equal(["0", "./file", "./other"], lines);
            return;
        }

        Assert.Equal("8", lines[0]);
        Assert.Contains(says, Assert.Single(lines[1..]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "this owner (--ownership squash sets none)")]
    [InlineData("--ownership squash --devices skip --xattrs try", "symbolic links")]
    public async Task A_file_system_without_owners_and_links_refuses_an_image_that_has_them_but_can_be_the_store(string options, string says)
    {
        Assert.SkipUnless(File.Exists("/dev/fuse") && File.Exists("/usr/sbin/mount.exfat-fuse"), "exFAT by FUSE is not available");
        string[] lines = await LossyTargetTests.RunAsync($"""
            truncate -s 16M i; mkfs.exfat i >/dev/null; l=$(losetup -f --show i); trap 'umount t; losetup -d $l' EXIT
            mount.exfat-fuse $l t >/dev/null
            code=0; ./np pull $ref --store t/s --rootfs t/r {options} 2>err || code=$?
            echo $code; tail -n 1 err; ls -A t
            ./np pull $ref --store t/s >/dev/null 2>&1; ls t/s/blobs/sha256 | wc -l
            """);

        Assert.Equal("8", lines[0]);
        Assert.Contains($"cannot hold {says}", lines[1], StringComparison.Ordinal);
        Assert.Equal(["s", "4"], lines[2..]);
    }
}
