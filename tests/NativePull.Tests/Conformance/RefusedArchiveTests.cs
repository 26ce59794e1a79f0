using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;
using NativePull.Tests.Layers;

namespace NativePull.Tests.Conformance;

/// <summary>
/// Archives that contradict themselves or ask for what nobody makes, through the published executable: the exit code, one line that names the layer and what
/// is wrong with both values, and nothing left of it at any destination or in the store.
/// </summary>
public sealed class RefusedArchiveTests
{
    private const int Malformed = 6;
    private const int Refused = 7;

    private static readonly Dictionary<string, (byte[] Tar, int Code, string Says)> Rows = new Dictionary<string, (TarBuilder Tar, int Code, string Says)>
    {
        // the block
        ["a wrong checksum"] = (
            new TarBuilder().File("a", "x").Member("b", '0', fields => fields.Checksum("0000001\0")).End(), Malformed, "checksum of the header after a: expected 01, got 0"),
        ["a checksum that is no number"] = (
            new TarBuilder().Member("b", '0', fields => fields.Checksum("garbage!")).End(), Malformed, "checksum of the header at the beginning: expected \"garbage!\", got 0"),
        ["no archive"] = (new TarBuilder().Raw(Bytes.Repeat('x', 5000)), Malformed, "checksum of the header at the beginning: expected \"xxxxxxxx\", got 0"),
        ["a negative size"] = (new TarBuilder().Member("f", '0', fields => fields.Size(-1)).End(), Malformed, "f: size field is -1, expected 0 or more"),
        ["a size with a letter"] = (
            new TarBuilder().Member("f", '0', fields => fields.Raw(124, "0000000001z\0")).End(), Malformed, "f: size field is \"0000000001z\\x00\", expected octal digits or a number of 63 bits"),
        ["a size with a sign"] = (new TarBuilder().Member("f", '0', fields => fields.Raw(124, "-0000000017\0")).End(), Malformed, "f: size field is \"-0000000017\\x00\""),
        ["a size with the digit 8"] = (new TarBuilder().Member("f", '0', fields => fields.Raw(124, "00000000018\0")).End(), Malformed, "f: size field is \"00000000018\\x00\""),
        ["a size beyond 63 bits"] = (
            new TarBuilder().Member("f", '0', fields => fields.Binary(124, 12, (Int128)1 << 63)).End(), Malformed, "f: size field is \"\\x80\\x00\\x00\\x00\\x80"),
        ["a negative size of a pax header"] = (new TarBuilder().Member("h", 'x', fields => fields.Size(-512)).File("f").End(), Malformed, "h: size field is -512, expected 0 or more"),
        ["a uid that is no number"] = (new TarBuilder().Member("f", '0', fields => fields.Raw(108, "garbage!")).End(), Malformed, "f: uid field is \"garbage!\""),
        ["an mtime that is no number"] = (new TarBuilder().Member("f", '0', fields => fields.Raw(136, "yesterday   ")).End(), Malformed, "f: mtime field is \"yesterday   \""),
        ["uid 2^32 - 1"] = (new TarBuilder().File("f", uid: 0xFFFF_FFFF).End(), Malformed, "f has owner 4294967295, expected 0 to 4294967294"),
        ["gid 2^32"] = (new TarBuilder().File("f", gid: 1L << 32).End(), Malformed, "f has owner 4294967296, expected 0 to 4294967294"),
        ["a negative uid"] = (new TarBuilder().File("f", uid: -2).End(), Malformed, "f has owner -2, expected 0 to 4294967294"),
        ["uid 2^32 - 1 in pax"] = (new TarBuilder().Pax("uid", "4294967295").File("f").End(), Malformed, "f has owner 4294967295, expected 0 to 4294967294"),
        ["gid 2^63 in pax"] = (new TarBuilder().Pax("gid", "9223372036854775808").File("f").End(), Malformed, "pax header of f: gid is \"9223372036854775808\", expected decimal digits, of a number of 63 bits"),
        ["a device number beyond 32 bits"] = (
            new TarBuilder().Member("c", '3', fields => fields.Binary(329, 8, 1L << 32)).End(), Malformed, "c has device number 4294967296, expected 0 to 4294967295"),
        ["a part of another volume"] = (new TarBuilder().Member("f", 'M').End(), Refused, "f has type \"M\" (the rest of a file from another volume)"),
        ["a list of long names"] = (new TarBuilder().Member("f", 'N').End(), Refused, "f has type \"N\""),
        ["an access control list of Solaris"] = (new TarBuilder().Member("f", 'A').End(), Refused, "f has type \"A\""),
        ["an attribute of Solaris"] = (new TarBuilder().Member("f", 'E').End(), Refused, "f has type \"E\""),
        ["an inode alone"] = (new TarBuilder().Member("f", 'I').End(), Refused, "f has type \"I\""),
        ["a type that nobody knows"] = (new TarBuilder().Member("f", 'Z').End(), Refused, "f has type \"Z\" (unknown)"),

        // ends
        ["an archive cut in a header"] = (new TarBuilder().File("a", "x").Raw(new TarBuilder().File("b").ToArray()[..100]), Malformed, "ends inside the member after a, at least 412 bytes early"),
        ["an archive cut in its first header"] = (new TarBuilder().Raw(new TarBuilder().File("b").ToArray()[..100]), Malformed, "ends inside the member at the beginning, at least 412 bytes early"),
        ["an archive cut in a file"] = (new TarBuilder().Member("f", '0', fields => fields.Size(1000), "abc"), Malformed, "ends inside f, at least 488 bytes early"),
        ["an archive cut in a sparse file"] = (new TarBuilder().Raw(SparseTests.Archive("1.0", [(0, 3)], 9, "abc"u8.ToArray())[..^2046]), Malformed, "ends inside dir/sparse, at least 1 bytes early"),
        ["an archive cut in a sparse map"] = (new TarBuilder().Raw(SparseTests.Archive("1.0", [(0, 3)], 9, "abc"u8.ToArray())[..^2058]), Malformed, "ends inside dir/sparse, at least 10 bytes early"),
        ["an archive cut in a pax header"] = (new TarBuilder().File("a").Member("h", 'x', fields => fields.Size(900), "20 path=b\n"), Malformed, "ends inside the member after a, at least 388 bytes early"),
        ["an archive cut in a long name"] = (new TarBuilder().Member("h", 'L', fields => fields.Size(900), "b"), Malformed, "ends inside the member at the beginning, at least 388 bytes early"),
        ["an archive cut in a directory's list"] = (new TarBuilder().Member("d/", 'D', fields => fields.Size(900), "b"), Malformed, "ends inside d/, at least 388 bytes early"),
        ["an archive cut in a hard link's content"] = (
            new TarBuilder().File("f").Member("h", '1', fields => fields.Link("f").Size(2000), Bytes.Repeat('#', 600)), Malformed, "ends inside h, at least 976 bytes early"),
        ["an end after a pax header"] = (new TarBuilder().File("f").RawPax(TarBuilder.Record("path", "a")).End(), Malformed, "ends after the extended header after f, before its member"),
        ["an end after a long name"] = (new TarBuilder().LongName("a"), Malformed, "ends after the extended header at the beginning, before its member"),
        ["one zero block between members"] = (new TarBuilder().File("a").Zeros(512).File("b").End(), Malformed, "one zero block between members, where two end the archive"),
        ["a zero block in a member with a size"] = (new TarBuilder().File("a").Zeros(512).Raw(Bytes.Repeat('#', 512)), Malformed, "one zero block between members"),

        // pax
        ["a record without a length"] = (new TarBuilder().RawPax("path=a\n").File("f").End(), Malformed, "pax header of f: the length of a record is \"path=a\\x0a\", expected decimal digits, of a number of 63 bits"),
        ["a record longer than its header"] = (new TarBuilder().RawPax("99 path=a\n").File("f").End(), Malformed, "pax header of f: the length of a record is 99, expected 4 to the 10 that are left"),
        ["a record of a negative length"] = (new TarBuilder().RawPax("-10 path=a\n").File("f").End(), Malformed, "pax header of f: the length of a record is \"-10\", expected decimal digits"),
        ["a record of a length beyond 63 bits"] = (new TarBuilder().RawPax("99999999999999999999 path=a\n").File("f").End(), Malformed, "pax header of f: the length of a record is \"99999999999999999999\", expected decimal digits, of a number of 63 bits"),
        ["a record that does not end in a newline"] = (new TarBuilder().RawPax("9 path=aa").File("f").End(), Malformed, "pax header of f: the end of a record is \"a\", expected a newline"),
        ["a record without a key"] = (new TarBuilder().RawPax("5 =a\n").File("f").End(), Malformed, "pax header of f: a record is \"=a\", expected a key, \"=\" and its value"),
        ["garbage after a record"] = (new TarBuilder().RawPax("8 uid=1\ngarbage").File("f").End(), Malformed, "pax header of f: the length of a record is \"garbage\", expected decimal digits"),
        ["a negative size in pax"] = (new TarBuilder().Pax("size", "-1").File("f").End(), Malformed, "pax header of f: size is \"-1\", expected decimal digits, of a number of 63 bits"),
        ["a size in pax with a space"] = (new TarBuilder().Pax("size", " 1").File("f").End(), Malformed, "pax header of f: size is \" 1\", expected decimal digits, of a number of 63 bits"),
        ["a size in pax beyond 63 bits"] = (new TarBuilder().Pax("size", "9223372036854775808").File("f").End(), Malformed, "pax header of f: size is \"9223372036854775808\", expected decimal digits, of a number of 63 bits"),
        ["an mtime in pax with an exponent"] = (new TarBuilder().Pax("mtime", "1e5").File("f").End(), Malformed, "pax header of f: mtime is \"1e5\", expected seconds, a point and digits"),
        ["a NUL in a path"] = (new TarBuilder().Pax("path", "a\0b").File("f").End(), Malformed, "pax header of f: a path is \"a\\x00b\", expected no NUL in it"),
        ["a NUL in an attribute's name"] = (new TarBuilder().Xattr("user.a\0b", "v").File("f").End(), Malformed, "pax header of f: the name of an extended attribute is \"user.a\\x00b\", expected some bytes without a NUL"),
        ["an attribute without a name"] = (new TarBuilder().Xattr("", "v").File("f").End(), Malformed, "pax header of f: the name of an extended attribute is \"\", expected some bytes without a NUL"),
        ["the last record of a path names what is wrong after it"] = (
            new TarBuilder().Pax("path", "long/name").Pax("size", "x").File("cut", "abc").End(), Malformed, "pax header of long/name: size is \"x\", expected decimal digits"),
        ["GNU's long name names what is wrong in pax"] = (
            new TarBuilder().LongName("long/name").Pax("mtime", "x").File("cut", "abc").End(), Malformed, "pax header of long/name: mtime is \"x\", expected seconds"),
        ["a record in a global header"] = (
            new TarBuilder().File("a").Member("g", 'g', content: "x=y\n").File("b").End(), Malformed, "global pax header after a: the length of a record is \"x=y\\x0a\", expected decimal digits"),
        ["a uid in a global header"] = (
            new TarBuilder().File("a").Global("uid", "root").File("b").End(), Malformed, "pax header of b: uid is \"root\", expected decimal digits"),
        ["an attribute that is no base64"] = (new TarBuilder().Pax("LIBARCHIVE.xattr.user.a", "!!!!").File("f").End(), Malformed, "pax header of f: LIBARCHIVE.xattr.user.a is \"!!!!\", expected base64"),

        // sparse files beside the lies below
        ["a sparse file without a size"] = (new TarBuilder().Pax("GNU.sparse.map", "0,3").File("f", "abc").End(), Malformed, "sparse file f has no size"),
        ["a sparse map for all members"] = (new TarBuilder().Global("GNU.sparse.size", "3").File("f", "abc").End(), Malformed, "global pax header at the beginning: a sparse map for all members"),
        ["a sparse map of an odd number of numbers"] = (
            new TarBuilder().Pax("GNU.sparse.size", "9").Pax("GNU.sparse.map", "0,3,5").File("f", "abc").End(), Malformed, "pax header of f: GNU.sparse.map is \"0,3,5\", expected an even number of numbers between commas"),
        ["a sparse offset without a length"] = (
            new TarBuilder().Pax("GNU.sparse.size", "9").Pax("GNU.sparse.offset", "0").File("f", "abc").End(), Malformed, "pax header of f: sparse map ends after the offset 0, before its length"),
        ["a sparse length without an offset"] = (
            new TarBuilder().Pax("GNU.sparse.name", "s").Pax("GNU.sparse.size", "9").Pax("GNU.sparse.numbytes", "3").File("f", "abc").End(),
            Malformed, "pax header of s: GNU.sparse.numbytes is \"3\", expected an offset before it"),
        ["two sparse offsets"] = (
            new TarBuilder().Pax("GNU.sparse.offset", "0").Pax("GNU.sparse.offset", "5").File("f", "abc").End(),
            Malformed, "pax header of f: GNU.sparse.offset is \"5\", expected a length first"),
        ["a garbled sparse length"] = (
            new TarBuilder().Pax("GNU.sparse.offset", "0").Pax("GNU.sparse.numbytes", "x").File("f", "abc").End(),
            Malformed, "pax header of f: GNU.sparse.numbytes is \"x\", expected decimal digits"),
        ["a negative sparse offset"] = (
            new TarBuilder().Member("f", 'S', fields => fields.Magic("ustar  \0").Octal(386, 12, -5).Octal(398, 12, 3).Octal(483, 12, 20), "abc").End(),
            Malformed, "sparse map of f: 3 bytes at -5 after a run that ends at 0"),
        ["a negative sparse size"] = (new TarBuilder().Member("f", 'S', fields => fields.Magic("ustar  \0").Octal(483, 12, -20)).End(), Malformed, "f: real size field is -20, expected 0 or more"),
        ["a garbled sparse offset"] = (
            new TarBuilder().Member("f", 'S', fields => fields.Magic("ustar  \0").Raw(386, "zzzzzzzzzzzz").Octal(483, 12, 20)).End(), Malformed, "f: sparse map: offset field is \"zzzzzzzzzzzz\", expected octal digits"),
        ["a sparse map of blocks without an end"] = (
            new TarBuilder().Member("f", 'S', fields => fields.Magic("ustar  \0").Raw(482, "\u0001").Octal(483, 12, 20)), Malformed, "ends inside f, at least 512 bytes early"),
        ["a sparse map longer than its member"] = (
            new TarBuilder().Pax("GNU.sparse.major", "1").Pax("GNU.sparse.minor", "0").Pax("GNU.sparse.realsize", "9").File("f", "5\n0\n1\n").End(), Malformed, "sparse map of f is longer than the 6 bytes of its member"),
        ["a sparse map of letters"] = (
            new TarBuilder().Pax("GNU.sparse.major", "1").Pax("GNU.sparse.minor", "0").Pax("GNU.sparse.realsize", "9").File("f", (byte[])[.. "many\n"u8, .. new byte[507]]).End(),
            Malformed, "sparse map of f: \"many\" is no number, expected at most 19 decimal digits and a newline"),
        ["a sparse format of the future"] = (
            new TarBuilder().Pax("GNU.sparse.major", "2").Pax("GNU.sparse.realsize", "3").File("f", "abc").End(), Refused, "f is a sparse file of format 2.0, which is not supported"),

        ["a sparse file of Solaris"] = (
            new TarBuilder().Pax("SUN.holesdata", " 0 3 9").File("f", "abc").End(), Refused, "pax header of f: SUN.holesdata says that it is a sparse file of Solaris, which is not supported"),

        // what the entries say of each other
        ["a hard link to nothing"] = (new TarBuilder().HardLink("h", "f").End(), Malformed, "a hard link to f, which is not there"),
        ["a link to nothing"] = (new TarBuilder().Symlink("l", "").End(), Malformed, "l is a link to nothing"),
        ["a file without a name"] = (new TarBuilder().File("./", "x").Member("", '0').End(), Refused, "an entry without a name would replace the root by a File"),
        ["a file in the root's place"] = (new TarBuilder().File("./", "x").Member("..", '0').End(), Refused, ".. would replace the root by a File"),
    }.ToDictionary(row => row.Key, row => (row.Value.Tar.ToArray(), row.Value.Code, row.Value.Says));

    public static TheoryData<string> Names => [.. Rows.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task A_bad_archive_is_refused_with_its_reason_and_leaves_nothing(string name)
    {
        (byte[] tar, int code, string says) = Rows[name];
        using LayerRun run = new(LayoutLayer.Of(tar));

        await run.AssertRefusedAsync(code, [$"layer {Digest.Of(tar)}: archive: ", says]);
    }

    /// <summary>Name, runs, size, bytes stored, what is said of it.</summary>
    public static TheoryData<string, (long, long)[], long, int, string> Lies => new()
    {
        { "unsorted", [(10, 2), (0, 3)], 20, 5, "3 bytes at 0 after a run that ends at 12" },
        { "overlapping", [(0, 5), (4, 5)], 20, 10, "5 bytes at 4 after a run that ends at 5" },
        { "beyond the size", [(0, 3), (19, 2)], 20, 5, "reaches 21, the file has 20 bytes" },
        { "an end beyond the size", [(0, 3), (21, 0)], 20, 3, "reaches 21, the file has 20 bytes" },
        { "an end beyond 2^63", [(long.MaxValue, 2)], long.MaxValue, 2, "2 bytes at 9223372036854775807 after a run that ends at 0" },
        { "more data than is stored", [(0, 3), (10, 8)], 20, 5, "has 11 bytes of data, the archive 5" },
        { "less data than is stored", [(0, 3)], 20, 600, "has 3 bytes of data, the archive 600" },
        { "no data, and some stored", [], 20, 5, "has 0 bytes of data, the archive 5" },
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public async Task A_sparse_map_that_lies_is_refused_in_every_format(string name, (long, long)[] runs, long size, int stored, string says)
    {
        foreach (string format in new[] { "old", "0.0", "0.1", "1.0" })
        {
            using LayerRun run = new(LayoutLayer.Of(SparseTests.Archive(format, runs, size, new byte[stored])));
            TestContext.Current.TestOutputHelper?.WriteLine($"{name}, {format}");

            await run.AssertRefusedAsync(Malformed, ["layer sha256:", "archive: sparse map ", "dir/sparse", says]);
        }
    }

    [Theory]
    [InlineData(4096, 0)]
    [InlineData(1, 1 << 20)]
    public async Task A_device_that_Linux_has_no_number_for_is_refused_where_it_is_made(int major, int minor)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "devices need root");
        byte[] tar = new TarBuilder().CharacterDevice("most", 4095, (1 << 20) - 1).CharacterDevice("more", major, minor).End().ToArray();
        using LayerRun run = new(LayoutLayer.Of(tar));

        foreach (string output in new[] { "--rootfs", "--layers" })
        {
            run.AssertRefused(await run.RunAsync(output, run["x"]), Refused, [$"layer {Digest.Of(tar)}: archive: more is device {major}:{minor}, more than the 4095:1048575 that Linux takes"]);
        }

        (await run.RunAsync("--rootfs", run["r"], "--tar", run["x"], "--devices", "skip")).Expect(0);
    }

    [Theory]
    [InlineData("an archive cut in a file")]
    [InlineData("a wrong checksum")]
    [InlineData("a type that nobody knows")]
    [InlineData("a hard link to nothing")]
    public async Task Nothing_of_a_bad_archive_stays_in_the_store(string name)
    {
        (byte[] tar, int code, string says) = Rows[name];
        byte[] below = new TarBuilder().File("below").End().ToArray();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(below, Digest.Of(below)).Layer(tar, Digest.Of(tar)).Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", work["s"], "--extract", "--rootfs", work["r"], "-q");

        Assert.Contains(says, Assert.Single(result.Expect(code).Error.Split('\n', StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
        Assert.Equal(["s"], work.Names);
        Assert.Equal("", (await Binary.RunAsync("list", "--store", work["s"])).Expect(0).Out);
        // of the layer below there may be a directory, for it was whole
        Assert.DoesNotContain(
            Directory.GetFileSystemEntries(work["s"], "*", SearchOption.AllDirectories),
            path => path.Contains(ChainId.Of([Digest.Of(below), Digest.Of(tar)])[1].Value.Hex, StringComparison.Ordinal));
        Assert.Empty(Directory.GetFileSystemEntries(work["s/parts"]));
    }
}
