using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using NativePull.Oci;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Trees of many names and many layers: all of it is there, and memory stays what is promised.</summary>
public sealed class LargeTreeTests
{
    // KiB; product: "one stated peak for any image"
    private const long Peak = 64 * 1024;

    public static TheoryData<string, int, int> Trees => new()
    {
        { "many directories", 20_000, 10 },
        { "one directory", 1, 200_000 },
    };

    [Theory]
    [MemberData(nameof(Trees))]
    public async Task Two_hundred_thousand_files_take_no_more_than_64_MiB(string what, int directories, int files)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        TarBuilder tar = new();
        for (int i = 0; i < directories; i++)
        {
            string directory = string.Create(CultureInfo.InvariantCulture, $"usr/share/{i:d5}");
            tar.Directory(directory + "/");
            for (int j = 0; j < files; j++)
            {
                tar.File(string.Create(CultureInfo.InvariantCulture, $"{directory}/file-{j:d6}"));
            }
        }

        byte[] plain = tar.End().ToArray();
        byte[] last = new TarBuilder().File("usr/share/00000/new").Opaque("usr/share/00000").End().ToArray();
        FakeImage image = new FakeImage(registry, "a/b").Layer(TarBuilder.GZip(plain), Digest.Of(plain)).Layer(last, Digest.Of(last)).Publish();

        BinaryResult flat = await Binary.MeasuredAsync("pull", image.Reference(), "--store", work["s"], "--rootfs", work["r"]);
        BinaryResult overlay = await Binary.MeasuredAsync("pull", image.Reference(), "--store", work["s"], "--extract");

        int expected = ((directories - 1) * files) + 1;
        Assert.Equal(expected, Directory.EnumerateFiles(work["r"], "*", SearchOption.AllDirectories).Count());
        Assert.InRange(Binary.PeakOf(flat.Expect(0)), 1, Peak);
        Assert.InRange(Binary.PeakOf(overlay.Expect(0)), 1, Peak);
        TestContext.Current.TestOutputHelper?.WriteLine($"{what}: {Binary.PeakOf(flat)} KiB flat, {Binary.PeakOf(overlay)} KiB in layers");
    }

    [Theory]
    [InlineData("--rootfs", 300_000)]
    [InlineData("--layers", 300_000)]
    [InlineData("--tar", 1_000_000)]
    public async Task Directories_without_number_take_no_more_than_64_MiB(string output, int count)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        FakeImage image = Directories(registry, count);

        BinaryResult result = await Binary.MeasuredAsync("pull", image.Reference(), "--store", work["s"], output, work["r"]);

        Assert.InRange(Binary.PeakOf(result.Expect(0)), 1, Peak);
        int made = output == "--tar"
            ? (int)(new FileInfo(work["r"]).Length / 512)
            : Directory.EnumerateDirectories(work["r"], "*", SearchOption.AllDirectories).Count();
        Assert.InRange(made, count, count + 1000);
        TestContext.Current.TestOutputHelper?.WriteLine($"{output}: {Binary.PeakOf(result)} KiB");
    }

    // Without a directory beside the output their names go to the store's, which is made for that; where there can be none, memory holds them.
    [Theory]
    [InlineData("store", 1_000_000, Peak)]
    [InlineData("device/store", 300_000, 2 * Peak)]
    public async Task They_go_into_a_stream_without_a_store_too(string store, int count, long most)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        FakeImage image = Directories(registry, count);
        File.WriteAllBytes(work["device"], []);
        (await Binary.RunAsync("pull", image.Reference(), "--store", work["from"])).Expect(0);

        BinaryResult result = await Binary.MeasuredIntoAsync(work["out"], "extract", "oci:" + work["from"], "--store", work[store], "--tar", "-");

        Assert.InRange(Binary.PeakOf(result.Expect(0)), 1, most);
        Assert.InRange(new FileInfo(work["out"]).Length / 512, count, count + 1000);
        Assert.Equal(store == "store", Directory.Exists(work["store"]));
        Assert.Equal(store != "store", result.Error.Contains("so memory holds them", StringComparison.Ordinal));
        Assert.Empty(Directory.Exists(work["store/parts"]) ? Directory.GetFileSystemEntries(work["store/parts"]) : []);
        TestContext.Current.TestOutputHelper?.WriteLine($"{store}: {Binary.PeakOf(result)} KiB");
    }

    // All are of both layers, so the marker has to go into each.
    [Fact]
    public async Task A_marker_above_directories_without_number_takes_no_more_than_64_MiB()
    {
        const int count = 400_000;
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        FakeImage image = Directories(new FakeImage(registry, "a/b"), count, tops: 1);
        Directories(image, count, tops: 1, marker: "0").Publish();

        BinaryResult result = await Binary.MeasuredAsync("pull", image.Reference(), "--store", work["s"], "--rootfs", work["r"]);

        Assert.InRange(Binary.PeakOf(result.Expect(0)), 1, Peak);
        Assert.Equal(count, Directory.EnumerateDirectories(work["r/0"]).Count());
        TestContext.Current.TestOutputHelper?.WriteLine($"{Binary.PeakOf(result)} KiB");
    }

    private static FakeImage Directories(FakeRegistry registry, int count) => Directories(new FakeImage(registry, "a/b"), count, tops: 100).Publish();

    // A further layer.
    private static FakeImage Directories(FakeImage image, int count, int tops, string? marker = null)
    {
        const int each = 10_000;
        using IncrementalHash diffId = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using MemoryStream blob = new();
        for (int i = 0; i < count; i += each)
        {
            TarBuilder tar = new();
            for (int j = i; j < i + each; j++)
            {
                tar.Directory(string.Create(CultureInfo.InvariantCulture, $"{j % tops}/{j / tops:d5}/"));
            }

            bool isLast = i + each >= count;
            if (isLast && marker is not null)
            {
                tar.Opaque(marker);
            }

            byte[] plain = (isLast ? tar.End() : tar).ToArray();
            diffId.AppendData(plain);
            blob.Write(TarBuilder.GZip(plain));
        }

        return image.Layer(blob.ToArray(), Digest.FromBytes(diffId.GetHashAndReset()));
    }

    [Fact]
    public async Task Three_hundred_layers_are_one_tree_flat_and_under_overlayfs()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounts need root");
        using LayerRun run = new(Enumerable.Range(0, 300).Select(i =>
        {
            TarBuilder tar = new TarBuilder().File($"a/b{i % 10}/f{i}", i.ToString(CultureInfo.InvariantCulture)).File("a/last", i.ToString(CultureInfo.InvariantCulture));
            _ = i % 3 == 2 ? tar.Whiteout($"a/b{(i - 1) % 10}/f{i - 1}") : tar;
            _ = i % 50 == 49 ? tar.Opaque($"a/b{i % 7}") : tar;
            return LayoutLayer.Of(tar.End().ToArray());
        }));

        BinaryResult flat = await run.MeasureAsync("--rootfs", run["r"]);
        BinaryResult overlay = await run.MeasureAsync("--layers", run["l"]);

        Assert.InRange(Binary.PeakOf(flat.Expect(0)), 1, Peak);
        Assert.InRange(Binary.PeakOf(overlay.Expect(0)), 1, Peak);
        using OverlayMount mount = new(Directory.CreateDirectory(run["m"]).FullName, Directory.GetDirectories(run["l"]).Order(StringComparer.Ordinal));
        TreeListing.AssertSame(TreeListing.Of(run["r"]), TreeListing.Of(mount.MountPoint));
        TestContext.Current.TestOutputHelper?.WriteLine($"{Binary.PeakOf(flat)} KiB flat, {Binary.PeakOf(overlay)} KiB in layers");
    }

    [Fact]
    public async Task A_file_of_10_GB_with_holes_keeps_them()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        const long size = 10_000_000_000;
        using TemporaryDirectory made = new();
        AwkwardTree.Run(made.Path, $"for at in 0 5000000000 9999999000; do echo $at | dd of=f bs=1 seek=$at conv=notrunc status=none; done; truncate -s {size} f; tar -c -S --format=gnu -f x f; rm f");
        using LayerRun run = new(LayoutLayer.Of(File.ReadAllBytes(made["x"])));

        foreach (string output in new[] { "--rootfs", "--layers" })
        {
            BinaryResult result = await run.MeasureAsync(output, run["out"]);

            Assert.InRange(Binary.PeakOf(result.Expect(0)), 1, Peak);
            string file = Assert.Single(Directory.GetFiles(run["out"], "f", SearchOption.AllDirectories));
            Assert.Equal(size, new FileInfo(file).Length);
            Assert.InRange(long.Parse((await Binary.ProgramAsync("du", "-k", file)).Expect(0).Out.Split('\t')[0], CultureInfo.InvariantCulture), 1, 64);
            using FileStream content = File.OpenRead(file);
            foreach (string at in new[] { "0", "5000000000", "9999999000" })
            {
                byte[] mark = new byte[at.Length + 2];
                content.Position = long.Parse(at, CultureInfo.InvariantCulture);
                content.ReadExactly(mark);
                Assert.Equal(at + "\n\0", Encoding.ASCII.GetString(mark));
            }

            Directory.Delete(run["out"], recursive: true);
            TestContext.Current.TestOutputHelper?.WriteLine($"{output}: {Binary.PeakOf(result)} KiB");
        }
    }
}
