using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>The tree we make is the tree umoci makes and the kernel shows, entry by entry.</summary>
[Collection(WitnessTests.Name)]
public sealed class WitnessTreeTests(WitnessFixture fixture)
{
    [Fact]
    public async Task The_root_file_system_is_the_one_umoci_unpacks()
    {
        fixture.SkipUnlessReady();

        TreeListing.AssertSame(await fixture.UmociTree, await fixture.RootfsTree);
    }

    /// <summary>
    /// With one exception, which lies in overlayfs: perl is one inode with perl5.36.0 in the first layer, and a later layer links another name to
    /// perl. Between directories that are layers no inode can be shared, so the layer that links has a copy, as after a copy-up
    /// (Documentation/filesystems/overlayfs.rst, "Non-standard behavior": hard links are broken by copy-up).
    /// </summary>
    [Fact]
    public async Task The_root_file_system_is_the_overlay_mount_of_the_layer_directories()
    {
        fixture.SkipUnlessReady();
        TreeListing rootfs = await fixture.RootfsTree;
        string one = rootfs.Entries.Single(entry => entry.Path == "usr/bin/perl").LinkedTo;

        Assert.StartsWith("usr/bin/perl5", one, StringComparison.Ordinal);
        Assert.Equal(one, rootfs["usr/bin/zz-perl"]!.LinkedTo);
        TreeListing asMounted = rootfs.Select(entry => entry.Path switch
        {
            "usr/bin/perl" => entry with { LinkedTo = "" },
            "usr/bin/zz-perl" => entry with { LinkedTo = "usr/bin/perl" },
            _ => entry,
        });
        TreeListing.AssertSame(await fixture.OverlayTree, asMounted);
    }

    [Fact]
    public async Task The_image_has_what_archives_and_file_systems_like_to_lose()
    {
        fixture.SkipUnlessReady();
        TreeListing tree = await fixture.RootfsTree;

        // a comparison shows nothing about what is in none of the trees
        Assert.InRange(tree.Count, 5000, 100_000);
        Assert.Equal([.. "bcdflp"], tree.Entries.Select(entry => entry.Type).Distinct().Order());
        Assert.Contains(tree.Entries, entry => entry.Xattrs.StartsWith("security.capability=", StringComparison.Ordinal));
        Assert.Contains(tree.Entries, entry => entry.Xattrs.Contains("user.binary=00ff0a3d00", StringComparison.Ordinal));
        Assert.Contains(tree.Entries, entry => entry.Path.EndsWith(@"opt/odd/not-utf8-\xe4\xff", StringComparison.Ordinal));
        Assert.Contains(tree.Entries, entry => entry.Modified.EndsWith(".123456789", StringComparison.Ordinal));
        Assert.Contains(tree.Entries, entry => entry.Modified.StartsWith('-'));
        Assert.Contains(tree.Entries, entry => (entry.Mode & 0xC00) == 0x800);
        Assert.Contains(tree.Entries, entry => entry.LinkedTo.Length > 0);
        Assert.Contains(tree.Entries, entry => entry is { Uid: 12345, Gid: 54321 });
    }

    [Fact]
    public async Task Extracting_offline_and_again_gives_the_same_tree()
    {
        fixture.SkipUnlessReady();
        using TemporaryDirectory scratch = new();

        (await Binary.RunAsync("extract", fixture.Reference, "--rootfs", scratch["r"], "--store", fixture.Store)).Expect(0);

        TreeListing.AssertSame(await fixture.RootfsTree, TreeListing.Of(scratch["r"]));
    }

    [Fact]
    public async Task The_same_image_in_Docker_schema_2_gives_the_same_tree()
    {
        fixture.SkipUnlessReady();
        using TemporaryDirectory scratch = new();
        string reference = $"{fixture.Address}/demo/schema2:1";
        await WitnessFixture.SkopeoAsync(
            "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2", $"docker://{fixture.Reference}", $"docker://{reference}");

        (await Binary.RunAsync("pull", reference, "--store", scratch["s"], "--rootfs", scratch["r"])).Expect(0);
        string raw = (await Binary.RunAsync("inspect", "--raw", reference, "--store", scratch["s"])).Expect(0).Out;

        Assert.Contains("application/vnd.docker.distribution.manifest.v2+json", raw, StringComparison.Ordinal);
        TreeListing.AssertSame(await fixture.RootfsTree, TreeListing.Of(scratch["r"]));
    }

    [Fact]
    public async Task The_same_image_compressed_with_zstd_gives_the_same_tree()
    {
        fixture.SkipUnlessReady();
        using TemporaryDirectory scratch = new();
        string reference = $"{fixture.Address}/demo/zstd:1";
        // a layout in between: the registry itself would answer that it has the gzip blobs already
        await WitnessFixture.SkopeoAsync(
            "copy", "--quiet", "--dest-compress", "--dest-compress-format", "zstd", "--dest-compress-level", "1", $"oci:{fixture.Store}:{fixture.Reference}", $"oci:{scratch["zstd"]}:1");
        await WitnessFixture.SkopeoAsync("copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", $"oci:{scratch["zstd"]}:1", $"docker://{reference}");

        (await Binary.RunAsync("pull", reference, "--store", scratch["s"], "--rootfs", scratch["r"])).Expect(0);
        string raw = (await Binary.RunAsync("inspect", "--raw", reference, "--store", scratch["s"])).Expect(0).Out;

        Assert.Contains("application/vnd.oci.image.layer.v1.tar+zstd", raw, StringComparison.Ordinal);
        Assert.DoesNotContain("tar+gzip", raw, StringComparison.Ordinal);
        TreeListing.AssertSame(await fixture.RootfsTree, TreeListing.Of(scratch["r"]));
    }
}
