using System.Globalization;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What becomes of the outputs where a call into the kernel is the last one or fails, one call after the other, by strace(1)'s injection.</summary>
public sealed class CallFaultTests
{
    // of the many that remove the old trees the first tell as much as all
    private const int MostOfACall = 12;

    private static readonly string[] Outputs = ["--rootfs", "r", "--layers", "l", "--tar", "x", "--replace", "-q"];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("mkdir")]
    [InlineData("mkdirat")]
    [InlineData("flock")]
    [InlineData("syncfs")]
    [InlineData("fsync")]
    [InlineData("rename")]
    [InlineData("renameat2")]
    [InlineData("unlinkat")]
    public async Task Killed_at_any_call_each_output_is_the_old_one_or_the_new_one_and_the_next_run_clears_up(string call)
    {
        using TemporaryDirectory work = await TwoImagesAsync();
        string[] before = work.Names;
        string[] old = await StateAsync(work);
        (await Binary.ProgramAsync("bash", "-ec", $"cd '{work.Path}'; mkdir kept; cp -a r l x kept")).Expect(0);
        int killed = 0;
        for (int turn = 1; turn <= MostOfACall; turn++)
        {
            BinaryResult result = await RunAsync(work, "-e", $"trace={call}", "-e", string.Create(CultureInfo.InvariantCulture, $"inject={call}:signal=KILL:when={turn}"));
            Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
            string[] found = await StateAsync(work);
            (await RunAsync(work)).Expect(0);
            string[] fresh = await StateAsync(work);

            for (int i = 0; i < found.Length; i++)
            {
                Assert.True(found[i] == old[i] || found[i] == fresh[i], $"{call} {turn}: {found[i]}");
                Assert.NotEqual(old[i], fresh[i]);
            }

            Assert.Equal([.. before.Append("kept").Order(StringComparer.Ordinal)], work.Names);
            if (result.Code == 0)
            {
                break;
            }

            killed++;
            (await Binary.ProgramAsync("bash", "-ec", $"cd '{work.Path}'; rm -rf r l x; cp -a kept/r kept/l kept/x .")).Expect(0);
        }

        Assert.True(killed > 0, $"{call} was not met");
    }

    [Theory]
    [InlineData(".r.nativepull")]
    [InlineData(".x.nativepull")]
    public async Task Staging_that_could_be_made_and_not_taken_is_not_left(string staging)
    {
        using TemporaryDirectory work = await TwoImagesAsync();
        string[] before = work.Names;

        BinaryResult result = await RunAsync(work, "-P", work[staging], "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK");

        Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        Assert.Contains("flock", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.Equal(before, work.Names);
    }

    [Theory]
    [InlineData(".l.nativepull", "syncfs")]
    [InlineData(".x.nativepull", "fsync")]
    public async Task A_disk_that_turns_out_to_be_full_when_it_is_flushed_leaves_every_output_the_old_one(string staging, string call)
    {
        using TemporaryDirectory work = await TwoImagesAsync();
        string[] before = work.Names;
        string[] old = await StateAsync(work);

        BinaryResult result = await RunAsync(work, "-P", work[staging], "-e", $"trace={call}", "-e", $"inject={call}:error=ENOSPC");

        Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        Assert.Contains("No space left", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.Equal(old, await StateAsync(work));
        Assert.Equal(before, work.Names);
    }

    /// <summary>The bytes of the layer, the file below the store whose flush fails, whether the blob may be there after that.</summary>
    [Theory]
    [InlineData(1000, "parts/sha256-{0}", false)]
    [InlineData(9_000_000, "parts/sha256-{0}", false)]
    [InlineData(9_000_000, "parts/sha256-{0}.ranges", false)]
    [InlineData(1000, ".new-index.json", true)]
    public async Task What_could_not_be_flushed_is_not_taken_for_kept(int size, string file, bool mayBeThere)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", size).Publish();
        (new FakeImage(registry, "a/other")).Layer(("g", [1])).Publish();
        using TemporaryDirectory work = new();
        (await Binary.RunAsync("pull", $"{registry.Address}/a/other:latest", "--store", work["s"])).Expect(0);
        string hex = image.Layers[0].Digest.Hex;
        string[] call = [Binary.File, "pull", image.Reference(), "-q", "--store", work["s"]];

        BinaryResult result = await Binary.ProgramAsync(
            "strace", ["-f", "-qq", "-o", "/dev/null", "-P", work["s/" + file.Replace("{0}", hex, StringComparison.Ordinal)], "-e", "trace=fsync", "-e", "inject=fsync:error=EIO", .. call]);

        Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        Assert.Contains("fsync", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.True(mayBeThere || !File.Exists(work["s/blobs/sha256/" + hex]));
        (await Binary.RunAsync(call[1..])).Expect(0);
        Assert.Empty(Directory.GetFiles(work["s/parts"]));
        Assert.Equal(image.Layers[0].Size, new FileInfo(work["s/blobs/sha256/" + hex]).Length);
    }

    /// <summary>The call that fails, and what it is about: of the lower layer's directory or of the upper one's, by which the tree would be another.</summary>
    [Theory]
    [InlineData("lseek", 0, "low")]
    [InlineData("fgetxattr", 0, "kept")]
    [InlineData("readlinkat", 1, "")]
    [InlineData("statx", 1, "")]
    public async Task What_cannot_be_read_is_not_taken_for_absent(string call, int layer, string file)
    {
        using TemporaryDirectory work = new();
        byte[][] layers =
        [
            new TarBuilder().Xattr("user.of", "the image").Directory("kept/").File("kept/a").File("low", "content").End().ToArray(),
            new TarBuilder().Directory("d/").Symlink("link", "d").File("link/b").File("kept/b").File("d/c").HardLink("twice", "d/c").HardLink("high", "low").End().ToArray(),
        ];
        LayoutDirectory.Write(work["new"], "v1", layers);
        string place = work[$".l.nativepull/{layer + 1:00}-{Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(layers[layer]))[..12]}"];
        string[] outputs = ["extract", $"oci:{work["new"]}", "--platform", "linux/amd64", "-q", "--layers", work["l"]];

        BinaryResult result = await Binary.ProgramAsync(
            "strace", ["-f", "-qq", "-o", "/dev/null", "-P", Path.Combine(place, file), "-e", $"trace={call}", "-e", $"inject={call}:error=EIO", Binary.File, .. outputs]);

        Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        Assert.Contains("Input/output error", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.Equal(["new"], work.Names);
        (await Binary.RunAsync(outputs)).Expect(0);
    }

    [Fact]
    public async Task A_failure_is_told_and_not_that_its_staging_could_not_be_removed()
    {
        using TemporaryDirectory work = await TwoImagesAsync();
        // a layer that is none
        LayoutDirectory.Write(work["new"], "v1", ["no archive"u8.ToArray()]);

        BinaryResult result = await RunAsync(work, "-P", work.Path, "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EBUSY");

        Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        Assert.Contains("archive", result.Expect(6).Error, StringComparison.Ordinal);
        Assert.Contains(".r.nativepull", work.Names);
        LayoutDirectory.Write(work["new"], "v1", [Layer("new")]);
        (await RunAsync(work)).Expect(0);
        Assert.Equal(["l", "new", "old", "r", "x"], work.Names);
    }

    [Fact]
    public async Task What_could_not_be_flushed_is_there_and_the_old_tree_is_kept_until_the_next_run()
    {
        using TemporaryDirectory work = await TwoImagesAsync();
        string[] before = work.Names;

        BinaryResult result = await RunAsync(work, "-P", work.Path, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO");

        Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        Assert.Contains("r is the new tree, but may be the old one after a power cut: fsync", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.True(File.Exists(work["r/new"]) && File.Exists(work[".r.nativepull/old"]));
        (await RunAsync(work)).Expect(0);
        Assert.Equal(before, work.Names);
    }

    [Fact]
    public async Task An_archive_whose_name_could_not_be_flushed_is_there_and_said_to_be()
    {
        using TemporaryDirectory work = await TwoImagesAsync();

        BinaryResult result = await Binary.ProgramAsync(
            "strace",
            ["-f", "-qq", "-o", "/dev/null", "-P", work.Path, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO",
             Binary.File, "extract", $"oci:{work["new"]}", "--platform", "linux/amd64", "--tar", work["x"], "-q"]);

        Assert.SkipUnless(!result.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        Assert.Contains("x is the new archive, but may be absent or the old one after a power cut: fsync", result.Expect(8).Error, StringComparison.Ordinal);
        (await Binary.RunAsync("extract", $"oci:{work["new"]}", "--platform", "linux/amd64", "--tar", work["y"])).Expect(0);
        Assert.Equal(await File.ReadAllBytesAsync(work["y"], Token), await File.ReadAllBytesAsync(work["x"], Token));
    }

    private static byte[] Layer(string name) => new TarBuilder().Directory("d/").File("d/a", name).File(name, "content").HardLink("h", name).End().ToArray();

    // The layouts "old" and "new", and what the old one became.
    private static async Task<TemporaryDirectory> TwoImagesAsync()
    {
        TemporaryDirectory work = new();
        LayoutDirectory.Write(work["old"], "v1", [Layer("old")]);
        LayoutDirectory.Write(work["new"], "v1", [Layer("new")]);
        (await Binary.ProgramAsync("bash", "-c", $"cd '{work.Path}'; $0 extract oci:old --platform linux/amd64 {string.Join(' ', Outputs)}", Binary.File)).Expect(0);
        return work;
    }

    private static Task<BinaryResult> RunAsync(TemporaryDirectory work, params string[] injection) => Binary.ProgramAsync(
        "bash",
        ["-c", $"cd '{work.Path}'; exec \"$@\"", "bash", .. injection.Length == 0 ? [] : (string[])["strace", "-f", "-qq", "-o", "/dev/null", .. injection],
         Binary.File, "extract", "oci:new", "--platform", "linux/amd64", .. Outputs]);

    // The root's files, the layers' and the archive: what each is, whole.
    private static async Task<string[]> StateAsync(TemporaryDirectory work) =>
    [
        Files(work["r"]),
        Files(work["l"]),
        Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(await File.ReadAllBytesAsync(work["x"], Token))),
    ];

    private static string Files(string directory) => string.Join(
        ' ', Directory.GetFiles(directory, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(path => $"{path}={File.ReadAllText(path)}"));
}
