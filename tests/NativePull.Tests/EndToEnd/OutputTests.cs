using System.Diagnostics;
using System.Globalization;
using NativePull.Cli;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What a pull leaves outside the store: whole or not at all, old or new, and nothing beside it.</summary>
public sealed class OutputTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task One_call_makes_every_output_and_they_agree()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "whiteouts and mounts need root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b")
            .Layer(("bin/tool", "one"u8.ToArray()), ("etc/below", "below"u8.ToArray()), ("etc/keep", [7]))
            .Layer(("bin/tool", "two"u8.ToArray()), ("etc/.wh.below", []))
            .Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.RunAsync(
            "pull", image.Reference(), "--store", work["s"], "--extract", "--rootfs", work["r"], "--layers", work["l"], "--tar", work["x.tar"], "--json");

        Assert.Contains(work["s/layers/sha256/"], result.Expect(0).Out, StringComparison.Ordinal);
        string[] layers = [.. Directory.GetDirectories(work["l"]).Order(StringComparer.Ordinal)];
        Assert.Equal(["01", "02"], layers.Select(path => Path.GetFileName(path)[..2]));
        Assert.All(layers, path => Assert.Matches("^[0-9]{2}-[0-9a-f]{12}$", Path.GetFileName(path)));
        TreeListing rootfs = TreeListing.Of(work["r"]);
        TreeListing.AssertSame(rootfs, await UnpackAsync(work, work["x.tar"]));
        Directory.CreateDirectory(work["m"]);
        (await Binary.ProgramAsync("mount", "-t", "overlay", "overlay", "-o", "ro," + OverlayOptions.Lower(layers, Environment.OSVersion.Version), work["m"])).Expect(0);
        try
        {
            Assert.Equal("two", await File.ReadAllTextAsync(work["m/bin/tool"], Token));
            Assert.Equal(["keep"], Directory.GetFiles(work["m/etc"]).Select(Path.GetFileName));
        }
        finally
        {
            await Binary.UnmountAsync(work["m"]);
        }

        Assert.Equal(["l", "m", "r", "s", "unpacked", "x.tar"], work.Names);
    }

    [Fact]
    public async Task Replace_exchanges_the_tree_once_and_does_nothing_the_second_time()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage first = new FakeImage(registry, "a/b").Layer(("old", [1])).Publish("1");
        FakeImage second = new FakeImage(registry, "a/b").Layer(("new", [2])).Publish("2");
        using TemporaryDirectory work = new();
        string[] targets = ["--store", work["s"], "--rootfs", work["r"], "--layers", work["l"]];
        (await Binary.RunAsync(["pull", first.Reference("1"), .. targets])).Expect(0);

        (await Binary.RunAsync(["pull", second.Reference("2"), .. targets])).Expect(8);
        Assert.True(File.Exists(work["r/old"]));
        (await Binary.RunAsync(["pull", second.Reference("2"), .. targets, "--replace"])).Expect(0);
        string before = Inode(work["r"]) + Inode(work["l"]);
        (await Binary.RunAsync(["pull", second.Reference("2"), .. targets, "--replace"])).Expect(0);

        Assert.Equal(["new"], Directory.GetFileSystemEntries(work["r"]).Select(Path.GetFileName));
        Assert.Equal(before, Inode(work["r"]) + Inode(work["l"]));
        Assert.Equal(["l", "r", "s"], work.Names);
    }

    [Fact]
    public async Task A_tree_that_was_put_there_by_hand_is_replaced_and_a_link_to_it_stays_a_link()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("new", [2])).Publish();
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["real/below"]);
        File.CreateSymbolicLink(work["link"], "real");

        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"], "--rootfs", work["link"] + "/", "--replace")).Expect(0);

        Assert.Equal("real", new FileInfo(work["link"]).LinkTarget);
        Assert.Equal(["new"], Directory.GetFileSystemEntries(work["real"]).Select(Path.GetFileName));
        Assert.Equal(["link", "real", "s"], work.Names);
    }

    /// <summary>Name, exit code, what the sentence says, the script that runs it: $1 the executable, $2 the reference; the work directory is current.</summary>
    public static TheoryData<string, int, string, string> Destinations => new()
    {
        { "a file", 8, "not a directory", "touch f; $1 pull $2 --store s --rootfs f --replace" },
        { "below a file", 8, "", "touch f; $1 pull $2 --store s --rootfs f/r" },
        { "a link to nothing", 8, "symbolic link to nothing", "ln -s nowhere f; $1 pull $2 --store s --rootfs f" },
        { "not empty", 8, "--replace", "mkdir -p r/x; $1 pull $2 --store s --rootfs r" },
        { "the current directory", 2, "current directory", "mkdir d; cd d; $1 pull $2 --store ../s --rootfs ." },
        { "above the current directory", 2, "current directory", "mkdir -p d/e; cd d/e; $1 pull $2 --store ../../s --rootfs ../../d --replace" },
        { "the root", 2, "root of this machine", "$1 pull $2 --store s --rootfs / --replace" },
        { "inside the store", 2, "lie in each other", "$1 pull $2 --store s --rootfs s/r" },
        { "around the store", 2, "lie in each other", "mkdir d; $1 pull $2 --store d/s --rootfs d --replace" },
        { "around the store through a link", 2, "lie in each other", "mkdir d; ln -s d e; $1 pull $2 --store e/s --layers d --replace" },
        { "one output in the other", 2, "lie in each other", "$1 pull $2 --store s --rootfs r --layers r/l" },
        { "the same output twice", 2, "lie in each other", "$1 pull $2 --store s --rootfs r --tar r" },
        { "an archive that is a directory", 8, "is a directory", "mkdir d; $1 pull $2 --store s --tar d" },
        { "two references", 2, "one reference", "$1 pull $2 $2 --store s --layers l" },
        { "replace without a tree", 2, "--replace needs", "$1 pull $2 --store s --tar x --replace" },
        { "json and the archive on stdout", 2, "stdout", "$1 pull $2 --store s --tar - --json >/dev/null" },
        { "a parent that may not be written", 8, "denied", "chmod 755 .; mkdir s p; chown 65534 s; exec setpriv --reuid 65534 --regid 65534 --clear-groups $1 pull $2 --store s --rootfs p/r" },
        { "a parent that is not there", 0, "", "$1 pull $2 --store s --rootfs a/b/c && test -f a/b/c/f" },
        { "an empty directory", 0, "", "mkdir r; $1 pull $2 --store s --rootfs r/ && test -f r/f" },
        { "a device", 0, "", "$1 pull $2 --store s --tar /dev/null && test -c /dev/null" },
        { "a full device", 8, "No space", "$1 pull $2 --store s --tar /dev/full" },
        { "a full device on stdout", 8, "write stdout: No space", "$1 pull $2 --store s --tar - >/dev/full" },
        { "staging that somebody else made", 0, "", "mkdir -m 777 .l.nativepull; chown 65534 .l.nativepull; $1 pull $2 --store s --layers l && test -O l" },
        { "a name that is not UTF-8", 2, "not UTF-8", "$1 pull $2 --store s --rootfs $'r\\xff'" },
        { "in a directory whose name is not UTF-8", 2, "not UTF-8", "mkdir $'d\\xff'; cd $'d\\xff'; $1 pull $2 --store ../s --tar x" },
        { "stdout by its name", 0, "", "$1 pull $2 --store s --tar x && $1 extract $2 --store s --tar /dev/stdout | cmp - x" },
        { "layers not empty", 8, "--replace", "mkdir -p l/x; $1 pull $2 --store s --layers l; code=$?; ls l | grep -x x && exit $code" },
    };

    [Theory]
    [MemberData(nameof(Destinations))]
    public async Task Each_kind_of_destination_has_its_answer(string what, int code, string says, string script)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.ProgramAsync("bash", "-c", $"cd '{work.Path}'; {script}", "bash", Binary.File, image.Reference());

        result.Expect(code);
        Assert.True(result.Error.Contains(says, StringComparison.Ordinal), $"{what}: {result.Error}");
        Assert.DoesNotContain(Directory.GetFileSystemEntries(work.Path, "*", SearchOption.AllDirectories), path => path.Contains(".nativepull", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_mount_point_is_refused_and_so_is_a_tree_with_something_mounted_in_it()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();

        // a mount namespace of its own: whatever happens, nothing stays mounted
        string script = $"""
            cd '{work.Path}'; mkdir -p 'd/in side' data; touch data/precious
            mount --bind data 'd/in side'
            $1 pull $2 --store s --rootfs d --replace; echo $?
            $1 pull $2 --store s --rootfs 'd/in side' --replace; echo $?
            ls data
            """;
        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-c", script, "bash", Binary.File, image.Reference());

        Assert.Equal("8\n8\nprecious\n", result.Expect(0).Out);
        Assert.Contains("something is mounted at", result.Error, StringComparison.Ordinal);
        Assert.Contains("mount point", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Killed_at_any_moment_the_old_tree_is_there_or_the_new_one_and_the_next_run_clears_up()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage[] images =
        [
            new FakeImage(registry, "a/b").Layer([.. Files("even")]).Publish("0"),
            new FakeImage(registry, "a/b").Layer([.. Files("odd")]).Publish("1"),
        ];
        using TemporaryDirectory work = new();
        int seed = Random.Shared.Next();
        Random random = new(seed);
        string[] targets = ["--store", work["s"], "--rootfs", work["r"], "--layers", work["l"], "--tar", work["x.tar"], "--replace"];
        BinaryResult warm = await Binary.RunAsync(["pull", images[0].Reference("0"), .. targets]);
        warm.Expect(0);
        Stopwatch whole = Stopwatch.StartNew();
        (await Binary.RunAsync(["pull", images[1].Reference("1"), .. targets])).Expect(0);
        int longest = (int)whole.ElapsedMilliseconds;

        for (int round = 0; round < 12; round++)
        {
            int wanted = round % 2;
            using Process process = Binary.Start(null, Binary.File, ["pull", images[wanted].Reference(wanted.ToString(CultureInfo.InvariantCulture)), .. targets]);
            await Task.Delay(random.Next(longest), Token);
            process.Kill();
            await process.WaitForExitAsync(Token);

            AssertOneOf(Directory.GetFiles(work["r/d"]).Select(Path.GetFileName), seed);
            AssertOneOf(Directory.GetFiles(Path.Combine(Directory.GetDirectories(work["l"]).Single(), "d")).Select(Path.GetFileName), seed);
            (await Binary.ProgramAsync("tar", "-tf", work["x.tar"])).Expect(0);
        }

        (await Binary.RunAsync(["pull", images[0].Reference("0"), .. targets])).Expect(0);
        Assert.Equal(["l", "r", "s", "x.tar"], work.Names);
        Assert.Equal(FileCount, Directory.GetFiles(work["r/d"], "even*").Length);
    }

    [Theory]
    [InlineData("TERM", 143)]
    [InlineData("INT", 130)]
    public async Task A_signal_takes_the_staging_away(string signal, int code)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).RandomLayer("big", 3_000_000).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[1].Digest}", new Fault { StallAfter = 1_000_000 });
        using TemporaryDirectory work = new();
        using Process process = Binary.StartInterruptible("pull", image.Reference(), "--store", work["s"], "--rootfs", work["r"], "--layers", work["l"], "--tar", work["x"]);
        await stall.Reached;

        (await Binary.ProgramAsync("kill", "-" + signal, process.Id.ToString(CultureInfo.InvariantCulture))).Expect(0);
        BinaryResult result = await Binary.FinishAsync(process);
        stall.Release();

        result.Expect(code);
        Assert.Equal(["s"], work.Names);
    }

    [Theory]
    [InlineData("--rootfs")]
    [InlineData("--layers")]
    [InlineData("--tar")]
    public async Task A_full_disk_is_exit_8_and_leaves_nothing_behind(string output)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("small", [1])).RandomLayer("big", 3_000_000).Publish();
        using TemporaryDirectory work = new();

        string script = $"cd '{work.Path}'; mkdir d; mount -t tmpfs -o size=1m none d; $1 pull $2 --store s {output} d/out; code=$?; ls -A d; exit $code";
        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-c", script, "bash", Binary.File, image.Reference());

        result.Expect(8);
        Assert.Equal("", result.Out);
        Assert.Matches("No space left|are free", result.Error);
    }

    [Fact]
    public async Task Two_processes_with_the_same_directory_both_succeed()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer([.. Files("x")]).Publish();
        using TemporaryDirectory work = new();

        BinaryResult[] results = await Task.WhenAll(Enumerable.Range(0, 3).Select(_ =>
            Binary.RunAsync("pull", image.Reference(), "--store", work["s"], "--rootfs", work["r"], "--layers", work["l"])));

        Assert.All(results, result => result.Expect(0));
        Assert.Equal(["l", "r", "s"], work.Names);
        Assert.Equal(FileCount, Directory.GetFiles(work["r/d"]).Length);
    }

    [Fact]
    public async Task Two_destinations_are_taken_in_one_order_so_that_no_two_calls_wait_for_each_other()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer([.. Files("x")]).Publish();
        using TemporaryDirectory work = new();
        using NativePull.Store.StagedDirectory other = NativePull.Store.StagedDirectory.TryBegin(work["l"], sync: false)!;

        using Process process = Binary.Start(null, Binary.File, ["pull", image.Reference(), "--store", work["s"], "--rootfs", work["r"], "--layers", work["l"]]);
        while (!File.Exists(work[$"s/blobs/sha256/{image.Layers[0].Digest.Hex}"]))
        {
            await Task.Delay(10, Token);
        }

        await Task.Delay(300, Token);
        // it waits for the first with nothing in its hands
        Assert.Equal([".l.nativepull", "s"], work.Names);
        other.Dispose();
        (await Binary.FinishAsync(process)).Expect(0);
        Assert.Equal(["l", "r", "s"], work.Names);
    }

    [Fact]
    public async Task The_archive_on_stdout_is_that_of_the_file_and_the_result_line_is_on_stderr()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 400_000).Publish();
        using TemporaryDirectory work = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"], "--tar", work["x.tar"])).Expect(0);

        BinaryResult piped = await Binary.ProgramAsync(
            "bash", "-c", "(echo before; $1 extract $2 --store $3 --tar - -q; echo after) > $4", "bash", Binary.File, image.Reference(), work["s"], work["out"]);

        Assert.Equal($"{registry.Address}/a/b@{image.Digest}\n", piped.Expect(0).Error);
        byte[] archive = await File.ReadAllBytesAsync(work["x.tar"], Token);
        byte[] expected = [.. "before\n"u8, .. archive, .. "after\n"u8];
        Assert.Equal(expected, await File.ReadAllBytesAsync(work["out"], Token));
    }

    [Fact]
    public async Task A_reader_that_goes_away_is_exit_8()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 4_000_000).Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.ProgramAsync(
            "bash", "-c", "$1 pull $2 --store $3 --tar - -q | head -c 100 >/dev/null; exit ${PIPESTATUS[0]}", "bash", Binary.File, image.Reference(), work["s"]);

        result.Expect(8);
        Assert.Contains("write stdout: Broken pipe", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("@sha256", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ln -s ../victim $0", 8, ".x.nativepull is a symbolic link")]
    [InlineData("ln -s ../new $0", 8, ".x.nativepull is a symbolic link")]
    [InlineData("mkfifo $0", 8, ".x.nativepull is there and is no file")]
    [InlineData("mkdir $0", 8, ".x.nativepull is there and is no file")]
    [InlineData("ln ../victim $0", 0, "")]
    [InlineData("cp ../victim $0", 0, "")]
    public async Task What_has_the_name_of_a_file_in_progress_is_neither_followed_nor_written_to(string plant, int code, string says)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["d"]);
        await File.WriteAllTextAsync(work["victim"], "as it was", Token);
        foreach (string name in new[] { ".x.nativepull", ".x.nativepull-input" })
        {
            (await Binary.ProgramAsync("bash", "-ec", $"cd {work["d"]}; {plant}", name)).Expect(0);
        }

        BinaryResult pulled = await Binary.RunAsync("pull", image.Reference(), "-q", "--store", work["s"], "--tar", work["d/x"]);
        BinaryResult extracted = await Binary.ProgramAsync(
            "bash", "-c", "tar -C $1 -c . | timeout -s KILL 20 $2 extract oci-archive:- -q --tar $3", "bash", work["s"], Binary.File, work["d/x"]);

        Assert.Contains(says, pulled.Expect(code).Error, StringComparison.Ordinal);
        Assert.Contains(says.Replace("nativepull", "nativepull-input", StringComparison.Ordinal), extracted.Expect(code).Error, StringComparison.Ordinal);
        Assert.Equal("as it was", await File.ReadAllTextAsync(work["victim"], Token));
        Assert.Equal(["d", "s", "victim"], work.Names);
        Assert.Equal(code == 0 ? 1 : 2, Directory.GetFileSystemEntries(work["d"]).Length);
    }

    [Fact]
    public async Task A_limit_on_the_size_of_files_is_exit_8_and_staging_goes()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 4_000_000).Publish();
        using TemporaryDirectory work = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"])).Expect(0);

        foreach (string output in new[] { "--rootfs", "--layers", "--tar" })
        {
            BinaryResult result = await Binary.ProgramAsync(
                "bash", "-c", "ulimit -f 1000; exec $1 pull $2 -q --store $3/s $4 $3/x", "bash", Binary.File, image.Reference(), work.Path, output);

            Assert.Contains("File too large", result.Expect(8).Error, StringComparison.Ordinal);
            Assert.Equal(["s"], work.Names);
        }
    }

    [Fact]
    public async Task An_image_without_layers_is_an_empty_root()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Publish();
        using TemporaryDirectory work = new();

        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"], "--rootfs", work["r"], "--layers", work["l"], "--tar", work["x"])).Expect(0);

        Assert.Empty(Directory.GetFileSystemEntries(work["r"]));
        Assert.Empty(Directory.GetFileSystemEntries(work["l"]));
        Assert.Equal(1536, new FileInfo(work["x"]).Length);
    }

    [Fact]
    public async Task Three_hundred_layers_need_few_open_files()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 300; i++)
        {
            image.Layer(($"d{i % 7}/f{i}", [(byte)i]), ("same", [(byte)i]));
        }

        image.Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.ProgramAsync(
            "bash",
            "-c",
            "ulimit -n 1024; exec $1 pull $2 --store $3/s --rootfs $3/r --layers $3/l --tar $3/x",
            "bash",
            Binary.File,
            image.Reference(),
            work.Path);

        result.Expect(0);
        Assert.Equal(300, Directory.GetDirectories(work["l"]).Length);
        Assert.Equal(301, Directory.GetFiles(work["r"], "*", SearchOption.AllDirectories).Length);
        Assert.Equal([43], await File.ReadAllBytesAsync(work["r/same"], Token));
        Assert.StartsWith("001-", Directory.GetDirectories(work["l"]).Select(Path.GetFileName).Order(StringComparer.Ordinal).First(), StringComparison.Ordinal);
        TreeListing unpacked = await UnpackAsync(work, work["x"]);
        Assert.Equal(TreeListing.Of(work["r"]).Count, unpacked.Count);
    }

    private const int FileCount = 400;

    private static IEnumerable<(string, byte[])> Files(string name) => Enumerable.Range(0, FileCount).Select(i => ($"d/{name}{i}", new byte[i]));

    private static void AssertOneOf(IEnumerable<string?> names, int seed)
    {
        string[] found = [.. names.Select(name => name![..1]).Distinct()];
        Assert.True(found.Length == 1 && names.Count() == FileCount, $"seed {seed}: {names.Count()} files of {string.Join(", ", found)}");
    }

    private static string Inode(string path) => Native.Libc.TryIdentityOf(path).ToString()!;

    private static async Task<TreeListing> UnpackAsync(TemporaryDirectory work, string tar)
    {
        Directory.CreateDirectory(work["unpacked"]);
        (await Binary.ProgramAsync("tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-f", tar, "-C", work["unpacked"])).Expect(0);
        return TreeListing.Of(work["unpacked"]);
    }
}
