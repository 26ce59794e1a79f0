using Microsoft.Win32.SafeHandles;
using NativePull.Layers;
using NativePull.Native;
using NativePull.Oci;
using NativePull.Tests.Conformance;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Layers;

/// <summary>Names longer than any system call takes, and deep ones.</summary>
public sealed class LongPathTests
{
    public static TheoryData<int, int, bool> Lengths => new()
    {
        { 255, 16, true }, { 255, 16, false }, // 4,095 bytes and a name
        { 255, 255, true }, { 255, 255, false }, // close to 64 KiB
        { 1, 2100, true },
        { 7, 1500, true }, { 31, 140, false },
    };

    [Theory]
    [MemberData(nameof(Lengths))]
    public void Long_and_deep_paths_are_made_linked_replaced_and_removed(int component, int levels, bool openat2)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "whiteouts' attributes need root");
        using TemporaryDirectory work = new();
        string directory = string.Join('/', Enumerable.Repeat(new string('d', component), levels));
        byte[][] layers = LayerStack.Of(
            tar => tar.File(directory + "/file", "one").File(directory + "/gone").HardLink("short", directory + "/file").Directory(directory + "/", mode: 0x1C0),
            tar => tar.HardLink(directory + "/linked", directory + "/file").Whiteout(directory + "/gone").File(directory + "/new", "two"));
        ExtractOptions options = new() { KernelResolution = openat2 };

        string flat = LayerStack.Flat(work, layers, options);
        List<string> overlay = LayerStack.Overlay(work, layers, options);

        Assert.Equal(["file", "linked", "new"], NamesAt(flat, directory));
        Assert.Equal(["file", "gone"], NamesAt(overlay[0], directory));
        Assert.Equal(["file", "gone", "linked", "new"], NamesAt(overlay[1], directory));
        Assert.Equal("one", File.ReadAllText(Path.Combine(flat, "short")));
    }

    [Fact]
    public void A_name_of_255_bytes_and_a_link_of_4095_are_made()
    {
        using TemporaryDirectory work = new();
        string name = new('n', 255);
        string target = string.Concat(Enumerable.Repeat("0123456789/", 372)) + "xyz";
        Assert.Equal(4095, target.Length);
        ExtractOptions options = new() { Ownership = Environment.IsPrivilegedProcess ? OwnershipPolicy.Keep : OwnershipPolicy.Squash };

        string flat = LayerStack.Flat(work, LayerStack.Of(tar => tar.File(name, "x").Symlink("l", target)), options);

        Assert.Equal("x", File.ReadAllText(Path.Combine(flat, name)));
        Assert.Equal(target, new FileInfo(Path.Combine(flat, "l")).LinkTarget);
    }

    [Fact]
    public void More_levels_than_4096_are_refused()
    {
        using TemporaryDirectory work = new();

        PullException refusal = Assert.Throws<PullException>(() =>
            LayerStack.Flat(work, LayerStack.Of(tar => tar.File(string.Join('/', Enumerable.Repeat("d", 4097))))));

        Assert.Equal(PullError.LimitPassed, refusal.Reason);
    }

    [Fact]
    public async Task Four_thousand_levels_are_made_and_removed_again_with_few_open_files()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        string deep = string.Join('/', Enumerable.Repeat("d", 4000));
        byte[] good = new TarBuilder().File(deep + "/file", "x").End().ToArray();
        byte[] bad = new TarBuilder().File(deep + "/other", "x").HardLink("x", "absent").End().ToArray();
        FakeImage image = new FakeImage(registry, "a/b").Layer(good, Digest.Of(good)).Publish("good").Layer(bad, Digest.Of(bad)).Publish("bad");

        BinaryResult made = await WithFewFiles("pull", image.Reference("good"), "--store", work["s"], "--rootfs", work["good"]);
        BinaryResult refused = await WithFewFiles("pull", image.Reference("bad"), "--store", work["s"], "--rootfs", work["bad"]);

        made.Expect(0);
        refused.Expect(6);
        Assert.Equal(["file"], NamesAt(work["good"], deep));
        Assert.Equal(["good", "s"], Directory.GetFileSystemEntries(work.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task A_user_without_rights_makes_and_removes_directories_it_may_not_enter()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming a user without rights needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        File.SetUnixFileMode(work.Path, (UnixFileMode)0x1FF);
        File.Copy(Binary.File, work["nativepull"]);
        byte[] first = new TarBuilder().Directory("a/", mode: 0).Directory("a/b/", mode: 0).File("a/b/f", "x", mode: 0).Directory("r/", mode: 0x16D).File("r/f").End().ToArray();
        byte[] second = new TarBuilder().File("a/b/g", "y").Whiteout("a/b/f").Whiteout("r/f").File("r/g").End().ToArray();
        byte[] bad = new TarBuilder().Whiteout("r/g").HardLink("x", "absent").End().ToArray();
        FakeImage image = new FakeImage(registry, "a/b").Layer(first, Digest.Of(first)).Layer(second, Digest.Of(second)).Publish("good").Layer(bad, Digest.Of(bad)).Publish("bad");
        string[] nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", work["nativepull"], "pull", "--store", work["s"]];

        BinaryResult made = await Binary.ProgramAsync("setpriv", [.. nobody, image.Reference("good"), "--rootfs", work["good"]]);
        BinaryResult refused = await Binary.ProgramAsync("setpriv", [.. nobody, image.Reference("bad"), "--rootfs", work["bad"]]);

        made.Expect(0);
        refused.Expect(6);
        Assert.Equal(
            ["a/ 0 65534:65534", "a/b/ 0 65534:65534", "a/b/g=y 65534:65534", "r/ 555 65534:65534", "r/g= 65534:65534"], LayerStack.Words(work["good"]));
        Assert.Equal(["good", "nativepull", "s"], Directory.GetFileSystemEntries(work.Path).Select(Path.GetFileName).Order());
    }

    // One name of 8 KB makes four thousand directories, and for each a message is made ready: with its whole path, 414 bytes of gzip took 25 s.
    [Fact]
    public void What_a_message_says_of_a_directory_does_not_grow_with_its_depth()
    {
        using SpillPool pool = new(new SpillMemory(1 << 20), null);
        DirectoryTable table = new(pool);
        TouchedDirectory at = table.At(NameTable.Root);
        for (int level = 0; level < 4096; level++)
        {
            at = table.Add(at, "d\0"u8);
            Assert.InRange(at.ShownOf("name\0"u8).Length, 6, 40);
        }

        Assert.Equal("…/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/name", TarText.Show(at.ShownOf("name\0"u8)));
        Assert.Equal("d/d/name", TarText.Show(table.At(2).ShownOf("name\0"u8)));
    }

    private static Task<BinaryResult> WithFewFiles(params string[] arguments) =>
        Binary.ProgramAsync("bash", ["-c", "ulimit -n 160; exec \"$@\"", "bash", Binary.File, .. arguments]);

    private static string[] NamesAt(string root, string path)
    {
        SafeFileHandle at = Libc.TryOpenDirectory(root)!;
        foreach (string name in path.Split('/'))
        {
            Assert.Equal(0, Libc.OpenAt(at, EntryPath.Terminated(System.Text.Encoding.Latin1.GetBytes(name)), OpenFlags.ReadOnly | OpenFlags.Directory, 0, out SafeFileHandle? below));
            at.Dispose();
            at = below!;
        }

        using (at)
        {
            return [.. Libc.Names(at, path).Select(name => System.Text.Encoding.Latin1.GetString(name).TrimEnd('\0')).Order(StringComparer.Ordinal)];
        }
    }
}
