using System.Diagnostics;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary><c>--store none</c>: what a pull needs is beside what it makes, and gone with its end; what a failed one fetched is not fetched again.</summary>
public sealed class TemporaryStoreTests
{
    private const int Size = 1_000_000;

    [Fact]
    public async Task Nothing_but_the_tree_is_left()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).RandomLayer("big", Size).Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", "none", "--rootfs", work["r"], "--tar", work["x"]);
        (await Binary.RunAsync("pull", image.Reference(), "--store", "none", "--rootfs", work["r"], "--replace")).Expect(0);

        Assert.Equal($"{registry.Address}/a/b@{image.Digest}\n", result.Expect(0).Out);
        Assert.Equal(["r", "x"], work.Names);
        Assert.Equal(Size, new FileInfo(work["r/big"]).Length);
    }

    [Fact]
    public async Task What_a_failed_pull_fetched_is_not_fetched_again()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).RandomLayer("big", Size).Publish();
        using TemporaryDirectory work = new();
        registry.Faults.On($"blobs/{image.Layers[1].Digest}", new Fault { CutAfter = 600_000 });
        // the rest, and then the whole
        registry.Faults.On($"blobs/{image.Layers[1].Digest}", new Fault { Status = 404 });
        registry.Faults.On($"blobs/{image.Layers[1].Digest}", new Fault { Status = 404 });
        string[] pull = ["pull", image.Reference(), "--store", "none", "--rootfs", work["r"], "--json"];

        Assert.NotEqual(0, (await Binary.RunAsync(pull)).Code);
        Assert.Equal(["r.part"], work.Names);
        BinaryResult result = await Binary.RunAsync(pull);

        Assert.Contains("\"state\":\"resumed\",\"resumedFrom\":600000", result.Expect(0).Out, StringComparison.Ordinal);
        Assert.Contains("\"state\":\"present\"", result.Out, StringComparison.Ordinal);
        Assert.Equal(["r"], work.Names);
    }

    [Fact]
    public async Task Where_nothing_was_fetched_nothing_is_left()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();

        (await Binary.RunAsync("pull", $"{registry.Address}/a/b", "--store", "none", "--rootfs", work["r"])).Expect(3);

        Assert.Empty(work.Names);
    }

    [Fact]
    public async Task Pulls_to_the_same_place_wait_for_each_other()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", Size).Publish();
        using TemporaryDirectory work = new();

        Process[] processes = [.. Enumerable.Range(0, 4).Select(_ =>
            Binary.Start(null, Binary.File, ["pull", image.Reference(), "--store", "none", "--rootfs", work["r"], "--replace"]))];
        foreach (Process process in processes)
        {
            using (process)
            {
                (await Binary.FinishAsync(process)).Expect(0);
            }
        }

        Assert.Equal(["r"], work.Names);
        Assert.Equal(Size, new FileInfo(work["r/big"]).Length);
    }

    [Theory]
    [InlineData("a store", false)]
    [InlineData("a store, by a link", true)]
    public async Task What_somebody_keeps_under_that_name_is_let_be(string what, bool isLink)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", work[isLink ? "s" : "r.part"])).Expect(0);
        if (isLink)
        {
            File.CreateSymbolicLink(work["r.part"], "s");
        }

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", "none", "--rootfs", work["r"]);

        Assert.True(result.Code == 8, what);
        Assert.Contains($"{work["r.part"]} is ", result.Error, StringComparison.Ordinal);
        (await Binary.RunAsync("pull", image.Reference(), "--policy", "never", "--store", work["r.part"])).Expect(0);
        Assert.False(Directory.Exists(work["r"]));
    }

    /// <summary>What another user put into a directory of that name, as in /tmp: by a link each of these led into what is root's.</summary>
    [Theory]
    [InlineData("")]
    [InlineData("ln -s ../../made nativepull.lock")]
    [InlineData("ln -s ../../victim .new-index.json")]
    [InlineData("ln -s ../../made nativepull.db")]
    [InlineData("ln -s ../../d parts; ln -s ../../d blobs")]
    [InlineData("rm nativepull.temporary; ln -s ../../made nativepull.temporary")]
    [InlineData("rm nativepull.temporary")]
    public async Task A_directory_of_another_user_is_not_worked_in_whatever_it_is_marked_with(string plant)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming another user needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        await File.WriteAllTextAsync(work["victim"], "as it was", TestContext.Current.CancellationToken);
        string planting = $"cd '{work.Path}'; chmod 755 .; mkdir d; mkdir -m 1777 t; cd t; setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'mkdir -m 777 r.part; cd r.part; touch nativepull.temporary; {plant}'";
        (await Binary.ProgramAsync("sh", "-c", planting)).Expect(0);
        string[] before = Directory.GetFileSystemEntries(work["t/r.part"]);

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", "none", "--rootfs", work["t/r"]);

        Assert.Contains("r.part belongs to another user (65534)", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.Equal("as it was", await File.ReadAllTextAsync(work["victim"], TestContext.Current.CancellationToken));
        Assert.Equal(["d", "t", "victim"], work.Names);
        Assert.Empty(Directory.GetFileSystemEntries(work["d"]));
        Assert.Equal(before, Directory.GetFileSystemEntries(work["t/r.part"]));
    }

    [Theory]
    [InlineData("pull", "127.0.0.1:1/a")]
    [InlineData("pull", "127.0.0.1:1/a", "--rootfs", "r", "--extract")]
    [InlineData("pull", "127.0.0.1:1/a", "--rootfs", "r", "--policy", "never")]
    [InlineData("extract", "127.0.0.1:1/a", "--rootfs", "r")]
    [InlineData("layers", "127.0.0.1:1/a")]
    [InlineData("list")]
    public async Task What_needs_a_store_says_so(params string[] call)
    {
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.RunAsync([.. call.Select(word => word == "r" ? work["r"] : word), "--store", "none"]);

        Assert.Contains("--store none", result.Expect(2).Error, StringComparison.Ordinal);
        Assert.Empty(work.Names);
    }
}
