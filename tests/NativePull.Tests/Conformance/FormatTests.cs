using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;
using NativePull.Tests.Layers;

namespace NativePull.Tests.Conformance;

/// <summary>
/// Every dialect of tar and every way of ending one, through the published executable: each archive becomes its tree as root file system, as layer
/// directory, and as flattened archive that GNU tar unpacks.
/// </summary>
public sealed class FormatTests
{
    private const string Long = "a-directory-with-a-name/a-directory-with-a-name/a-directory-with-a-name/a-directory-with-a-name/a-directory-with-a-name/file";

    // Of the members of Long, a directory each.
    private static readonly TreeEntry[] LongParents = [.. Enumerable.Range(1, 5).Select(i => Expected.Directory(string.Join('/', Long.Split('/')[..i])))];

    private static readonly Dictionary<string, (TarBuilder Tar, TreeEntry[] Tree)> Rows = new()
    {
        // v7, ustar, star, GNU: the block
        ["v7: no magic, no type, a directory by its slash"] = (
            new TarBuilder().Member("d/", '\0', fields => fields.Magic(new byte[8]).Mode(0x1ED)).Member("d/f", '\0', fields => fields.Magic(new byte[8]), "old").End(),
            [Expected.Directory("d"), Expected.File("d/f", "old")]),
        ["ustar: prefix and name of 100 bytes without an end"] = (
            new TarBuilder().Member(Bytes.Repeat('n', 100), '0', fields => fields.Prefix(new string('p', 155)), "x").End(),
            [Expected.Directory(new string('p', 155)), Expected.File($"{new string('p', 155)}/{new string('n', 100)}", "x")]),
        ["star: a prefix of 131 bytes, times after it"] = (
            new TarBuilder().Member("f", '0', fields => fields.Prefix("p").Raw(476, "00000000001 00000000002 ").Raw(508, "tar\0"), "x").End(),
            [Expected.Directory("p"), Expected.File("p/f", "x")]),
        ["GNU: times where ustar has its prefix"] = (
            new TarBuilder().Member("f", '0', fields => fields.Magic("ustar  \0").Raw(345, "14413537165\0"), "x").End(),
            [Expected.File("f", "x")]),
        ["numbers with spaces, without an end, with the type in the mode"] = (
            new TarBuilder().Member("f", '0', fields => fields.Raw(100, "100640 \0").Raw(108, "77777777").Raw(116, "    17 \0").Raw(124, "          3 ").Raw(136, "017777777777"), "abc").End(),
            [Expected.File("f", "abc", mode: 0x1A0, uid: 16_777_215, gid: 15, time: "2147483647")]),
        ["numbers that are not there"] = (
            new TarBuilder().Member("f", '0', fields => fields.Raw(108, new byte[8]).Raw(116, "        ").Raw(136, new byte[12]), "abc").End(),
            [Expected.File("f", "abc")]),
        ["a checksum of signed bytes"] = (new TarBuilder().Raw(SignedSum()).Raw("abc").Zeros(509).End(), [Expected.File("caf\\xe9", "abc")]),
        ["numbers in base 256"] = (
            new TarBuilder().Member(
                "f", '0', fields => fields.Binary(108, 8, 0xFFFF_FFFE).Binary(116, 8, 0x8000_0000).Binary(124, 12, 3).Binary(136, 12, -86_400), "abc").File("after").End(),
            [Expected.File("after"), Expected.File("f", "abc", uid: 0xFFFF_FFFE, gid: 0x8000_0000, time: "-86400")]),
        ["contiguous files, old directories, labels"] = (
            new TarBuilder().Member("my backup", 'V').Member("f", '7', content: "abc").Member("d/", 'D', fields => fields.Mode(0x1ED), "Yf\0\0").File("d/g").End(),
            [Expected.Directory("d"), Expected.File("d/g"), Expected.File("f", "abc")]),
        ["a link that is made where another leads through"] = (
            new TarBuilder().Directory("d/").Directory("e/").Directory("e/f/").Symlink("l", "d/g/..").File("l/x", "x").Symlink("l/g", "../e/f").File("l/y", "y").End(),
            [
                Expected.Directory("d"), Expected.Link("d/g", "../e/f"), Expected.File("d/x", "x"),
                Expected.Directory("e"), Expected.Directory("e/f"), Expected.File("e/y", "y"), Expected.Link("l", "d/g/.."),
            ]),
        ["the root's own entry"] = (
            new TarBuilder().Xattr("user.a", "1").Directory("./", mode: 0x1C8, uid: 3, gid: 4, mtime: 5).File("./f").End(),
            [Expected.Directory(".", mode: 0x1C8, uid: 3, gid: 4, time: "5", xattrs: "user.a=31"), Expected.File("f")]),

        // pax
        ["pax: every key over the header's field"] = (
            new TarBuilder().Pax("path", "p").Pax("uid", "4294967294").Pax("gid", "4294967294").Pax("mtime", "9.5").Pax("size", "3")
                .Member("x", '0', fields => fields.Size(99).Uid(1).Gid(1).Mtime(1), "abc").File("after").End(),
            [Expected.File("after"), Expected.File("p", "abc", uid: 4294967294, gid: 4294967294, time: "9.5")]),
        ["pax: a size over none in the header"] = (
            new TarBuilder().Pax("size", "700").Member("f", '0', fields => fields.Size(0), new string('s', 700)).File("after").End(),
            [Expected.File("after"), Expected.File("f", new string('s', 700))]),
        ["pax: fields that records replace may be garbage"] = (
            new TarBuilder().Pax("uid", "5").Pax("gid", "6").Pax("mtime", "7").Pax("size", "3")
                .Member("f", '0', fields => fields.Raw(108, "garbage!garbage!garbage!!!!!").Raw(136, "garbage!!!!!"), "abc").End(),
            [Expected.File("f", "abc", uid: 5, gid: 6, time: "7")]),
        ["pax: of a path given twice the last"] = (new TarBuilder().Pax("path", "one").Pax("path", "two").File("x", "abc").End(), [Expected.File("two", "abc")]),
        ["pax: of a size given twice the last"] = (
            new TarBuilder().Pax("size", "1000").Pax("size", "3").File("f", "abc").File("after").End(), [Expected.File("after"), Expected.File("f", "abc")]),
        ["pax: of an mtime given twice the last"] = (new TarBuilder().Pax("mtime", "1").Pax("mtime", "2.25").File("f").End(), [Expected.File("f", time: "2.25")]),
        ["pax: of an attribute given twice the last"] = (
            new TarBuilder().Xattr("user.a", "1").Xattr("user.b", "2").Xattr("user.a", "3").File("f").End(), [Expected.File("f", xattrs: "user.a=33 user.b=32")]),
        ["pax: a linkpath over the header and over K"] = (
            new TarBuilder().LongLink("gnu").Pax("linkpath", "pax").Symlink("l", "header").LongLink("gnu").Symlink("m", "header").End(),
            [Expected.Link("l", "pax"), Expected.Link("m", "gnu")]),
        ["pax: times before 1970 and with fractions"] = (
            new TarBuilder().Pax("mtime", "-1.25").File("a").Pax("mtime", "-0.000000001").File("b").Pax("mtime", "1.1234567899").File("c")
                .Pax("mtime", "-86400").Directory("d/").Pax("mtime", "1700000000.").File("e").Pax("mtime", "-2.5").Symlink("l", "a").End(),
            [Expected.File("a", time: "-2.75"), Expected.File("b", time: "-1.999999999"), Expected.File("c", time: "1.123456789"),
                Expected.Directory("d", time: "-86400"), Expected.File("e", time: "1700000000"), Expected.Link("l", "a", time: "-3.5")]),
        ["pax: attributes of any bytes"] = (
            new TarBuilder().Xattr("user.bytes", (byte[])[0, 0xff, (byte)'\n', (byte)'=', 0x80]).Xattr("user.empty", "").Xattr("trusted.t", "1").File("f")
                .Xattr("user.d", (byte[])[0]).Directory("d/").End(),
            [Expected.Directory("d", xattrs: "user.d=00"), Expected.File("f", xattrs: "trusted.t=31 user.bytes=00ff0a3d80 user.empty=")]),
        ["pax: libarchive's attributes, in base64, with escaped names"] = (
            new TarBuilder().Pax("LIBARCHIVE.xattr.user.bytes", "AP8K").Pax("LIBARCHIVE.xattr.user.padded", "AP8KAA==").Pax("LIBARCHIVE.xattr.user%2ea%25b", "MQ").File("f").End(),
            [Expected.File("f", xattrs: "user.a%b=31 user.bytes=00ff0a user.padded=00ff0a00")]),
        ["pax: an attribute in both ways, the later one"] = (
            new TarBuilder().Xattr("user.a", "1").Pax("LIBARCHIVE.xattr.user.a", "Mg").File("f").Pax("LIBARCHIVE.xattr.user.a", "Mg").Xattr("user.a", "1").File("g").End(),
            [Expected.File("f", xattrs: "user.a=32"), Expected.File("g", xattrs: "user.a=31")]),
        ["pax: bytes, said to be such or not"] = (
            new TarBuilder().Pax("hdrcharset", "BINARY").Pax("path", (byte[])[(byte)'a', 0xff]).File("x").Pax("path", (byte[])[(byte)'b', 0xfe, (byte)'\n']).File("x")
                .Pax("hdrcharset", "ISO-IR 10646 2000 UTF-8").Pax("path", "é").File("x").End(),
            [Expected.File("a\\xff"), Expected.File("b\\xfe\\x0a"), Expected.File("\\xc3\\xa9")]),
        ["pax: a global header is for all after it"] = (
            new TarBuilder().File("a").Global("uid", "7").Global("mtime", "1.5").Global("SCHILY.xattr.user.g", "all").File("b").Directory("d/").End(),
            [Expected.File("a"), Expected.File("b", uid: 7, time: "1.5", xattrs: "user.g=616c6c"), Expected.Directory("d", uid: 7, time: "1.5", xattrs: "user.g=616c6c")]),
        ["pax: a local header over a global one, a global one over an earlier"] = (
            new TarBuilder().Global("uid", "7").Pax("uid", "8").File("a").File("b").Pax("uid", "").File("c", uid: 9).Global("uid", "10").File("d").Global("uid", "").File("e", uid: 11)
                .Global("SCHILY.xattr.user.g", "all").Xattr("user.g", "mine").File("f").End(),
            [Expected.File("a", uid: 8), Expected.File("b", uid: 7), Expected.File("c", uid: 9), Expected.File("d", uid: 10), Expected.File("e", uid: 11),
                Expected.File("f", xattrs: "user.g=6d696e65")]),
        ["pax: keys that say nothing, an empty header, NULs after the records, Sun's type"] = (
            new TarBuilder().Global("comment", new string('c', 3000)).Pax("atime", "1").Pax("ctime", "2").Pax("SCHILY.dev", "64768").Pax("uname", "nobody").File("a")
                .RawPax((byte[])[]).File("b").RawPax((byte[])[.. TarBuilder.Record("path", "c"), 0, 0]).File("x").RawPax(TarBuilder.Record("path", "d"), 'X').File("x").End(),
            [Expected.File("a"), Expected.File("b"), Expected.File("c"), Expected.File("d")]),

        // GNU's long names, alone and with pax
        ["GNU: long name and long link"] = (
            new TarBuilder().LongName(Long).Member("cut", '0', content: "x").LongLink(Long).LongName(Long + ".2").Member("cut", '1', fields => fields.Link("cut")).File("b").End(),
            [.. LongParents, Expected.File(Long, "x", linkedTo: Long + ".2"), Expected.File(Long + ".2", "x"), Expected.File("b")]),
        ["GNU: of a long name given twice the last"] = (new TarBuilder().LongName("one").LongName("two").File("x").End(), [Expected.File("two")]),
        ["GNU: a long name without a NUL"] = (new TarBuilder().RawPax("name", 'L').File("x").End(), [Expected.File("name")]),
        ["K and L before pax"] = (
            new TarBuilder().LongLink("gnu target").LongName("gnu").Pax("path", "pax").Symlink("header", "header target").End(), [Expected.Link("pax", "gnu target")]),
        ["K and L after pax"] = (
            new TarBuilder().RawPax((byte[])[.. TarBuilder.Record("path", "pax"), .. TarBuilder.Record("uid", "5")]).LongLink("gnu target").LongName("gnu").Symlink("header", "header target").End(),
            [Expected.Link("pax", "gnu target", uid: 5)]),
        ["a global header between K, L and the member"] = (
            new TarBuilder().LongLink("gnu target").LongName("gnu").Global("uid", "5").Symlink("header", "header target").End(), [Expected.Link("gnu", "gnu target", uid: 5)]),

        // sizes where there is no content
        ["a hard link with a size and nothing after it"] = (
            new TarBuilder().File("f", "abc").Member("h", '1', fields => fields.Size(700).Link("f")).File("after", "x").End(),
            [Expected.File("after", "x"), Expected.File("f", "abc"), Expected.File("h", "abc", linkedTo: "f")]),
        ["a hard link with its content"] = (
            new TarBuilder().File("f", new string('#', 1700)).Member("h", '1', fields => fields.Link("f"), new string('#', 1700)).File("after", "x").End(),
            [Expected.File("after", "x"), Expected.File("f", new string('#', 1700)), Expected.File("h", new string('#', 1700), linkedTo: "f")]),
        ["a hard link with a size in pax, last"] = (
            new TarBuilder().File("f", "abc").Pax("size", "3").Member("h", '1', fields => fields.Link("f")),
            [Expected.File("f", "abc"), Expected.File("h", "abc", linkedTo: "f")]),
        ["a directory, a link, a fifo with a size"] = (
            new TarBuilder().Member("d/", '5', fields => fields.Size(4096).Mode(0x1ED)).Member("l", '2', fields => fields.Size(11).Link("f")).File("f", "x").End(),
            [Expected.Directory("d"), Expected.File("f", "x"), Expected.Link("l", "f")]),

        // ends
        ["no byte"] = (new TarBuilder(), []),
        ["one zero block"] = (new TarBuilder().Zeros(512), []),
        ["two zero blocks"] = (new TarBuilder().End(), []),
        ["no end marker"] = (new TarBuilder().File("a", "1").File("b", "2"), [Expected.File("a", "1"), Expected.File("b", "2")]),
        ["half an end marker"] = (new TarBuilder().File("a", "1").Zeros(512), [Expected.File("a", "1")]),
        ["no end marker and no padding"] = (new TarBuilder().Raw(new TarBuilder().File("a", "123").ToArray()[..515]), [Expected.File("a", "123")]),
        ["a record's padding after the end"] = (new TarBuilder().File("a", "1").End().Zeros(10240), [Expected.File("a", "1")]),
        ["another archive after the end"] = (new TarBuilder().File("a", "1").End().File("b", "2").End(), [Expected.File("a", "1")]),
        ["garbage after the end"] = (new TarBuilder().File("a", "1").End().Raw("garbage"), [Expected.File("a", "1")]),
        ["archives without ends, joined"] = (
            new TarBuilder().Raw(new TarBuilder().File("a", "1").ToArray()).Raw(new TarBuilder().Global("uid", "5").File("b", "2").ToArray()).Raw(new TarBuilder().File("a", "3").End().ToArray()),
            [Expected.File("a", "3", uid: 5), Expected.File("b", "2", uid: 5)]),
    };

    // Runs of data of a sparse file, its size.
    private static readonly Dictionary<string, ((long Offset, long Length)[] Runs, int Size)> SparseFiles = new()
    {
        ["a few runs"] = ([(0, 3), (100_000, 2), (400_000, 0)], 400_000),
        ["more runs than a header and one block hold"] = ([.. Enumerable.Range(0, 60).Select(i => (i * 8192L, 5L))], 500_000),
        ["one run up to the end"] = ([(99_995, 5)], 100_000),
        ["all hole"] = ([(100_000, 0)], 100_000),
        ["all hole, without a run"] = ([], 100_000),
        ["no hole"] = ([(0, 1000)], 1000),
        ["nothing"] = ([], 0),
    };

    public static TheoryData<string> Names => [.. Rows.Keys];

    public static TheoryData<string, string> SparseNames
    {
        get
        {
            TheoryData<string, string> names = [];
            foreach (string file in SparseFiles.Keys)
            {
                foreach (string format in new[] { "old", "0.0", "0.1", "1.0" })
                {
                    names.Add(file, format);
                }
            }

            return names;
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public async Task An_archive_becomes_its_tree_in_every_output(string name)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and trusted attributes need root");
        (TarBuilder tar, TreeEntry[] tree) = Rows[name];
        using LayerRun run = new(LayoutLayer.Of(tar.ToArray()));

        await run.AssertTreeAsync(tree);
    }

    [Theory]
    [MemberData(nameof(SparseNames))]
    public async Task A_sparse_file_has_its_data_where_it_belongs_and_stays_sparse(string name, string format)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        ((long Offset, long Length)[] runs, int size) = SparseFiles[name];
        byte[] data = [.. Enumerable.Range(0, (int)runs.Sum(each => each.Length)).Select(i => (byte)(i | 1))];
        byte[] content = new byte[size];
        int used = 0;
        foreach ((long offset, long length) in runs)
        {
            data.AsSpan(used, (int)length).CopyTo(content.AsSpan((int)offset));
            used += (int)length;
        }

        using LayerRun run = new(LayoutLayer.Of(SparseTests.Archive(format, runs, size, data)));

        await run.AssertTreeAsync([Expected.File("after"), Expected.Directory("dir"), Expected.File("dir/sparse", content)]);

        // a block each at most, of 4 KiB
        AwkwardTree.Run(run.Path, $"for f in r/dir/sparse l/*/dir/sparse; do [ $(stat -c %b $f) -le {8 * runs.Length} ] || {{ stat $f; exit 1; }}; done");
    }

    // One directory more than an applier keeps open, all the others in use: of a link's two neither is closed for the other.
    [Fact]
    public async Task A_hard_link_leads_from_any_of_many_directories_to_any_other()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        const int directories = 49;
        TarBuilder tar = new();
        for (int i = 0; i < directories; i++)
        {
            tar.File($"{i}/f", $"{i}");
        }

        for (int from = 0; from < directories; from++)
        {
            // all but the one that the link is in
            for (int i = 1; i < directories; i++)
            {
                tar.File($"{(from + i) % directories}/g");
            }

            tar.HardLink($"{from}/link", $"{(from + 1) % directories}/f");
        }

        using LayerRun linked = new(LayoutLayer.Of(tar.End().ToArray()));
        (await linked.ExtractAsync()).Expect(0);
        foreach (string root in new[] { linked["r"], Assert.Single(Directory.GetDirectories(linked["l"])) })
        {
            for (int from = 0; from < directories; from++)
            {
                Assert.Equal($"{(from + 1) % directories}", await File.ReadAllTextAsync($"{root}/{from}/link", TestContext.Current.CancellationToken));
            }
        }
    }

    [Theory]
    [InlineData("--rootfs")]
    [InlineData("--layers")]
    [InlineData("--tar")]
    public async Task Eight_layers_of_many_directories_need_no_more_than_64_descriptors(string output)
    {
        using LayerRun run = new(Enumerable.Range(0, 8).Select(layer => LayoutLayer.Of(
            Enumerable.Range(0, 100).Aggregate(new TarBuilder(), (tar, i) => tar.File($"{i}/d/{layer}", "x")).End().ToArray())));

        BinaryResult result = await Binary.ProgramAsync(
            "prlimit", "--nofile=64", Binary.File, "extract", $"oci:{run.Path}/layout", "-q", "--platform", "linux/amd64", "--ownership", "squash", output, run["x"]);

        result.Expect(0);
    }

    [Fact]
    public async Task What_follows_the_end_is_part_of_the_diff_id()
    {
        byte[] tar = new TarBuilder().File("a", "1").End().ToArray();
        byte[] record = [.. tar, .. new byte[8192]];
        byte[] garbage = [.. tar, .. "garbage"u8];
        foreach ((byte[] blob, byte[] promised) in new[] { (record, tar), (tar, record), (garbage, tar), (garbage, [.. tar, .. "garbagf"u8]) })
        {
            using LayerRun run = new(new LayoutLayer(blob, promised));

            await run.AssertRefusedAsync(6, [$"layer {Digest.Of(blob)}: diff ID: expected {Digest.Of(promised)}, got {Digest.Of(blob)}"]);
        }
    }

    // Some old programs added the bytes of the header as signed numbers.
    private static byte[] SignedSum()
    {
        byte[] block = new TarFields().Name(Bytes.Latin1("caf\u00e9")).Type('0').Size(3).Checksum("        ").ToBlock();
        int sum = block.Sum(each => (sbyte)each);
        return new TarFields().Name(Bytes.Latin1("caf\u00e9")).Type('0').Size(3).Checksum(Convert.ToString(sum, 8).PadLeft(6, '0') + "\0 ").ToBlock();
    }
}
