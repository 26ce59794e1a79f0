using System.Diagnostics;
using System.Text.Json.Nodes;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>The store of the published executable under bad conditions: killed, full, read-only, shared, not ours.</summary>
public sealed class StoreTests
{
    [Fact]
    public async Task A_tree_is_known_again_when_a_reboot_has_given_its_disk_another_number()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting a disk needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = Image(registry).Publish();
        using TemporaryDirectory scratch = new();

        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-ec", """
            cd "$1"
            truncate -s 64M disk
            mkfs.ext4 -q -F disk
            mkdir m
            one=$(losetup --find --show disk)
            trap 'losetup --detach $one' EXIT
            mount $one m
            "$2" pull "$3" --store m/s --rootfs m/r --layers m/l
            umount m
            other=$(losetup --find --show disk)
            trap 'losetup --detach $one; losetup --detach $other' EXIT
            mount $other m
            "$2" pull "$3" --store m/s --rootfs m/r --layers m/l
            umount m
            """, "bash", scratch.Path, Binary.File, image.Reference());

        result.Expect(0);
    }

    [Fact]
    public async Task A_relative_directory_of_XDG_is_none()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming another user needs root");
        using TemporaryDirectory scratch = new();
        string script = $"chmod 777 '{scratch.Path}'; cd '{scratch.Path}'; exec env -i XDG_DATA_HOME=rel HOME='{scratch.Path}/home' setpriv --reuid 65534 --regid 65534 --clear-groups $0 pull 127.0.0.1:1/a --policy never";

        BinaryResult result = await Binary.ProgramAsync("bash", "-c", script, Binary.File);

        Assert.Contains("there is no store at " + scratch["home/.local/share/nativepull"], result.Expect(3).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("UPDATE layers SET digest = x'00'")]
    [InlineData("UPDATE layers SET diff_id = x'00'")]
    [InlineData("UPDATE manifests SET digest = x'00'")]
    [InlineData("UPDATE configs SET digest = x'00'")]
    [InlineData("UPDATE images SET pulled_at = 9223372036854775807")]
    public async Task What_no_catalog_can_say_is_a_damaged_store_and_no_bug(string damage)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = Image(registry).Publish();
        using TemporaryDirectory scratch = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"])).Expect(0);
        (await Binary.ProgramAsync("sqlite3", scratch["s/nativepull.db"], damage)).Expect(0);

        foreach (string[] call in new string[][] { ["list"], ["layers", image.Reference()], ["extract", image.Reference(), "--rootfs", scratch["r"]] })
        {
            Assert.Contains("the catalog", (await Binary.RunAsync([.. call, "--store", scratch["s"]])).Expect(8).Error, StringComparison.Ordinal);
        }
    }

    /// <summary>
    /// What says that a store half made is ours is on the disk before anything else of it: else a power cut leaves, on btrfs, a directory that no pull
    /// takes for a store again (scripts/power.sh 80 btrfs).
    /// </summary>
    [Theory]
    [InlineData("s", "s/nativepull.lock")]
    [InlineData("none", "r.part/nativepull.temporary")]
    public async Task The_file_that_a_store_is_known_by_is_flushed_before_anything_else_is_made(string store, string file)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = Image(registry).Publish();
        using TemporaryDirectory scratch = new();
        Directory.CreateDirectory(scratch["made"]);
        string[] pull = ["pull", image.Reference(), "--rootfs", scratch["made/r"], "--store", store == "none" ? store : scratch["made/s"]];

        (await Binary.ProgramAsync("strace", ["-f", "-y", "-e", "trace=fsync,syncfs,mkdir,rename", "-o", scratch["calls"], Binary.File, .. pull])).Expect(0);

        string[] calls = [.. (await File.ReadAllLinesAsync(scratch["calls"], TestContext.Current.CancellationToken))
            .Where(call => call.Contains(scratch["made"], StringComparison.Ordinal) && !call.Contains(" = -1 ", StringComparison.Ordinal))];
        int flushed = Array.FindIndex(calls, call => call.Contains("fsync(", StringComparison.Ordinal) && call.Contains(scratch["made/" + file], StringComparison.Ordinal));
        string directory = Path.GetDirectoryName(scratch["made/" + file])!;
        Assert.True(flushed >= 0, string.Join('\n', calls));
        Assert.All(calls[..flushed], call => Assert.Contains($"mkdir(\"{directory}\"", call, StringComparison.Ordinal));
        Assert.Contains("fsync(", calls[flushed + 1], StringComparison.Ordinal);
        Assert.Contains($"<{directory}>", calls[flushed + 1], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Killed_at_thirty_random_moments_a_pull_still_succeeds_and_leaves_nothing_half_done()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = Image(registry).Publish(withIndex: true);
        using TemporaryDirectory scratch = new();
        string[] pull = ["pull", image.Reference(), "--extract", "--limit-rate", "12MB"];
        Stopwatch whole = Stopwatch.StartNew();
        (await Binary.RunAsync([.. pull, "--store", scratch["whole"], "--rootfs", scratch["expected"]])).Expect(0);
        // moments of this machine's own time for it
        int milliseconds = (int)whole.ElapsedMilliseconds;
        int seed = Random.Shared.Next();
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        Random random = new(seed);
        int killed = 0;
        for (int i = 0; i < 30; i++)
        {
            using Process process = Binary.Start(null, Binary.File, [.. pull, "--store", scratch["s"], "--rootfs", scratch["r"]]);
            await Task.Delay(random.Next(5, Math.Max(20, milliseconds / 2)), TestContext.Current.CancellationToken);
            bool ended = process.HasExited;
            killed += ended ? 0 : 1;
            process.Kill();
            await Binary.FinishAsync(process);
            // whatever the moment: everything that has a blob's name is that blob
            await AssertBlobsAsync(scratch["s"]);
            if (ended && i < 25)
            {
                // it got to its end: there is nothing left to interrupt
                NativePull.Native.DirectoryTree.Remove(scratch["s"]);
                NativePull.Native.DirectoryTree.Remove(scratch["r"]);
            }
        }

        BinaryResult last = await Binary.RunAsync([.. pull, "--store", scratch["s"], "--rootfs", scratch["r"]]);

        last.Expect(0);
        Assert.True(killed > 5, $"only {killed} of 30 were still running when killed (seed {seed})");
        TreeListing.AssertSame(TreeListing.Of(scratch["expected"]), TreeListing.Of(scratch["r"]));
        TreeListing.AssertSame(TreeListing.Of(scratch["whole/layers"]).Select(IgnoreContainers), TreeListing.Of(scratch["s/layers"]).Select(IgnoreContainers));
        Assert.Equal(["expected", "r", "s", "whole"], Names(scratch.Path));
        Assert.Equal(["blobs", "index.json", "layers", "nativepull.db", "nativepull.lock", "oci-layout", "parts"], Names(scratch["s"]));
        Assert.Empty(Names(scratch["s/parts"]));
        Assert.Equal(3, Names(scratch["s/layers/sha256"]).Count);
        Assert.Equal(Names(scratch["whole/blobs/sha256"]), Names(scratch["s/blobs/sha256"]));
        Assert.Equal("ok", (await Binary.ProgramAsync("sqlite3", scratch["s/nativepull.db"], "PRAGMA integrity_check")).Expect(0).Out.Trim());
        Assert.Equal(await DumpAsync(scratch["whole"]), await DumpAsync(scratch["s"]));

        // the directories that hold the layers were made at different moments
        static TreeEntry? IgnoreContainers(TreeEntry entry) => entry.Path is "." or "sha256" ? null : entry;
    }

    [Fact]
    public async Task A_full_disk_is_exit_8_keeps_the_part_and_heals_when_there_is_room()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 6_000_000).Publish();
        using TemporaryDirectory scratch = new();
        Directory.CreateDirectory(scratch["s"]);
        (await Binary.ProgramAsync("mount", "-t", "tmpfs", "-o", "size=4m", "none", scratch["s"])).Expect(0);
        try
        {
            string[] pull = ["pull", image.Reference(), "--store", scratch["s"], "--json"];

            BinaryResult full = await Binary.RunAsync(pull);
            long kept = new FileInfo(scratch[$"s/parts/sha256-{image.Layers[0].Digest.Hex}"]).Length;
            await Binary.ProgramAsync("mount", "-o", "remount,size=40m", scratch["s"]);
            BinaryResult healed = await Binary.RunAsync(pull);

            Assert.Contains("\"reason\":\"no-space\"", full.Expect(8).Out, StringComparison.Ordinal);
            Assert.InRange(kept, 2_000_000, 4 << 20);
            Assert.Contains("\"state\":\"resumed\"", healed.Expect(0).Out, StringComparison.Ordinal);
            await AssertBlobsAsync(scratch["s"]);
        }
        finally
        {
            await Binary.UnmountAsync(scratch["s"]);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(40)]
    [InlineData(80)]
    public async Task A_disk_without_room_for_the_catalog_is_exit_8_for_want_of_space(int kilobytes)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory scratch = new();
        Directory.CreateDirectory(scratch["s"]);
        (await Binary.ProgramAsync("mount", "-t", "tmpfs", "-o", "size=1m", "none", scratch["s"])).Expect(0);
        try
        {
            // a store that was just made, and then so much room
            Directory.CreateDirectory(scratch["s/blobs/sha256"]);
            Directory.CreateDirectory(scratch["s/parts"]);
            await File.WriteAllTextAsync(scratch["s/index.json"], """{"schemaVersion":2,"manifests":[]}""", TestContext.Current.CancellationToken);
            await File.WriteAllTextAsync(scratch["s/oci-layout"], """{"imageLayoutVersion":"1.0.0"}""", TestContext.Current.CancellationToken);
            await Binary.ProgramAsync("bash", "-c", $"head -c {1000 - kilobytes}K /dev/zero >{scratch["s/blobs/filler"]}; :");

            BinaryResult full = await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--json");
            File.Delete(scratch["s/blobs/filler"]);
            BinaryResult healed = await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--json");

            Assert.Contains("\"reason\":\"no-space\"", full.Expect(8).Out, StringComparison.Ordinal);
            healed.Expect(0);
        }
        finally
        {
            await Binary.UnmountAsync(scratch["s"]);
        }
    }

    [Fact]
    public async Task A_store_that_cannot_be_written_can_be_looked_at()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = Image(registry).Publish();
        using TemporaryDirectory scratch = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--extract")).Expect(0);
        (await Binary.ProgramAsync("mount", "--bind", scratch["s"], scratch["s"])).Expect(0);
        try
        {
            (await Binary.ProgramAsync("mount", "-o", "remount,bind,ro", scratch["s"])).Expect(0);

            Assert.Contains(image.Digest.ToString(), (await Binary.RunAsync("list", "--store", scratch["s"])).Expect(0).Out, StringComparison.Ordinal);
            Assert.Equal($"{image.Digest}\n", (await Binary.RunAsync("inspect", "--digest", image.Reference(), "--store", scratch["s"])).Expect(0).Out);
            Assert.Equal(3, (await Binary.RunAsync("layers", image.Reference(), "--store", scratch["s"])).Expect(0).Out.TrimEnd('\n').Split('\n').Length);
            BinaryResult pull = await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--json");
            Assert.Contains("\"reason\":\"permission\"", pull.Expect(8).Out, StringComparison.Ordinal);
        }
        finally
        {
            await Binary.UnmountAsync(scratch["s"]);
        }
    }

    [Fact]
    public async Task A_directory_that_is_no_store_is_refused_untouched()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory scratch = new();
        Directory.CreateDirectory(scratch["s/letters"]);

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"]);

        Assert.Contains("is no store", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.Equal(["letters"], Names(scratch["s"]));
        Assert.Empty(registry.Requests);
    }

    [Fact]
    public async Task A_catalog_that_is_no_database_or_of_a_newer_schema_is_exit_8()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory scratch = new();
        string[] pull = ["pull", image.Reference(), "--store", scratch["s"], "--json"];
        (await Binary.RunAsync(pull)).Expect(0);
        (await Binary.ProgramAsync("sqlite3", scratch["s/nativepull.db"], "PRAGMA user_version = 99")).Expect(0);

        Assert.Contains("store-damaged", (await Binary.RunAsync(pull)).Expect(8).Out, StringComparison.Ordinal);
        Assert.Contains("newer", (await Binary.RunAsync("list", "--store", scratch["s"])).Expect(8).Error, StringComparison.Ordinal);
        await File.WriteAllTextAsync(scratch["s/nativepull.db"], new string('x', 4096), TestContext.Current.CancellationToken);
        Assert.Contains("store-damaged", (await Binary.RunAsync(pull)).Expect(8).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pulling_again_adds_no_row_and_a_moved_tag_is_replaced()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage old = Image(registry).Publish(withIndex: true);
        using TemporaryDirectory scratch = new();
        string[] pull = ["pull", old.Reference(), "--store", scratch["s"]];
        (await Binary.RunAsync(pull)).Expect(0);
        string before = await DumpAsync(scratch["s"]);
        (await Binary.RunAsync(pull)).Expect(0);
        Assert.Equal(before, await DumpAsync(scratch["s"]));

        FakeImage moved = new FakeImage(registry, "a/b").Layer(("new", [1])).Publish(withIndex: true);
        (await Binary.RunAsync(pull)).Expect(0);

        Assert.Contains(moved.Digest.ToString(), Assert.Single((await Binary.RunAsync("list", "--store", scratch["s"])).Expect(0).Out.TrimEnd('\n').Split('\n')), StringComparison.Ordinal);
        JsonArray manifests = JsonNode.Parse(await File.ReadAllTextAsync(scratch["s/index.json"], TestContext.Current.CancellationToken))!["manifests"]!.AsArray();
        Assert.Equal(old.Reference(), (string)Assert.Single(manifests)!["annotations"]!["org.opencontainers.image.ref.name"]!);
        // the digest still finds what the tag named before
        (await Binary.RunAsync("extract", $"{registry.Address}/a/b:latest", "--rootfs", scratch["new"], "--store", scratch["s"])).Expect(0);
        Assert.Equal(["new"], Names(scratch["new"]));
    }

    [Fact]
    public async Task A_damaged_document_is_fetched_anew()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish(withIndex: true);
        using TemporaryDirectory scratch = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"])).Expect(0);
        foreach (string blob in Directory.GetFiles(scratch["s/blobs/sha256"]).Where(path => !path.EndsWith(image.Layers[0].Digest.Hex, StringComparison.Ordinal)))
        {
            await File.WriteAllBytesAsync(blob, new byte[new FileInfo(blob).Length], TestContext.Current.CancellationToken);
        }

        BinaryResult again = await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"]);

        Assert.Contains("fetched anew", again.Expect(0).Error, StringComparison.Ordinal);
        await AssertBlobsAsync(scratch["s"]);
    }

    [Fact]
    public async Task Two_processes_that_publish_the_same_root_file_system_both_succeed()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = Image(registry).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 100_000 });
        using TemporaryDirectory scratch = new();
        string[] pull = ["pull", image.Reference(), "--store", scratch["s"], "--rootfs", scratch["r"], "--extract"];

        using Process first = Binary.Start(null, Binary.File, pull);
        await stall.Reached;
        using Process second = Binary.Start(null, Binary.File, pull);
        while (registry.Requests.Count(request => request.Path.EndsWith("/manifests/latest", StringComparison.Ordinal)) < 2)
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        stall.Release();
        BinaryResult[] results = await Task.WhenAll(Binary.FinishAsync(first), Binary.FinishAsync(second));

        Assert.All(results, result => result.Expect(0));
        Assert.Equal(["bin", "big", "other", "top"], Names(scratch["r"]).OrderBy(name => name != "bin"));
        Assert.Equal(["r", "s"], Names(scratch.Path));
    }

    private static FakeImage Image(FakeRegistry registry) => new FakeImage(registry, "a/b")
        .RandomLayer("big", 1_500_000)
        .Layer(("bin/tool", "one"u8.ToArray()), ("other", new byte[200_000]))
        .RandomLayer("top", 300_000);

    private static List<string> Names(string directory) => [.. Directory.GetFileSystemEntries(directory).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];

    private static async Task AssertBlobsAsync(string store)
    {
        if (!Directory.Exists(Path.Combine(store, "blobs/sha256")))
        {
            return;
        }

        foreach (string blob in Directory.GetFiles(Path.Combine(store, "blobs/sha256")))
        {
            byte[] hash = System.Security.Cryptography.SHA256.HashData(await File.ReadAllBytesAsync(blob, TestContext.Current.CancellationToken));
            Assert.Equal(Path.GetFileName(blob), Convert.ToHexStringLower(hash));
        }
    }

    // every row of every table but the moment of the pull and where root file systems are
    private static async Task<string> DumpAsync(string store)
    {
        string dump = (await Binary.ProgramAsync("sqlite3", Path.Combine(store, "nativepull.db"), "UPDATE images SET pulled_at = 0; DELETE FROM rootfs", ".dump")).Expect(0).Out;
        Assert.Contains("INSERT INTO images", dump, StringComparison.Ordinal);
        return dump;
    }
}
