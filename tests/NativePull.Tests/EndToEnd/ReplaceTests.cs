using System.Globalization;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Outputs that take the place of older ones: when the process dies at any of its calls, and when the old tree does not let itself be removed.</summary>
public sealed class ReplaceTests
{
    // strace(1) kills at the entry of the N-th of these, counted in each thread: first what publishes, then what makes.
    private const string Publishing = "renameat2,rename,unlinkat,fsync,syncfs";
    private const string Making = "mkdir,mkdirat,openat,openat2,utimensat,fchmod,fchown,pwrite64,write,flock";

    // Every thread has fewer of them than this.
    private const int ManyCalls = 200;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(Publishing)]
    [InlineData(Making)]
    public async Task Killed_at_any_of_its_calls_each_output_is_the_old_one_or_the_new_one_and_the_next_run_clears_up(string calls)
    {
        using TemporaryDirectory work = new();
        string[] kinds = ["even", "odd"];
        byte[][] archives = new byte[2][];
        for (int i = 0; i < 2; i++)
        {
            LayoutDirectory.Write(work[kinds[i]], "1", [new TarBuilder().Directory("d/").File($"d/{kinds[i]}1").File($"d/{kinds[i]}2").End().ToArray()]);
            (await ExtractAsync(work, kinds[i])).Expect(0);
            archives[i] = await File.ReadAllBytesAsync(work["x"], Token);
        }

        BinaryResult traced = await Binary.ProgramAsync("strace", "-f", "-o", "/dev/null", "true");
        Assert.SkipUnless(traced.Code == 0, $"strace may not be used here: {traced.Error}");
        int killed = 0;
        int finished = 0;
        // two runs to their end: one may be that of a thread with one call less
        for (int n = 1; finished < 2; n++)
        {
            BinaryResult result = await ExtractAsync(
                work, kinds[n % 2], "strace", "-f", "-qq", "-o", "/dev/null", $"--trace={calls}", string.Create(CultureInfo.InvariantCulture, $"--inject={calls}:signal=SIGKILL:when={n}"));
            finished = result.Code == 0 ? finished + 1 : 0;
            killed += result.Code == 0 ? 0 : 1;
            Assert.True(n < ManyCalls, $"call {n} of {calls}: {result.Error}");

            AssertOneOf(kinds, Directory.GetFiles(work["r/d"]), n);
            AssertOneOf(kinds, Directory.GetFiles(Path.Combine(Directory.GetDirectories(work["l"]).Single(), "d")), n);
            byte[] archive = await File.ReadAllBytesAsync(work["x"], Token);
            Assert.True(archives.Any(each => each.AsSpan().SequenceEqual(archive)), $"call {n}: another archive");
            if (n % 4 == 0)
            {
                (await ExtractAsync(work, "even")).Expect(0);
                Assert.Equal(["even", "l", "odd", "r", "x"], work.Names);
                Assert.Equal(["even1", "even2"], Directory.GetFiles(work["r/d"]).Select(Path.GetFileName).Order(StringComparer.Ordinal));
            }
        }

        Assert.InRange(killed, 5, ManyCalls);
        (await ExtractAsync(work, "even")).Expect(0);
        Assert.Equal(["even", "l", "odd", "r", "x"], work.Names);
    }

    [Fact]
    public async Task An_old_tree_that_cannot_be_removed_keeps_no_output_back_and_is_named()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming somebody else needs root");
        using TemporaryDirectory work = new();
        LayoutDirectory.Write(work["image"], "1", [new TarBuilder().File("new").End().ToArray()]);
        string script = """
            mount -t tmpfs -o mode=0755 none /mnt; cp -r "$1" "$2" /mnt; cd /mnt; chmod -R a+rX image
            mkdir -p d/r/foreign; touch d/r/foreign/x; chown 65534 d d/r; cd d
            run() { setpriv --reuid 65534 --regid 65534 --clear-groups ../nativepull extract oci:../image -q --platform linux/amd64 --rootfs r --layers l --tar x --replace; }
            run; echo $?; ls -A . r
            run; echo $?
            rm -r .r.nativepull; run >/dev/null; echo $?; ls -A
            """;

        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-c", script, "bash", work["image"], Binary.File);

        string[] errors = result.Expect(0).Error.TrimEnd('\n').Split('\n');
        Assert.Equal("8\n.:\n.r.nativepull\nl\nr\nx\n\nr:\nnew\n8\n0\nl\nr\nx\n", result.Out);
        Assert.Equal(2, errors.Length);
        Assert.Matches("/d/r is the new tree, but of the old one something is left: .*/d/[.]r[.]nativepull cannot be removed.*: unlink x: Permission denied", errors[0]);
        Assert.Matches("^nativepull: /.*/d/[.]r[.]nativepull cannot be removed.*: unlink x: Permission denied", errors[1]);
    }

    [Fact]
    public async Task A_tree_whose_root_keeps_its_owner_out_is_replaced_and_removed_wherever_it_was_left()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming somebody else needs root");
        using TemporaryDirectory work = new();
        LayoutDirectory.Write(work["closed"], "1", [new TarBuilder().Directory("./", mode: 0).File("old").End().ToArray()]);
        LayoutDirectory.Write(work["open"], "1", [new TarBuilder().Directory("./", mode: 0x1ED).File("new").End().ToArray()]);
        string script = """
            set -e; cd "$1"; chmod 755 .; cp "$2" np; mkdir d; chown 65534 d; cd d
            as() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
            run() { as ../np extract oci:../$1 -q --platform linux/amd64 --rootfs r --replace >/dev/null; }
            run closed; stat -c %a r; run open; stat -c %a r; ls -A . r
            as mkdir -p .r.nativepull/left; as chmod 0 .r.nativepull; run closed; stat -c %a r; ls -A
            """;

        BinaryResult result = await Binary.ProgramAsync("bash", "-c", script, "bash", work.Path, Binary.File);

        Assert.Equal("0\n755\n.:\nr\n\nr:\nnew\n0\nr\n", result.Expect(0).Out);
    }

    [Fact]
    public async Task Where_directories_cannot_be_exchanged_no_output_is_replaced()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        Assert.SkipUnless(File.Exists("/dev/fuse") && File.Exists("/usr/sbin/mount.exfat-fuse"), "exFAT by FUSE is not available");
        using TemporaryDirectory work = new();
        LayoutDirectory.Write(work["image"], "1", [new TarBuilder().File("new").End().ToArray()]);
        string script = """
            cd "$1"; mkdir -p m r; touch r/old; truncate -s 16M i; mkfs.exfat i >/dev/null; l=$(losetup -f --show i); trap 'umount m; losetup -d $l' EXIT
            mount.exfat-fuse $l m >/dev/null; mkdir m/l; touch m/l/old
            "$2" extract oci:image -q --platform linux/amd64 --rootfs r --layers m/l --tar x --replace; code=$?
            ls -A r m m/l; ls x; exit $code
            """;

        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-c", script, "bash", work.Path, Binary.File);

        Assert.Equal("m:\nl\n\nm/l:\nold\n\nr:\nold\n", result.Expect(8).Out);
        Assert.Contains("/m/l cannot be replaced: its file system cannot exchange two directories", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_place_that_is_taken_meanwhile_keeps_every_output_from_appearing()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        registry.Faults.On("/blobs/" + image.Layers[0].Digest, new Fault
        {
            BeforeAnswer = () =>
            {
                Assert.True(SpinWait.SpinUntil(() => Directory.Exists(work[".l.nativepull"]), TimeSpan.FromMinutes(1)));
                Directory.CreateDirectory(work["l/theirs"]);
            },
        });

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", work["s"], "--rootfs", work["r"], "--layers", work["l"], "--tar", work["x"]);

        Assert.Contains("/l is not empty", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.True(registry.Faults.AreMet);
        Assert.Equal(["l", "s"], work.Names);
        Assert.Equal(work["l/theirs"], Assert.Single(Directory.GetFileSystemEntries(work["l"])));
    }

    private static Task<BinaryResult> ExtractAsync(TemporaryDirectory work, string image, params string[] before) => Binary.ProgramAsync(
        "env", [.. before, Binary.File, "extract", $"oci:{work[image]}", "-q", "--platform", "linux/amd64", "--rootfs", work["r"], "--layers", work["l"], "--tar", work["x"], "--replace"]);

    private static void AssertOneOf(string[] kinds, string[] files, int call)
    {
        string[] names = [.. files.Select(file => Path.GetFileName(file)).Order(StringComparer.Ordinal)];
        Assert.True(kinds.Any(kind => names.SequenceEqual([kind + "1", kind + "2"])), $"call {call}: {string.Join(", ", names)}");
    }
}
