using System.Buffers.Binary;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;
using NativePull.Tests.Layers;

namespace NativePull.Tests.Conformance;

/// <summary>What compressions may look like, through the published executable: framing, sums, windows, mislabelled blobs, and those that are not read.</summary>
public sealed class CompressionTests
{
    private const string GZip = LayoutLayer.Tar + "+gzip";
    private const string Zstd = LayoutLayer.Tar + "+zstd";

    // More than a block of any kind, and bytes of all values.
    private static readonly byte[] Content = [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * i / 7))];
    private static readonly byte[] Tar = new TarBuilder().File("f", Content, uid: 0).File("g", "after").End().ToArray();
    private static readonly TreeEntry[] Tree = [Expected.File("f", Content), Expected.File("g", "after")];

    private static readonly Dictionary<string, (byte[] Blob, string MediaType)> Good = GoodBlobs();

    private static readonly Dictionary<string, (byte[] Blob, string Says)> Broken = BrokenBlobs();

    public static TheoryData<string> GoodNames => [.. Good.Keys];

    public static TheoryData<string> BrokenNames => [.. Broken.Keys];

    [Theory]
    [MemberData(nameof(GoodNames))]
    public async Task A_blob_becomes_its_tree_in_every_output(string name)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        (byte[] blob, string mediaType) = Good[name];
        using LayerRun run = new(new LayoutLayer(blob, Tar, mediaType));

        await run.AssertTreeAsync(Tree);
    }

    [Theory]
    [MemberData(nameof(BrokenNames))]
    public async Task A_broken_blob_is_exit_6_and_leaves_nothing(string name)
    {
        (byte[] blob, string says) = Broken[name];
        using LayerRun run = new(new LayoutLayer(blob, Tar, GZip));

        await run.AssertRefusedAsync(6, [$"layer {Digest.Of(blob)}: ", says]);
    }

    // What a program makes of an archive; where none is on every machine, the first bytes that its would write.
    public static TheoryData<string, string> Others => new()
    {
        { "xz", "xz" },
        { "xz", "xz -0 --check=none" },
        { "bzip2", Python("bz2", "bz2.compress(data)") },
        { "bzip2", Python("bz2", "bz2.compress(data, 1)") },
        { "bzip2", Python("bz2", "bz2.compress(b'')") },
        { "lzma", "xz --format=lzma" },
        { "lzma", "xz --format=lzma -0" },
        { "lzma", "xz --format=lzma -9e" },
        { "lzma", "xz --format=lzma --lzma1=dict=192KiB" },
        { "lzma", "xz --format=lzma </dev/null" },
        { "lzma", Python("lzma", "lzma.compress(data, lzma.FORMAT_ALONE)") },
        // the SDK's program writes the length, and a dictionary of whole MiB
        { "lzma", @"printf '\x5d\0\0\x50\0\0\x94\1\0\0\0\0\0\0'; cat" },
        { "zip", Python("io, zipfile", "(o := io.BytesIO(), z := zipfile.ZipFile(o, 'w'), z.writestr('tar', data), z.close(), o.getvalue())[-1]") },
        { "zip", Python("io, zipfile", "(o := io.BytesIO(), zipfile.ZipFile(o, 'w').close(), o.getvalue())[-1]") },
        { "lz4", @"printf '\4\x22\x4d\x18\x64\x40'; cat" },
        { "lz4", @"printf '\2\x21\x4c\x18'; cat" },
        { "lzip", @"printf 'LZIP\1\14'; cat" },
        { "lzop", @"printf '\x89LZO\0\r\n\x1a\n'; cat" },
        { "compress", @"printf '\x1f\x9d\x90'; cat" },
        { "7z", @"printf '7z\xbc\xaf\x27\x1c\0\4'; cat" },
    };

    [Theory]
    [MemberData(nameof(Others))]
    public async Task Another_compression_is_refused_by_its_name_whatever_the_media_type(string name, string program)
    {
        using TemporaryDirectory work = new();
        await File.WriteAllBytesAsync(work["tar"], Tar, TestContext.Current.CancellationToken);
        AwkwardTree.Run(work.Path, $"({program}) <tar >packed");
        byte[] blob = await File.ReadAllBytesAsync(work["packed"], TestContext.Current.CancellationToken);
        foreach (string mediaType in new[] { LayoutLayer.Tar, GZip, $"{LayoutLayer.Tar}+{name}" })
        {
            using LayerRun run = new(new LayoutLayer(blob, Tar, mediaType));

            await run.AssertRefusedAsync(7, [$"layer {Digest.Of(blob)}: compressed with {name}, which is not supported"]);
        }
    }

    // First names of archives that begin as something else does; the first is what a file named "]" looks like to who guesses LZMA.
    public static TheoryData<string> FirstNames => ["]", "]\0\0\u0080\0\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\0", "PK\u0003\u0004", "BZh91AY&SY", "7z\u00bc\u00af\u0027\u001c", "\u001f\u009d", "\u00fd7zXZ\0"];

    [Theory]
    [MemberData(nameof(FirstNames))]
    public async Task An_archive_whose_first_name_looks_like_a_compression_is_an_archive(string name)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        using LayerRun run = new(LayoutLayer.Of(new TarBuilder().File(Bytes.Latin1(name), "x").End().ToArray()));
        Bytes made = Bytes.Latin1(name.Split('\0')[0]);

        await run.AssertTreeAsync([Expected.File(TreeListing.Escape(made.Value), "x")]);
    }

    [Theory]
    [InlineData(5)]
    [InlineData(18)]
    [InlineData(600)]
    public async Task What_only_begins_like_lzma_is_a_broken_archive(int length)
    {
        // a dictionary that nobody writes, a length beyond any, a range coder that cannot begin so
        foreach (string start in new[] { "5d0000510000", "5d00008000ffffffffff000000", "5d00008000ffffffffffffffff01" })
        {
            byte[] blob = [.. Convert.FromHexString(start).Concat(Enumerable.Repeat((byte)'x', 600)).Take(length)];
            using LayerRun run = new(LayoutLayer.Of(blob));

            await run.AssertRefusedAsync(6, [$"layer {Digest.Of(blob)}: archive: "]);
        }
    }

    [Fact]
    public async Task A_zstd_window_may_have_128_MiB_and_not_more()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        byte[] whole = ZstdFrames.Raw(Tar, 27);
        // one segment: the window is the content, whose length is in four bytes or eight
        byte[] segment = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 1, 0, 0, 8, .. whole.AsSpan(6)];
        byte[] segment8 = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80, .. whole.AsSpan(6)];
        using LayerRun run = new(new LayoutLayer(whole, Tar, Zstd));

        await run.AssertTreeAsync(Tree);

        foreach ((byte[] blob, string says) in new[]
        {
            (ZstdFrames.Raw(Tar, 28), "its zstd window has 268435456 bytes, more than the 134217728 allowed"),
            (ZstdFrames.Raw(Tar, 41), "its zstd window has 2199023255552 bytes, more than the 134217728 allowed"),
            (segment, "its zstd window has 134217729 bytes, more than the 134217728 allowed"),
            (segment8, "its zstd window has 9223372036854775808 bytes, more than the 134217728 allowed"),
            ([.. TarBuilder.Zstd(Tar[..700]), .. ZstdFrames.Raw(Tar[700..], 28)], "its zstd window of a later frame has more bytes than the 134217728 allowed"),
        })
        {
            using LayerRun refused = new(new LayoutLayer(blob, Tar, Zstd));

            await refused.AssertRefusedAsync(7, [$"layer {Digest.Of(blob)}: {says}"]);
        }
    }

    private static Dictionary<string, (byte[] Blob, string MediaType)> GoodBlobs()
    {
        byte[] one = Tar[..700];
        byte[] two = Tar[700..];
        byte[] empty = Convert.FromHexString("1f8b080000000000000303000000000000000000");
        return new()
        {
            ["plain"] = (Tar, LayoutLayer.Tar),
            ["plain, said to be gzip"] = (Tar, GZip),
            ["plain, said to be zstd"] = (Tar, Zstd),
            ["gzip"] = (TarBuilder.GZip(Tar), GZip),
            ["gzip, said to be plain"] = (TarBuilder.GZip(Tar), LayoutLayer.Tar),
            ["gzip, said to be zstd"] = (TarBuilder.GZip(Tar), Zstd),
            ["gzip, in Docker's words"] = (TarBuilder.GZip(Tar), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
            ["gzip, said to be something new"] = (TarBuilder.GZip(Tar), LayoutLayer.Tar + "+br"),
            ["gzip of two members"] = ([.. TarBuilder.GZip(one), .. TarBuilder.GZip(two)], GZip),
            ["gzip with empty members"] = ([.. empty, .. TarBuilder.GZip(one), .. empty, .. TarBuilder.GZip(two), .. empty], GZip),
            ["gzip of a member a byte"] = ([.. one.SelectMany(each => TarBuilder.GZip([each])), .. TarBuilder.GZip(two)], GZip),
            ["gzip with a name"] = (LayerStreamTests.GZip(Tar, 0x08, "name\0"u8), GZip),
            ["gzip with a comment"] = (LayerStreamTests.GZip(Tar, 0x10, "comment\0"u8), GZip),
            ["gzip with an extra field"] = (LayerStreamTests.GZip(Tar, 0x04, [4, 0, 1, 2, 3, 4]), GZip),
            ["gzip with a large extra field"] = (LayerStreamTests.GZip(Tar, 0x04, [0xff, 0xff, .. new byte[65535]]), GZip),
            ["gzip with a header checksum"] = (LayerStreamTests.GZip(Tar, 0x02, []), GZip),
            ["gzip with every header field"] = (LayerStreamTests.GZip(Tar, 0x1f, [3, 0, 9, 9, 9, .. "name\0comment\0"u8]), GZip),
            ["gzip, then a zero"] = ([.. TarBuilder.GZip(Tar), 0], GZip),
            ["gzip, then many zeros"] = ([.. TarBuilder.GZip(Tar), .. new byte[300_000]], GZip),
            ["zstd"] = (TarBuilder.Zstd(Tar), Zstd),
            ["zstd, said to be plain"] = (TarBuilder.Zstd(Tar), LayoutLayer.Tar),
            ["zstd, said to be gzip"] = (TarBuilder.Zstd(Tar), GZip),
            ["zstd with a checksum"] = (ZstdFrames.Checked(Tar), Zstd),
            ["zstd of two frames"] = ([.. TarBuilder.Zstd(one), .. ZstdFrames.Checked(two)], Zstd),
            ["zstd with an empty frame"] = ([.. TarBuilder.Zstd([]), .. TarBuilder.Zstd(Tar)], Zstd),
            ["zstd with a skippable frame first"] = ([.. ZstdFrames.Skippable(0), .. TarBuilder.Zstd(Tar)], Zstd),
            ["zstd with skippable frames first, between and last"] =
                ([.. ZstdFrames.Skippable(15), .. ZstdFrames.Skippable(1), .. TarBuilder.Zstd(one), .. ZstdFrames.Skippable(7, 0), .. TarBuilder.Zstd(two), .. ZstdFrames.Skippable(2, 200_000)], Zstd),
        };
    }

    private static Dictionary<string, (byte[] Blob, string Says)> BrokenBlobs()
    {
        byte[] gzip = TarBuilder.GZip(Tar);
        byte[] zstd = ZstdFrames.Checked(Tar);
        return new()
        {
            ["gzip cut in its header"] = (gzip[..7], "its gzip data ends inside a member"),
            ["gzip cut in its data"] = (gzip[..^1000], "its gzip data ends inside a member"),
            ["gzip cut in its sums"] = (gzip[..^1], "its gzip data ends inside a member"),
            ["gzip without its last member"] = (TarBuilder.GZip(Tar[..700]), "diff ID: expected"),
            ["gzip with a wrong CRC"] = (With(gzip, ^8), $"its gzip data has another CRC-32: expected {Stored(With(gzip, ^8), 8):x8}, got {Stored(gzip, 8):x8}"),
            ["gzip with a wrong length"] = (With(gzip, ^1), $"its gzip data has another length: expected {Stored(With(gzip, ^1), 4)} bytes, got {Tar.Length}"),
            ["gzip with a wrong sum in its first member"] = ([.. With(TarBuilder.GZip(Tar[..700]), ^8), .. TarBuilder.GZip(Tar[700..])],
                $"its gzip data has another CRC-32: expected {Stored(With(TarBuilder.GZip(Tar[..700]), ^8), 8):x8}, got {Stored(TarBuilder.GZip(Tar[..700]), 8):x8}"),
            ["gzip with a wrong length in its second member"] = (
                [.. TarBuilder.GZip(Tar[..700]), .. With(TarBuilder.GZip(Tar[700..]), ^4)],
                $"its gzip data has another length: expected {Stored(With(TarBuilder.GZip(Tar[700..]), ^4), 4)} bytes, got {Tar.Length - 700}"),
            ["gzip with a wrong header checksum"] = (With(LayerStreamTests.GZip(Tar, 0x02, []), 10), "its gzip header has another CRC-16 than it says"),
            ["gzip with broken data"] = (With(gzip, gzip.Length / 2), "its gzip data "),
            ["gzip of another method"] = (With(gzip, 2), "its gzip data is broken (unknown compression method)"),
            ["gzip with reserved flags"] = (With(gzip, 3, 0x80), "its gzip data is broken (unknown header flags set)"),
            ["gzip with garbage after it"] = ([.. gzip, .. "garbage"u8], "its gzip data is followed by something else"),
            ["gzip with zeros and garbage after it"] = ([.. gzip, .. new byte[200_000], 1], "its gzip data is followed by something else"),
            ["gzip with half a member after it"] = ([.. gzip, .. gzip[..20]], "its gzip data ends inside a member"),
            ["zstd cut in its data"] = (zstd[..^1000], "its zstd data ends inside a frame"),
            ["zstd cut in its checksum"] = (zstd[..^1], "its zstd data ends inside a frame"),
            ["zstd without its last frame"] = (TarBuilder.Zstd(Tar[..700]), "diff ID: expected"),
            ["zstd with a wrong checksum"] = (With(zstd, ^1), "its zstd data has another checksum than a frame says"),
            ["zstd with garbage after it"] = ([.. zstd, .. "garbage"u8], "its zstd data is followed by something else"),
            ["zstd with zeros after it"] = ([.. zstd, .. new byte[1000]], "its zstd data is followed by something else"),
            ["zstd with a cut skippable frame"] = ([.. zstd, .. ZstdFrames.Skippable(2)[..^1]], "its zstd data ends inside a frame"),
            ["zstd that wants a dictionary"] = ([0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x00, 0x07, 0x01, 0x00, 0x00], "its zstd data wants a dictionary"),
            ["zstd, then gzip"] = ([.. TarBuilder.Zstd(Tar[..700]), .. TarBuilder.GZip(Tar[700..])], "its zstd data is followed by something else"),
            ["gzip, then zstd"] = ([.. TarBuilder.GZip(Tar[..700]), .. TarBuilder.Zstd(Tar[700..])], "its gzip data is followed by something else"),
            ["gzip in gzip"] = (TarBuilder.GZip(gzip), "archive: checksum of the header at the beginning: expected"),
        };
    }

    // RFC 1952, 2.3.1: a CRC-32 and a length, each of four bytes, little-endian.
    private static uint Stored(byte[] gzip, int fromEnd) => BinaryPrimitives.ReadUInt32LittleEndian(gzip.AsSpan(gzip.Length - fromEnd));

    private static string Python(string modules, string data) =>
        $"python3 -c \"import sys, {modules}; data = sys.stdin.buffer.read(); sys.stdout.buffer.write({data})\"";

    private static byte[] With(byte[] bytes, Index place, byte flip = 0x55)
    {
        byte[] changed = [.. bytes];
        changed[place] ^= flip;
        return changed;
    }
}
