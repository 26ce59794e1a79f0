using NativePull.Layers;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Layers;

/// <summary>What an archive may ask for, and what it costs to refuse it.</summary>
public class LimitTests
{
    // Bytes; what reading any header may allocate, limits and all.
    private const long Bounded = 8 << 20;

    public static TheoryData<string, byte[], byte[]> Headers
    {
        get
        {
            TarLimits usual = new();
            return new()
            {
                {
                    "a name in a pax header",
                    new TarBuilder().File(Name(usual.MaximumName)).End().ToArray(),
                    new TarBuilder().File(Name(usual.MaximumName + 1)).End().ToArray()
                },
                {
                    "GNU's long name",
                    new TarBuilder().LongName(Name(usual.MaximumName)).File("f").End().ToArray(),
                    new TarBuilder().LongName(Name(usual.MaximumName + 1)).File("f").End().ToArray()
                },
                {
                    "a hard link's target",
                    new TarBuilder().HardLink("f", Name(usual.MaximumName)).End().ToArray(),
                    new TarBuilder().HardLink("f", Name(usual.MaximumName + 1)).End().ToArray()
                },
                {
                    "a component of a name",
                    new TarBuilder().File("d/" + new string('n', 255)).End().ToArray(),
                    new TarBuilder().File("d/" + new string('n', 256) + "/f").End().ToArray()
                },
                {
                    "a component of a hard link's target",
                    new TarBuilder().HardLink("f", "d/" + new string('n', 255)).End().ToArray(),
                    new TarBuilder().HardLink("f", "d/" + new string('n', 256)).End().ToArray()
                },
                {
                    "what a whiteout removes",
                    new TarBuilder().Whiteout("d/" + new string('n', 255)).End().ToArray(),
                    new TarBuilder().Whiteout("d/" + new string('n', 256)).End().ToArray()
                },
                {
                    "an extended attribute",
                    new TarBuilder().Xattr("user.a", new byte[usual.MaximumXattr]).File("f").End().ToArray(),
                    new TarBuilder().Xattr("user.a", new byte[usual.MaximumXattr + 1]).File("f").End().ToArray()
                },
                {
                    "the name of an extended attribute",
                    new TarBuilder().Xattr("user." + new string('a', 250), "v").File("f").End().ToArray(),
                    new TarBuilder().Xattr("user." + new string('a', 251), "v").File("f").End().ToArray()
                },
                {
                    "all extended attributes of a member",
                    Global(17).Xattr("user.a", new byte[1_000]).File("f").End().ToArray(),
                    Global(17).Xattr("user.a", new byte[30_000]).File("f").End().ToArray()
                },
                {
                    "a symbolic link's target",
                    new TarBuilder().Symlink("f", Bytes.Repeat('n', 4095)).End().ToArray(),
                    new TarBuilder().Symlink("f", Bytes.Repeat('n', 4096)).End().ToArray()
                },
                {
                    "depth",
                    new TarBuilder().Directory(string.Concat(Enumerable.Repeat("d/", usual.MaximumDepth))).End().ToArray(),
                    new TarBuilder().Directory(string.Concat(Enumerable.Repeat("d/", usual.MaximumDepth + 1))).End().ToArray()
                },
                {
                    "extended attributes",
                    Xattrs(new TarBuilder(), usual.MaximumXattrs).File("f").End().ToArray(),
                    Xattrs(new TarBuilder(), usual.MaximumXattrs + 1).File("f").End().ToArray()
                },
                {
                    "a pax header",
                    new TarBuilder().RawPax(TarBuilder.Record("comment", new byte[usual.MaximumPax - 17])).File("f").End().ToArray(),
                    new TarBuilder().RawPax(TarBuilder.Record("comment", new byte[usual.MaximumPax - 16])).File("f").End().ToArray()
                },
            };
        }
    }

    [Theory]
    [MemberData(nameof(Headers))]
    public void A_header_may_be_as_large_as_its_limit_and_no_larger(string name, byte[] within, byte[] beyond)
    {
        Assert.True(TarArchive.One(within) is not null, name);
        TarArchive.Refused(beyond, PullError.LimitPassed);
    }

    [Theory]
    [InlineData('x')]
    [InlineData('g')]
    [InlineData('L')]
    [InlineData('K')]
    public void A_header_of_a_gigabyte_is_refused_before_it_is_read(char type)
    {
        byte[] archive = new TarBuilder().Member("h", type, fields => fields.Size(1 << 30)).ToArray();

        Assert.True(Allocated(() => TarArchive.Refused(archive, PullError.LimitPassed)) < Bounded);
    }

    [Fact]
    public void Global_headers_do_not_add_up()
    {
        TarBuilder archive = new();
        for (int i = 0; i < 40; i++)
        {
            archive.Global($"comment.{i}", new byte[900_000]).Global("uid", "7");
        }

        for (int i = 0; i <= new TarLimits().MaximumXattrs; i++)
        {
            archive.Global($"SCHILY.xattr.user.{i}", "v");
        }

        TarArchive.Refused(archive.File("f").End().ToArray(), PullError.LimitPassed);
    }

    [Fact]
    public void A_sparse_map_is_refused_at_its_limit_and_not_at_its_end()
    {
        // says two hundred million runs, and has two million
        byte[] map = [.. "200000000\n"u8, .. Enumerable.Range(0, 2_000_000).SelectMany(i => System.Text.Encoding.ASCII.GetBytes($"{i * 2L}\n1\n"))];
        byte[] archive = new TarBuilder()
            .Pax("GNU.sparse.major", "1").Pax("GNU.sparse.minor", "0").Pax("GNU.sparse.realsize", "999999999999").File("f", map).ToArray();

        long used = Allocated(() => TarArchive.Refused(archive, PullError.LimitPassed));

        // sixteen bytes a run, and what doubling leaves behind
        Assert.True(used < 2 * 16 * (1 << 20) + Bounded, $"{used}");
    }

    [Fact]
    public void Entries_are_counted_over_all_layers()
    {
        using TemporaryDirectory work = new();
        ExtractOptions options = new() { Limits = new LayerLimits { MaximumEntries = 5 }, Ownership = OwnershipPolicy.Squash };
        Allowance allowance = new(options.Limits);
        byte[] three = new TarBuilder().File("a").File("b").File("c").End().ToArray();

        Apply(work.Path, new MemoryStream(three), options, allowance);

        Assert.Equal(PullError.LimitPassed, Assert.Throws<PullException>(() => Apply(work.Path, new MemoryStream(three), options, allowance)).Reason);
        Apply(work.Path, new MemoryStream(three), options, new Allowance(options.Limits));
    }

    [Fact]
    public void Unpacked_bytes_are_counted_over_all_layers_and_refused_before_they_are_written()
    {
        using TemporaryDirectory work = new();
        ExtractOptions options = new() { Limits = new LayerLimits { MaximumUnpacked = 1000 }, Ownership = OwnershipPolicy.Squash };
        Allowance allowance = new(options.Limits);
        Apply(work.Path, new TarBuilder().File("a", new byte[600]).End().ToStream(), options, allowance);

        PullException refused = Assert.Throws<PullException>(() =>
            Apply(work.Path, new TarBuilder().File("b", new byte[400]).File("c", new byte[1]).End().ToStream(), options, allowance));

        Assert.Equal(PullError.LimitPassed, refused.Reason);
        Assert.True(File.Exists(work["b"]));
        Assert.False(File.Exists(work["c"]));
    }

    [Theory]
    [InlineData(1L << 40)]
    [InlineData(long.MaxValue)]
    public void A_file_that_does_not_fit_is_refused_before_its_first_byte(long size)
    {
        using TemporaryDirectory work = new();
        byte[] archive = new TarBuilder().Member("f", '0', fields => fields.Size(size), new byte[512]).ToArray();

        PullException refused = Assert.Throws<PullException>(() =>
            Apply(work.Path, new MemoryStream(archive), new ExtractOptions { Ownership = OwnershipPolicy.Squash }, null));

        Assert.Equal(PullError.NoSpace, refused.Reason);
        Assert.False(File.Exists(work["f"]));
    }

    [Fact]
    public void Holes_do_not_count_as_unpacked()
    {
        using TemporaryDirectory work = new();
        const long size = 10L << 30;
        byte[] archive = SparseTests.Archive("1.0", [(5L << 30, 3)], size, "abc"u8.ToArray());
        ExtractOptions options = new() { Limits = new LayerLimits { MaximumUnpacked = 100 }, Ownership = OwnershipPolicy.Squash };

        Assert.True(Allocated(() => Apply(work.Path, new MemoryStream(archive), options, null)) < Bounded);

        using FileStream file = File.OpenRead(work["dir/sparse"]);
        Assert.Equal(size, file.Length);
        file.Position = 5L << 30;
        byte[] data = new byte[4];
        file.ReadExactly(data);
        Assert.Equal("abc\0"u8, data);
    }

    [Theory]
    [InlineData("many of a byte", 1000, 1, 4096, 998 * 4096)]
    [InlineData("many of a byte in few blocks", 1000, 1, 2, 1000)]
    [InlineData("many of two bytes, the first of each block", 1000, 2, 8192, 998 * 4096)]
    [InlineData("whole blocks", 1000, 4096, 8192, 1000 * 4096)]
    public void Runs_of_a_sparse_file_count_with_the_blocks_that_they_take(string what, int runs, int length, int distance, long room)
    {
        using TemporaryDirectory work = new();
        byte[] archive = SparseTests.Archive("1.0", [.. Enumerable.Range(0, runs).Select(i => ((long)i * distance, (long)length))], 1L << 30, new byte[runs * length]);

        Assert.Contains($" has {room} bytes; ", Refused(room - 1).Message, StringComparison.Ordinal);
        Apply(work.Path, new MemoryStream(archive), Options(room), null);

        Assert.True(File.Exists(work["dir/sparse"]), what);

        PullException Refused(long most) => Assert.Throws<PullException>(() => Apply(work.Path, new MemoryStream(archive), Options(most), null));
        static ExtractOptions Options(long most) => new() { Limits = new LayerLimits { MaximumUnpacked = most }, Ownership = OwnershipPolicy.Squash };
    }

    [Fact]
    public void A_sparse_file_larger_than_any_disk_is_copied_up_for_a_hard_link()
    {
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["lower"]);
        Directory.CreateDirectory(work["upper"]);
        const long size = 1L << 43;
        ExtractOptions options = new() { Ownership = OwnershipPolicy.Squash };
        Apply(work["lower"], new MemoryStream(SparseTests.Archive("1.0", [(1L << 42, 3)], size, "abc"u8.ToArray())), options, null);
        using RootDirectory lower = RootDirectory.Open(work["lower"]);
        using RootDirectory root = RootDirectory.Open(work["upper"]);
        using LayerApplier applier = new(root, options with { Format = LayerFormat.Overlay });

        applier.Apply(new TarBuilder().HardLink("dir/link", "dir/sparse").End().ToStream(), TestContext.Current.CancellationToken);
        applier.Settle([lower], TestContext.Current.CancellationToken);

        using FileStream file = File.OpenRead(work["upper/dir/link"]);
        byte[] data = new byte[4];
        file.Position = 1L << 42;
        file.ReadExactly(data);
        Assert.Equal("abc\0"u8, data);
        Assert.Equal(size, file.Length);
    }

    [Theory]
    [InlineData("9223372036854775806")]
    [InlineData("-9223372036854775806.5")]
    public void A_time_that_no_file_system_has_is_cut_and_not_refused(string time)
    {
        using TemporaryDirectory work = new();
        byte[] archive = new TarBuilder().Pax("mtime", time).File("f").Pax("mtime", time).Directory("d/").Pax("mtime", time).Symlink("s", "f").End().ToArray();

        Apply(work.Path, new MemoryStream(archive), new ExtractOptions { Ownership = OwnershipPolicy.Squash }, null);

        Assert.True(File.Exists(work["f"]));
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("zstd")]
    public void A_bomb_is_refused_in_bounded_memory(string compression)
    {
        using TemporaryDirectory work = new();
        byte[] archive = new TarBuilder().Member("f", '0', fields => fields.Size(1L << 50), new byte[32 << 20]).ToArray();
        byte[] bomb = compression == "gzip" ? TarBuilder.GZip(archive) : TarBuilder.Zstd(archive);
        ExtractOptions options = new() { Limits = new LayerLimits { MaximumUnpacked = 1 << 20 }, Ownership = OwnershipPolicy.Squash };

        long used = Allocated(() => Assert.Equal(PullError.LimitPassed, Assert.Throws<PullException>(() =>
        {
            using Stream plain = LayerStream.Decompress(new MemoryStream(bomb), "layer", options.Limits);
            Apply(work.Path, plain, options, null);
        }).Reason));

        Assert.True(used < Bounded, $"{used}");
    }

    // Of components that any file system holds.
    private static Bytes Name(int length) => string.Concat(Enumerable.Repeat(new string('n', 127) + "/", (length / 128) + 1))[..length];

    // Attributes for all members, in headers of their own: together more than one header may have.
    private static TarBuilder Global(int count)
    {
        TarBuilder builder = new();
        for (int i = 0; i < count; i++)
        {
            builder.Global($"SCHILY.xattr.user.{i}", new byte[60_000]);
        }

        return builder;
    }

    private static TarBuilder Xattrs(TarBuilder builder, int count)
    {
        for (int i = 0; i < count; i++)
        {
            builder.Xattr($"user.{i}", "v");
        }

        return builder;
    }

    private static void Apply(string directory, Stream tar, ExtractOptions options, Allowance? allowance)
    {
        using RootDirectory root = RootDirectory.Open(directory);
        using LayerApplier applier = new(root, options with { Format = LayerFormat.Flat }, allowance);
        applier.Apply(tar, TestContext.Current.CancellationToken);
        applier.Settle([], TestContext.Current.CancellationToken);
    }

    private static long Allocated(Action action)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        action();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }
}
