using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// Small blobs that ask for much: disk, memory, names. The published executable's own peak is measured, by wait4(2), so it does not matter what runs beside.
/// </summary>
public sealed class BombTests
{
    // KiB; product: "one stated peak for any image"
    private const long Peak = 64 * 1024;

    // Where what headers say is kept, up to a limit of 32 MiB, and while it is, what grew before lies about.
    private const long PeakOfHeld = 128 * 1024;

    [Fact]
    public async Task A_zstd_blob_out_of_all_proportion_is_refused_unless_its_options_allow_it()
    {
        // more than a GiB of zeros in 37,000 bytes: as the names in a directory of an incremental archive, which are read and kept by nobody
        const int blocks = 9_000;
        const long zeros = blocks * 131_072L;
        byte[] head = new TarBuilder().Member("d/", 'D', fields => fields.Size(zeros)).ToArray();
        byte[] blob = ZstdFrames.Raw(head, 17, blocks);
        using LayerRun run = new(new LayoutLayer(blob, DigestWithZeros(head, zeros), LayoutLayer.Tar + "+zstd"));

        foreach (string output in new[] { "--layers", "--tar" })
        {
            BinaryResult refused = await run.MeasureAsync(output, run["x"]);

            run.AssertRefused(refused, 7, [$"layer {Digest.Of(blob)}: ", " bytes unpack to more than 107", ", over 2000 times as much"]);
            Assert.InRange(Binary.PeakOf(refused), 1, Peak);
        }

        (await run.RunAsync("--rootfs", run["r"], "--ownership", "squash", "--limit", "ratio=40000")).Expect(0);
        (await run.RunAsync("--layers", run["l"], "--ownership", "squash", "--max-unpacked", "2GiB")).Expect(0);
    }

    [Fact]
    public async Task A_gzip_bomb_is_refused_before_its_content_or_read_in_bounded_memory()
    {
        // deflate cannot do better than 1 : 1,032
        byte[] zeros = TarBuilder.GZip(new byte[64 << 20]);
        byte[] file = new TarBuilder().Member("f", '0', fields => fields.Size(1L << 50)).ToArray();
        using LayerRun large = new(new LayoutLayer([.. TarBuilder.GZip(file), .. zeros, .. zeros], file, LayoutLayer.Tar + "+gzip"));
        byte[] empty = new TarBuilder().File("f").End().ToArray();
        using LayerRun padded = new(new LayoutLayer([.. TarBuilder.GZip(empty), .. zeros, .. zeros], DigestWithZeros(empty, 128 << 20), LayoutLayer.Tar + "+gzip"));

        foreach (string output in new[] { "--rootfs", "--layers", "--tar" })
        {
            BinaryResult machine = await large.MeasureAsync(output, large["x"]);
            BinaryResult image = await large.MeasureAsync(output, large["x"], "--max-unpacked", "1TB");
            BinaryResult read = await padded.MeasureAsync(output, padded[output], "--ownership", "squash");

            large.AssertRefused(machine, 8, [$"archive: f has {1L << 50} bytes, and ", " are free"]);
            large.AssertRefused(image, 7, [$"archive: f has {1L << 50} bytes; with it there would be more than the 1000000000000 allowed"]);
            Assert.All([machine, image, read.Expect(0)], result => Assert.InRange(Binary.PeakOf(result), 1, Peak));
        }
    }

    // A marker is 512 bytes of the same, over and over; if each went through all that is in the directory, 200 KB would take a quarter of an hour, and a megabyte hours.
    [Theory]
    [InlineData("d/.wh..wh..opq")]
    [InlineData(".wh.d")]
    [InlineData("d/.wh.e")]
    public async Task Markers_without_number_cost_no_more_than_other_entries(string marker)
    {
        const int count = 30_000;
        TarBuilder lower = new();
        TarBuilder upper = new();
        for (int i = 0; i < count; i++)
        {
            lower.File($"d/e/old{i}");
            upper.File($"d/e/new{i}");
        }

        for (int i = 0; i < count; i++)
        {
            upper.File(marker);
        }

        using LayerRun run = new(new[] { lower, upper }.Select(tar => Layer(tar.End().ToArray())));

        (await run.ExtractAsync("--ownership", "squash")).Expect(0);

        Assert.Equal(count, Directory.GetFiles(run["r/d/e"]).Length);
        AwkwardTree.Run(run.Path, string.Create(CultureInfo.InvariantCulture, $"[ $(tar -tf x | grep -c /new) = {count} ] && ! tar -tf x | grep -q /old"));

        static LayoutLayer Layer(byte[] archive) => new(TarBuilder.GZip(archive), archive, LayoutLayer.Tar + "+gzip");
    }

    // A layer's own root says what it hides by a whiteout for each name, of which the next one has nothing left to hide.
    [Fact]
    public async Task Opaque_roots_one_above_the_other_do_not_hide_the_same_names_again()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        byte[] lowest = Enumerable.Range(0, 2_000).Aggregate(new TarBuilder(), (tar, i) => tar.File($"f{i}")).End().ToArray();
        byte[] opaque = new TarBuilder().Opaque("").File("last").End().ToArray();
        using LayerRun run = new(new[] { lowest }.Concat(Enumerable.Repeat(opaque, 30)).Select(LayoutLayer.Of));

        run.AssertRefused(await run.RunAsync("--layers", run["l"], "--max-entries", "4000"), 7, ["more than 4000 entries"]);
        // nor is that each of them goes through all of the layers below a reason to be at it for ever
        run.AssertRefused(await run.RunAsync("--layers", run["l"], "--limit", "lookups=100000"), 7, ["more than 100000 names to look up in the layers below"]);
        (await run.RunAsync("--layers", run["l"], "--max-entries", "4100", "--limit", "lookups=150000")).Expect(0);

        Assert.Equal(2_000 + 2_000 + 30, Directory.GetDirectories(run["l"]).Sum(layer => Directory.GetFileSystemEntries(layer).Length));
        using OverlayMount mount = new(Directory.CreateDirectory(run["m"]).FullName, Directory.GetDirectories(run["l"]).Order(StringComparer.Ordinal));
        Assert.Equal(["last"], Directory.GetFileSystemEntries(mount.MountPoint).Select(System.IO.Path.GetFileName));
    }

    // A hundred layers of a thousand directories that no entry describes are an image that some build tools make; if each directory were asked of every layer
    // below, component by component, it would take minutes, and a thousand layers of ten thousand for ever.
    [Theory]
    [InlineData("usr/lib/p{0}/d{1}/f", 3_000, 4_000)]
    [InlineData("usr/lib/d{0}.{1}/f", 78_000, 80_000)]
    public async Task A_directory_without_an_entry_is_asked_of_the_layers_alone_that_have_its_parent(string name, int least, int most)
    {
        const int layers = 40;
        using LayerRun run = new(Enumerable.Range(0, layers).Select(layer =>
            LayoutLayer.Of(Enumerable.Range(0, 100).Aggregate(new TarBuilder(), (tar, i) => tar.File(string.Format(CultureInfo.InvariantCulture, name, layer, i))).End().ToArray())));

        run.AssertRefused(
            await run.RunAsync("--layers", run["l"], "--limit", $"lookups={least - 1}"), 7, [$"archive: more than {least - 1} names to look up in the layers below"]);
        (await run.RunAsync("--layers", run["l"], "--limit", $"lookups={most}")).Expect(0);

        Assert.Equal(layers * 100, Directory.GetFiles(run["l"], "f", SearchOption.AllDirectories).Length);
    }

    // The kernel walks all of a deep name each time that a name in it is asked for.
    [Fact]
    public async Task A_deep_directory_counts_for_more_than_one_lookup()
    {
        const int children = 200;
        string deep = string.Concat(Enumerable.Repeat("d/", 1_600));
        byte[] lower = new TarBuilder().File(deep + "f").End().ToArray();
        byte[] upper = Enumerable.Range(0, children).Aggregate(new TarBuilder(), (tar, i) => tar.File($"{deep}{i}/f")).End().ToArray();
        using LayerRun run = new(LayoutLayer.Of(lower), LayoutLayer.Of(upper));

        run.AssertRefused(await run.RunAsync("--layers", run["l"], "--limit", $"lookups={children * 1_600 / 32}"), 7, ["names to look up in the layers below"]);
        (await run.RunAsync("--layers", run["l"], "--limit", "lookups=100000")).Expect(0);
    }

    [Theory]
    [InlineData('x', "the pax header", 1_048_576)]
    [InlineData('g', "the global pax header", 1_048_576)]
    [InlineData('L', "the long name", 65_537)]
    [InlineData('K', "the long link name", 65_537)]
    public async Task A_header_of_a_gigabyte_is_refused_before_it_is_read(char type, string what, int limit)
    {
        byte[] blob = Packed(1, new TarBuilder().Member("h", type, fields => fields.Size(1 << 30), "999999999 path=").ToArray(), new byte[16 << 20]);
        using LayerRun run = new(new LayoutLayer(blob, blob));

        foreach (string output in new[] { "--rootfs", "--layers", "--tar" })
        {
            BinaryResult refused = await run.MeasureAsync(output, run["x"]);

            run.AssertRefused(refused, 7, [$"layer {Digest.Of(blob)}: archive: {what} at the beginning has 1073741824 bytes, more than {limit}"]);
            Assert.InRange(Binary.PeakOf(refused), 1, Peak);
        }
    }

    /// <summary>Name; the blob, gzip; the output and further options; the exit code and what is said; the peak.</summary>
    private static readonly Dictionary<string, (Func<byte[]> Blob, string[] Arguments, int Code, string Says, long Peak)> Rows = new()
    {
        ["a million entries, as an archive"] = (() => Packed(100, Entries(10_000, (tar, i) => tar.File($"d/{i}"))), ["--tar", "x", "--max-entries", "999999"], 7, "more than 999999 entries", Peak),
        ["a hundred thousand entries, as a tree"] = (() => Packed(100, Entries(10_000, (tar, i) => tar.File($"d/{i}"))), ["--rootfs", "x", "--max-entries", "100000"], 7, "more than 100000 entries", Peak),
        ["a hundred thousand directories, as layers"] = (() => Packed(100, Entries(10_000, (tar, i) => tar.Directory($"d/{i}/"))), ["--layers", "x", "--max-entries", "100000"], 7, "more than 100000 entries", Peak),
        ["directories that a few names imply, as a tree"] = (() => Packed(1, Entries(9, (tar, i) => tar.File($"{i}/{string.Concat(Enumerable.Repeat("d/", 4000))}f"))), ["--rootfs", "x", "--max-entries", "20000"], 7, "more than 20000 entries", Peak),
        ["directories that a few names imply, as layers"] = (() => Packed(1, Entries(9, (tar, i) => tar.Whiteout($"{i}/{string.Concat(Enumerable.Repeat("d/", 4000))}f"))), ["--layers", "x", "--max-entries", "20000"], 7, "more than 20000 entries", Peak),
        ["directories that a few names imply, as an archive"] = (() => Packed(1, Entries(9, (tar, i) => tar.File($"{i}/{string.Concat(Enumerable.Repeat("d/", 4000))}f"))), ["--tar", "x", "--max-entries", "20000"], 7, "more than 20000 entries", Peak),
        ["attributes of directories, as an archive"] = (() => Packed(1, Entries(50, (tar, i) => Attributes(tar).Directory($"{i}/"))), ["--tar", "x"], 7, "its links and attributes need ", Peak),
        ["attributes of directories, as a tree"] = (() => Packed(1, Entries(50, (tar, i) => Attributes(tar).Directory($"{i}/"))), ["--rootfs", "x", "--xattrs", "drop"], 0, "", Peak),
        ["attributes of directories, as layers"] = (() => Packed(1, Entries(50, (tar, i) => Attributes(tar).Directory($"{i}/"))), ["--layers", "x", "--xattrs", "drop"], 0, "", Peak),
        ["attributes for all directories"] = (
            () => Packed(1, Entries(4000, (tar, i) => i == 0 ? Enumerable.Range(0, 16).Aggregate(tar, (t, j) => t.Global($"SCHILY.xattr.user.{j}", new byte[60_000])) : tar.Directory($"{i}/"))),
            ["--tar", "x"], 7, "its links and attributes need ", Peak),
        ["attributes of files with a second name far away, as an archive"] = (
            () => Packed(1, Entries(200, (tar, i) => i < 100 ? Attributes(tar).File($"f{i}") : tar.HardLink($"h{i}", $"f{i - 100}"))),
            ["--tar", "/dev/null", "--limit", "attributes=1GiB"], 0, "", Peak),
        ["links to far away, as an archive"] = (() => Packed(1, Entries(10_000, (tar, i) => tar.Symlink($"l{i}", Far(4_000, i)))), ["--tar", "x"], 0, "", Peak),
        ["links to far away, as layers"] = (() => Packed(1, Entries(5_000, (tar, i) => tar.Symlink($"l{i}", Far(4_000, i)))), ["--layers", "x"], 0, "", Peak),
        ["many hard links to one name of the layers below, as layers"] = (() => Packed(1, Entries(300_000, (tar, i) => tar.HardLink($"l{i}", "f"))), ["--layers", "x"], 7, "its links and attributes need ", PeakOfHeld),
        ["hard links to the layers below, as layers"] = (() => Packed(1, Entries(2_000, (tar, i) => tar.HardLink($"l{i}", Far(64_000, i)))), ["--layers", "x"], 7, "its links and attributes need ", PeakOfHeld),
        ["hard links to nothing, as an archive"] = (() => Packed(1, Entries(2_000, (tar, i) => tar.HardLink($"l{i}", Far(64_000, i)))), ["--tar", "x"], 6, "which is not there", Peak),
        ["whiteouts, and then the marker that hides all, as layers"] = (
            () => Packed(1, Entries(400_001, (tar, i) => i < 400_000 ? tar.Whiteout(string.Create(CultureInfo.InvariantCulture, $"d/{i:d90}")) : tar.Opaque("d").File("d/f").End())), ["--layers", "x"], 0, "", Peak),
        ["headers of nothing"] = (() => Packed(20, Entries(5_000, (tar, _) => tar.Global("comment", "again").RawPax(TarBuilder.Record("path", "a")).LongName("b")), new TarBuilder().File("f").End().ToArray()), ["--rootfs", "x"], 0, "", Peak),
        ["labels"] = (() => Packed(40, Entries(5_000, (tar, _) => tar.Member("label", 'V'))), ["--rootfs", "x"], 0, "", Peak),
        ["a map of runs without an end"] = (() => Packed(1, SparseMap()), ["--rootfs", "x"], 7, "sparse map of f: more than 1048576 runs", PeakOfHeld),
    };

    public static TheoryData<string> Names => [.. Rows.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Memory_stays_bounded_whatever_the_headers_say(string name)
    {
        (Func<byte[]> make, string[] arguments, int code, string says, long peak) = Rows[name];
        byte[] blob = make();
        // one that is refused is not read to its end
        using LayerRun run = new(new LayoutLayer(blob, code == 0 ? DigestOfContent(blob) : Digest.Of(blob), LayoutLayer.Tar + "+gzip"));

        BinaryResult result = await run.MeasureAsync([arguments[0], System.IO.Path.Combine(run.Path, arguments[1]), "--ownership", "squash", .. arguments[2..]]);

        if (code == 0)
        {
            result.Expect(0);
        }
        else
        {
            run.AssertRefused(result, code, [$"layer {Digest.Of(blob)}: archive: ", says]);
        }

        Assert.InRange(Binary.PeakOf(result), 1, peak);
        TestContext.Current.TestOutputHelper?.WriteLine($"{name}: {blob.Length} bytes, peak {Binary.PeakOf(result)} KiB");
    }

    // What is above the deepest levels keeps no names, however many were seen there. (Where a directory lists the last made first, as tmpfs does, the way down comes last.)
    [Fact]
    public async Task A_tree_that_is_replaced_goes_in_bounded_memory_however_deep_and_wide_it_is()
    {
        const int levels = 1_500;
        const int width = 110;
        using LayerRun run = new(LayoutLayer.Of(new TarBuilder().File("f").End().ToArray()));
        byte[][] names = [.. Enumerable.Range(0, width).Select(i => System.Text.Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{i:d255}\0")))];
        SafeFileHandle at = Libc.TryOpenDirectory(Directory.CreateDirectory(run["r"]).FullName)!;
        for (int level = 0; level < levels; level++)
        {
            foreach (byte[] name in names)
            {
                Assert.Equal(0, Libc.MakeDirectory(at, name, 0x1C0));
            }

            Assert.Equal(0, Libc.OpenAt(at, names[0], OpenFlags.ReadOnly | OpenFlags.Directory, 0, out SafeFileHandle? below));
            at.Dispose();
            at = below!;
        }

        at.Dispose();

        BinaryResult replaced = await run.MeasureAsync("--rootfs", run["r"], "--replace", "--ownership", "squash");

        Assert.InRange(Binary.PeakOf(replaced.Expect(0)), 1, Peak);
        Assert.Equal(["f"], Directory.GetFileSystemEntries(run["r"]).Select(System.IO.Path.GetFileName));
    }

    [Fact]
    public async Task An_archive_of_an_image_has_no_more_names_than_images_have()
    {
        using TemporaryDirectory work = new();
        await File.WriteAllBytesAsync(work["a.tar.gz"], Packed(1, Entries(1_000, (tar, i) => tar.File(Far(64_000, i)))), TestContext.Current.CancellationToken);

        foreach (string kind in new[] { "oci-archive", "docker-archive" })
        {
            BinaryResult result = await Binary.MeasuredAsync("extract", $"{kind}:{work["a.tar.gz"]}", "--rootfs", work["r"]);

            Assert.Contains("an archive with more than 16777216 bytes of names is no image's", result.Expect(7).Error, StringComparison.Ordinal);
            Assert.InRange(Binary.PeakOf(result), 1, PeakOfHeld);
            Assert.Equal(["a.tar.gz"], work.Names);
        }
    }

    private static byte[] Entries(int count, Func<TarBuilder, int, TarBuilder> add)
    {
        TarBuilder tar = new();
        for (int i = 0; i < count; i++)
        {
            add(tar, i);
        }

        return tar.ToArray();
    }

    // As many bytes as one header may have.
    private static TarBuilder Attributes(TarBuilder tar) => Enumerable.Range(0, 16).Aggregate(tar, (t, i) => t.Xattr($"user.{i}", new byte[60_000]));

    // Of names that any file system holds.
    private static string Far(int length, int number) =>
        string.Create(CultureInfo.InvariantCulture, $"{number}/") + string.Concat(Enumerable.Repeat(new string('t', 249) + "/", length / 250)) + "end";

    // Says two hundred million runs and has two million.
    private static byte[] SparseMap() => new TarBuilder()
        .Pax("GNU.sparse.major", "1").Pax("GNU.sparse.minor", "0").Pax("GNU.sparse.realsize", "999999999999")
        .File("f", (byte[])[.. "200000000\n"u8, .. System.Text.Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 2_000_000).Select(i => $"{i * 2L}\n1\n")))]).ToArray();

    // One member of gzip as often as is said, then others once.
    private static byte[] Packed(int times, byte[] repeated, params byte[][] after)
    {
        byte[] member = TarBuilder.GZip(repeated);
        using MemoryStream packed = new();
        foreach (byte[] part in Enumerable.Repeat(member, times).Concat(after.Select(TarBuilder.GZip)))
        {
            packed.Write(part);
        }

        return packed.ToArray();
    }

    private static Digest DigestOfContent(byte[] blob)
    {
        using GZipStream content = new(new MemoryStream(blob), CompressionMode.Decompress);
        return Digest.TryParse($"sha256:{Convert.ToHexStringLower(SHA256.HashData(content))}", out Digest digest) ? digest : throw new InvalidOperationException();
    }

    private static Digest DigestWithZeros(byte[] head, long zeros)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(head);
        byte[] part = new byte[1 << 20];
        for (long left = zeros; left > 0; left -= part.Length)
        {
            hash.AppendData(part, 0, (int)Math.Min(left, part.Length));
        }

        return Digest.TryParse($"sha256:{Convert.ToHexStringLower(hash.GetHashAndReset())}", out Digest digest) ? digest : throw new InvalidOperationException();
    }
}
