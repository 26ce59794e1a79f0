using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>Each limit of what an archive may ask for, through the published executable: at it, beyond it, and beyond it with the option that raises it.</summary>
public sealed class ArchiveLimitTests
{
    private const int LongestName = 64 * 1024;
    private const int LargestPax = 1024 * 1024;

    private sealed record Row(TarBuilder Within, TarBuilder Beyond, string Says, string[] Lower, string[] Raise)
    {
        internal Row(TarBuilder within, TarBuilder beyond, string says, params string[] raise)
            : this(within, beyond, says, [], raise)
        {
        }
    }

    private static readonly Dictionary<string, Row> Rows = new()
    {
        // without an option the first two are as large as nothing that a test could make
        ["entries"] = new(
            new TarBuilder().File("a").File("b").End(), new TarBuilder().File("a").File("b").File("a").End(), "more than 2 entries", ["--max-entries", "2"], ["--max-entries", "3"]),
        ["entries, with the directories that they lie in"] = new(
            new TarBuilder().File("a/b/c/d").End(), new TarBuilder().File("a/b/c/d/e").End(), "more than 4 entries", ["--max-entries", "4"], ["--max-entries", "5"]),
        ["unpacked bytes"] = new(
            new TarBuilder().File("a", new byte[600]).File("b", new byte[400]).End(), new TarBuilder().File("a", new byte[600]).File("b", new byte[401]).End(),
            "b has 401 bytes; with it there would be more than the 1000 allowed", ["--max-unpacked", "1000"], ["--max-unpacked", "1001"]),
        ["unpacked bytes, sizes whose sum passes 63 bits"] = new(
            new TarBuilder().File("a", new byte[600]).End(), new TarBuilder().File("a", new byte[600]).Member("b", '0', fields => fields.Size(long.MaxValue)),
            "b has 9223372036854775807 bytes; with it there would be more than the 1000 allowed", ["--max-unpacked", "1000"], []),
        ["attributes of all members"] = new(
            new TarBuilder().Xattr("user.a", "1234").File("a").Xattr("user.a", "1234").File("b").End(),
            new TarBuilder().Xattr("user.a", "1234").File("a").Xattr("user.a", "12345").File("b").End(),
            "with those of b extended attributes have 21 bytes, more than 20", ["--limit", "attributes=20"], ["--limit", "attributes=21"]),
        ["components of links on the way"] = new(
            new TarBuilder().Symlink("l", "a/b").File("l/f").End(), new TarBuilder().Symlink("l", "a/b/..").File("l/f").End(),
            "the links on the way to its names have more than 2 components", ["--limit", "steps=2"], ["--limit", "steps=3"]),
        ["depth"] = new(
            new TarBuilder().Directory(Deep(4096)).End(), new TarBuilder().Directory(Deep(4097)).End(), "is 4097 directories deep, more than 4096", "--limit", "depth=4097"),
        ["a name in pax"] = new(
            new TarBuilder().Directory(Name(LongestName)).End(), new TarBuilder().Directory(Name(LongestName + 1)).End(), "is a name of 65537 bytes, more than 65536", "--limit", "name=65537"),
        ["a name of GNU's"] = new(
            new TarBuilder().LongName(Name(LongestName)).File("f").End(), new TarBuilder().LongName(Name(LongestName + 1)).File("f").End(),
            "the long name at the beginning has 65538 bytes, more than 65537", "--limit", "name=65537"),
        ["a hard link's target in pax"] = new(
            new TarBuilder().File(Name(LongestName)).HardLink("h", Name(LongestName)).End(),
            new TarBuilder().LongName(Name(LongestName - 1)).File("f").HardLink("h", $"./{Text(LongestName - 1)}").End(),
            "is a name of 65537 bytes, more than 65536", "--limit", "name=65537"),
        ["a hard link's target of GNU's"] = new(
            new TarBuilder().File(Name(LongestName)).LongLink(Name(LongestName)).HardLink("h", "x").End(),
            new TarBuilder().LongName(Name(LongestName - 1)).File("f").LongLink($"./{Text(LongestName - 1)}").HardLink("h", "x").End(),
            $"the long link name after {Text(200)}… has 65538 bytes, more than 65537", "--limit", "name=65537"),
        ["a component"] = new(
            new TarBuilder().File(new string('n', 255)).End(), new TarBuilder().File(new string('n', 256)).End(), "has a name of 256 bytes, more than the 255 that Linux takes"),
        ["a component on the way"] = new(
            new TarBuilder().File(new string('n', 255) + "/f").End(), new TarBuilder().File(new string('n', 256) + "/f").End(), "has a name of 256 bytes, more than the 255 that Linux takes"),
        ["a component on the way of a link"] = new(
            new TarBuilder().Symlink("l", new string('n', 255)).File("l/f").End(), new TarBuilder().Symlink("l", new string('n', 256)).File("l/f").End(),
            "l has a name of 256 bytes, more than the 255 that Linux takes"),
        ["what a whiteout removes"] = new(
            new TarBuilder().Whiteout(new string('n', 255)).File("f").End(), new TarBuilder().Whiteout(new string('n', 256)).File("f").End(),
            "has a name of 256 bytes, more than the 255 that Linux takes"),
        ["a symbolic link's target"] = new(
            new TarBuilder().Symlink("l", Name(4095)).End(), new TarBuilder().Symlink("l", Name(4096)).End(), "l is a symbolic link of 4096 bytes, more than the 4095 that Linux takes"),
        ["a pax header"] = new(
            new TarBuilder().RawPax(TarBuilder.Record("comment", new byte[LargestPax - 17])).File("f").End(),
            new TarBuilder().RawPax(TarBuilder.Record("comment", new byte[LargestPax - 16])).File("f").End(),
            "the pax header at the beginning has 1048577 bytes, more than 1048576", "--limit", "pax=1048577"),
        ["a global pax header"] = new(
            new TarBuilder().RawPax(TarBuilder.Record("comment", new byte[LargestPax - 17]), 'g').File("f").End(),
            new TarBuilder().RawPax(TarBuilder.Record("comment", new byte[LargestPax - 16]), 'g').File("f").End(),
            "the global pax header at the beginning has 1048577 bytes, more than 1048576", "--limit", "pax=2MiB"),
        // not every file system holds so many or so large ones, and Linux none larger
        ["attributes"] = new(Xattrs(256), Xattrs(257), "pax header of f: more than 256 extended attributes", ["--xattrs", "try"], ["--xattrs", "try", "--limit", "xattrs=257"]),
        ["an attribute"] = new(
            new TarBuilder().Xattr("user.a", new byte[65536]).File("f").End(), new TarBuilder().Xattr("user.a", new byte[65537]).File("f").End(),
            "pax header of f: the attribute user.a has 65537 bytes, more than 65536", ["--xattrs", "try"], ["--xattrs", "try", "--limit", "xattr=65537"]),
        ["an attribute of libarchive's"] = new(
            new TarBuilder().Pax("LIBARCHIVE.xattr.user.a", Convert.ToBase64String(new byte[65536])).File("f").End(),
            new TarBuilder().Pax("LIBARCHIVE.xattr.user.a", Convert.ToBase64String(new byte[65537])).File("f").End(),
            "pax header of f: the attribute user.a has 65537 bytes, more than 65536", ["--xattrs", "try"], ["--xattrs", "try", "--limit", "xattr=65537"]),
        ["an attribute's name"] = new(
            new TarBuilder().Xattr("user." + new string('a', 250), "v").File("f").End(), new TarBuilder().Xattr("user." + new string('a', 251), "v").File("f").End(),
            $"pax header of f: the name of an extended attribute, user.{new string('a', 195)}…, has 256 bytes, more than 255", ["--xattrs", "try"], []),
        ["attributes of one member together"] = new(
            Global(17).Xattr("user.a", new byte[1_000]).File("f").End(), Global(17).Xattr("user.a", new byte[30_000]).File("f").End(),
            "f has extended attributes of 1050115 bytes, more than 1048576", ["--xattrs", "drop"], ["--xattrs", "drop", "--limit", "pax=1050115"]),
        ["runs of a sparse file"] = new(
            Sparse(100), Sparse(101), "sparse map in the pax header of dir/sparse: more than 100 runs", ["--limit", "runs=100"], ["--limit", "runs=101"]),
    };

    public static TheoryData<string> Names => [.. Rows.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task A_limit_may_be_reached_and_not_passed_unless_its_option_says_so(string name)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        (TarBuilder within, TarBuilder beyond, string says, string[] lower, string[] raise) = Rows[name];
        using LayerRun small = new(LayoutLayer.Of(within.ToArray()));
        using LayerRun large = new(LayoutLayer.Of(beyond.ToArray()));

        (await small.ExtractAsync(lower)).Expect(0);
        await large.AssertRefusedAsync(7, [$"layer {Digest.Of(beyond.ToArray())}: archive: ", says], lower);

        // one that Linux or the format sets has no option
        if (raise.Length > 0)
        {
            (await large.ExtractAsync(raise)).Expect(0);
            TreeListing.AssertSame(TreeListing.Of(large["r"]), TreeListing.Of(Assert.Single(Directory.GetDirectories(large["l"]))));
        }
    }

    [Fact]
    public async Task Entries_and_bytes_are_counted_over_all_layers()
    {
        byte[][] layers = LayerStack.Of(tar => tar.File("a", new byte[600]), tar => tar.File("b", new byte[401]));
        using LayerRun run = new(layers.Select(LayoutLayer.Of));

        // which of the two passes it depends on which is read first, where they are read at once
        await run.AssertRefusedAsync(7, ["archive: ", "bytes; with it there would be more than the 1000 allowed"], "--max-unpacked", "1000");
        await run.AssertRefusedAsync(7, ["archive: more than 1 entries"], "--max-entries", "1");
        (await run.ExtractAsync("--max-unpacked", "1001", "--max-entries", "2", "--ownership", "squash")).Expect(0);
    }

    [Fact]
    public async Task Layers_without_number_are_refused_before_anything_is_fetched()
    {
        byte[] empty = new TarBuilder().End().ToArray();
        using LayerRun run = new(Enumerable.Repeat(LayoutLayer.Of(empty), 1001));
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 3; i++)
        {
            image.Layer(($"f{i}", [1]));
        }

        image.Publish();

        await run.AssertRefusedAsync(7, ["the image has 1001 layers, more than 1000"]);
        (await run.RunAsync("--tar", run["x"], "--limit", "layers=1001")).Expect(0);
        BinaryResult pull = await Binary.RunAsync("pull", image.Reference(), "--store", run["s"], "--extract", "--limit", "layers=2");
        Assert.Contains("the image has 3 layers, more than 2", pull.Expect(7).Error, StringComparison.Ordinal);
        Assert.DoesNotContain(registry.Requests, request => request.Path.Contains(image.Layers[0].Digest.Hex, StringComparison.Ordinal));
        // as it is it may be had
        (await Binary.RunAsync("pull", image.Reference(), "--store", run["s"], "--limit", "layers=2")).Expect(0);
    }

    // In a layer's own directory a hard link to a lower file is a copy of it: a header alone makes any number of bytes.
    [Fact]
    public async Task Copies_of_lower_files_count_among_the_bytes()
    {
        using LayerRun run = new(LayerStack.Of(tar => tar.Xattr("user.a", "1234").File("f", Bytes.Repeat('x', 600)), tar => tar.HardLink("g", "f")).Select(LayoutLayer.Of));

        // and its attributes
        run.AssertRefused(
            await run.RunAsync("--layers", run["l"], "--ownership", "squash", "--xattrs", "keep", "--limit", "attributes=19"), 7, ["with those of g extended attributes have 20 bytes, more than 19"]);
        (await run.RunAsync("--rootfs", run["r"], "--ownership", "squash", "--xattrs", "keep", "--limit", "attributes=19")).Expect(0);
        Directory.Delete(run["r"], recursive: true);

        run.AssertRefused(
            await run.RunAsync("--layers", run["l"], "--ownership", "squash", "--max-unpacked", "1199"),
            7,
            ["g has 600 bytes; with it there would be more than the 1199 allowed"]);
        (await run.RunAsync("--layers", run["l"], "--ownership", "squash", "--max-unpacked", "1200")).Expect(0);
        (await run.RunAsync("--rootfs", run["r"], "--ownership", "squash", "--max-unpacked", "600")).Expect(0);
    }

    [Fact]
    public async Task Nothing_of_an_image_beyond_a_limit_stays_in_the_store()
    {
        byte[] tar = new TarBuilder().File("a").File("b").End().ToArray();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(tar, Digest.Of(tar)).Publish();
        using TemporaryDirectory work = new();
        string[] arguments = ["pull", image.Reference(), "--store", work["s"], "--extract", "--rootfs", work["r"], "--tar", work["x"], "-q"];

        BinaryResult refused = await Binary.RunAsync([.. arguments, "--max-entries", "1"]);

        Assert.Equal($"nativepull: layer {Digest.Of(tar)}: archive: more than 1 entries\n", refused.Expect(7).Error);
        Assert.Equal(["s"], work.Names);
        Assert.Equal("", (await Binary.RunAsync("list", "--store", work["s"])).Expect(0).Out);
        Assert.Empty(Directory.GetFileSystemEntries(work["s/layers/sha256"]));
        (await Binary.RunAsync(arguments)).Expect(0);
    }

    [Theory]
    [InlineData(1L << 50)]
    [InlineData(long.MaxValue)]
    public async Task A_file_that_does_not_fit_is_the_machines_fault_and_known_before_its_first_byte(long size)
    {
        using LayerRun run = new(LayoutLayer.Of(new TarBuilder().Member("f", '0', fields => fields.Size(size), new byte[512]).ToArray()));

        await run.AssertRefusedAsync(8, [$"archive: f has {size} bytes, and ", " are free"]);
    }

    [Fact]
    public async Task A_hole_that_does_not_fit_into_an_archive_is_refused_and_costs_a_tree_nothing()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        const long size = 1L << 43;
        using LayerRun run = new(LayoutLayer.Of(Layers.SparseTests.Archive("1.0", [(5, 3)], size, "abc"u8.ToArray())));

        // should it ever write the zeros after all, it fails early and not when the machine's disk is full
        BinaryResult file = await Binary.ProgramAsync(
            "prlimit", "--fsize=100000000", Binary.File, "extract", $"oci:{run.Path}/layout", "-q", "--platform", "linux/amd64", "--tar", run["x"]);
        run.AssertRefused(file, 8, [$"archive: dir/sparse has {size} bytes, and ", " are free"]);
        // a pipe takes anything, for ever
        run.AssertRefused(await run.RunAsync("--tar", "/dev/null"), 7, [$"archive: dir/sparse has {size} bytes; with it there would be more than the {1L << 40} allowed"]);
        (await run.RunAsync("--rootfs", run["r"], "--layers", run["l"])).Expect(0);

        Assert.Equal(size, new FileInfo(run["r/dir/sparse"]).Length);
    }

    [Theory]
    [InlineData("depth")]
    [InlineData("depth=")]
    [InlineData("depth=0")]
    [InlineData("depth=-1")]
    [InlineData("depth=2GiB")]
    [InlineData("deepness=7")]
    [InlineData("=7")]
    [InlineData("depth=7,xattr=many")]
    public async Task A_limit_that_is_none_is_wrong_usage(string text)
    {
        using LayerRun run = new(LayoutLayer.Of(new TarBuilder().End().ToArray()));

        BinaryResult result = await run.RunAsync("--rootfs", run["r"], "--limit", text);

        Assert.Contains($"--limit: \"{text.Split(',')[^1]}\" is not one of layers, ratio, name, depth, steps, lookups, pax, xattrs, xattr, runs, attributes, held, memory", result.Expect(2).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Limits_are_also_taken_from_the_environment_and_several_at_once()
    {
        using LayerRun run = new(LayoutLayer.Of(new TarBuilder().Xattr("user.a", "12345").Directory("a/b/c/").End().ToArray()));
        Dictionary<string, string> environment = new() { ["NATIVEPULL_LIMIT"] = "xattr=5,depth=2" };
        string[] arguments = ["extract", $"oci:{run.Path}/layout", "-q", "--platform", "linux/amd64", "--xattrs", "drop", "--ownership", "squash", "--rootfs", run["r"]];

        Assert.Contains("is 3 directories deep, more than 2", (await Binary.RunAsync(environment, arguments)).Expect(7).Error, StringComparison.Ordinal);
        Assert.Contains("has 5 bytes, more than 4", (await Binary.RunAsync(environment, [.. arguments, "--limit", "depth=3", "--limit", "xattr=4"])).Expect(7).Error, StringComparison.Ordinal);
        (await Binary.RunAsync(environment, [.. arguments, "--limit", "depth=3"])).Expect(0);
    }

    private static string Deep(int levels) => string.Concat(Enumerable.Repeat("d/", levels));

    // Of directories that any file system holds; it ends in no slash.
    private static string Text(int length) => new([.. Enumerable.Range(0, length).Select(i => i % 128 == 127 && i < length - 1 ? '/' : 'n')]);

    private static Bytes Name(int length) => Text(length);

    private static TarBuilder Xattrs(int count)
    {
        TarBuilder builder = new();
        for (int i = 0; i < count; i++)
        {
            builder.Xattr($"user.{i}", "v");
        }

        return builder.File("f").End();
    }

    // Attributes for all members, in headers of their own: together they may be more than one header holds.
    private static TarBuilder Global(int count)
    {
        TarBuilder builder = new();
        for (int i = 0; i < count; i++)
        {
            builder.Global($"SCHILY.xattr.user.{i}", new byte[60_000]);
        }

        return builder;
    }

    private static TarBuilder Sparse(int runs) => new TarBuilder().Raw(
        Layers.SparseTests.Archive("0.1", [.. Enumerable.Range(0, runs).Select(i => (i * 2L, 1L))], 1000, new byte[runs]));
}
