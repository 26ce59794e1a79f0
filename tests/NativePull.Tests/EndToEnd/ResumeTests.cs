using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Interrupted and lied-to pulls of the published executable: what is transferred again, what is kept, what the shell is told.</summary>
public sealed partial class ResumeTests
{
    private const int LayerSize = 4_000_000;

    /// <summary>One thing wrong with the answer for the layer's blob; all of it heals within the same run.</summary>
    public static TheoryData<string> Healing => [.. Faults.Keys];

    private static Dictionary<string, Fault> Faults => new()
    {
        ["cut in the middle"] = new Fault { CutAfter = 1_234_567 },
        ["reset in the middle"] = new Fault { CutAfter = 2_000_001, Reset = true },
        ["cut before the first byte"] = new Fault { CutAfter = 0 },
        ["no answer at all"] = new Fault { NoAnswer = true },
        ["500"] = new Fault { Status = 500 },
        ["503 with Retry-After"] = new Fault { Status = 503, Headers = [("Retry-After", "0")] },
        ["429 with Retry-After"] = new Fault { Status = 429, Headers = [("Retry-After", "0")] },
        ["408"] = new Fault { Status = 408 },
        ["shorter than promised, in chunks"] = new Fault { Chunked = true, MissingBytes = 999 },
    };

    [Theory]
    [MemberData(nameof(Healing))]
    public async Task A_passing_fault_heals_within_the_run_and_the_blob_is_whole(string fault)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", Faults[fault]);
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"]);

        result.Expect(0);
        Assert.True(registry.Faults.AreMet);
        Assert.Equal(LayerSize, new FileInfo(store["r/big"]).Length);
        await AssertBlobAsync(store, image);
    }

    public static TheoryData<string> Ranges => [.. RangeFaults.Keys];

    // What a server may do wrong with the range that continues a part.
    private static Dictionary<string, Fault> RangeFaults => new()
    {
        ["everything with 200"] = new Fault { OnlyRanges = true, IgnoreRange = true },
        ["a Content-Range that begins elsewhere"] = new Fault { OnlyRanges = true, ContentRange = "bytes 5-3999999/4000000" },
        ["no Content-Range"] = new Fault { OnlyRanges = true, ContentRange = "" },
        ["416"] = new Fault { OnlyRanges = true, Status = 416 },
        ["400"] = new Fault { OnlyRanges = true, Status = 400 },
        ["403"] = new Fault { OnlyRanges = true, Status = 403 },
        ["404"] = new Fault { OnlyRanges = true, Status = 404 },
        ["405"] = new Fault { OnlyRanges = true, Status = 405 },
        ["501"] = new Fault { OnlyRanges = true, Status = 501 },
        ["a page with 200"] = new Fault { OnlyRanges = true, Status = 200, Body = "<html>" },
        ["the length of the whole"] = new Fault { OnlyRanges = true, ContentLength = 4_000_000 },
        ["less than its own length"] = new Fault { OnlyRanges = true, ContentLength = 2_000_000 },
    };

    [Theory]
    [MemberData(nameof(Ranges))]
    public async Task A_part_is_never_continued_with_bytes_from_elsewhere(string fault)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { CutAfter = 1_000_000 });
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", RangeFaults[fault]);
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"]);

        result.Expect(0);
        Assert.True(registry.Faults.AreMet);
        await AssertBlobAsync(store, image);
    }

    [Theory]
    [InlineData(500, 0)]
    [InlineData(503, 5)] // that is about the server, whatever is asked for
    public async Task A_server_that_fails_at_every_range_is_asked_for_the_whole_in_the_end(int status, int code)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { CutAfter = 1_000_000 });
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { OnlyRanges = true, Status = status }, 100);
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--retries", "2")).Expect(code);

        IEnumerable<string> ranges = registry.Requests.Where(request => request.Path.EndsWith(image.Layers[0].Digest.Hex, StringComparison.Ordinal)).Select(request => request["Range"] ?? "all");
        // the cut counts as a try, for nothing came after it
        Assert.Equal($"all bytes=1000000-{(code == 0 ? " all" : "")}", string.Join(' ', ranges));
    }

    [Fact]
    public async Task A_cut_costs_one_more_request_at_the_exact_offset()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { CutAfter = 1_234_567 });
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"])).Expect(0);

        SeenRequest[] blobs = [.. registry.Requests.Where(request => request.Path.Contains(image.Layers[0].Digest.ToString(), StringComparison.Ordinal))];
        Assert.Equal([null, "bytes=1234567-"], blobs.Select(request => request["Range"]));
    }

    /// <summary>Around the buffer of 128 KiB and its multiples, and at both ends.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(131_071)]
    [InlineData(131_072)]
    [InlineData(131_073)]
    [InlineData(262_143)]
    [InlineData(262_144)]
    [InlineData(1_048_576)]
    [InlineData(2_000_000)]
    [InlineData(LayerSize - 131_072)]
    [InlineData(LayerSize - 1)]
    public async Task Wherever_a_transfer_is_cut_no_byte_comes_twice(int offset)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        long size = image.Layers[0].Size;
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { CutAfter = offset });
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"])).Expect(0);

        SeenRequest[] blobs = [.. registry.Requests.Where(request => request.Path.Contains(image.Layers[0].Digest.ToString(), StringComparison.Ordinal))];
        Assert.Equal([null, offset == 0 ? null : $"bytes={offset}-"], blobs.Select(request => request["Range"]));
        Assert.Equal(size, blobs.Sum(request => request.BytesSent));
        await AssertBlobAsync(store, image);
    }

    [Fact]
    public async Task Waits_between_tries_are_any_up_to_one_that_doubles()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        registry.Faults.On("manifests/latest", new Fault { Status = 500 }, 100);
        using TemporaryDirectory store = new();
        List<double> first = [];
        List<double> second = [];
        for (int run = 0; run < 4; run++)
        {
            BinaryResult result = await Binary.RunAsync("pull", reference, "--store", store["s"], "--retries", "3");
            double[] seen = [.. Waits().Matches(result.Expect(5).Error).Select(match => double.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture))];
            Assert.Equal(2, seen.Length);
            Assert.InRange(seen[0], 0, 0.5);
            Assert.InRange(seen[1], 0, 1);
            first.Add(seen[0]);
            second.Add(seen[1]);
        }

        // shown to a tenth of a second: that all of either are the same by chance happens once in some 300,000 runs
        Assert.True(first.Distinct().Count() + second.Distinct().Count() > 2, $"{string.Join(' ', first)} and {string.Join(' ', second)}");
    }

    [Fact]
    public async Task After_kill_9_only_what_is_missing_is_transferred()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 1_500_000 });
        using TemporaryDirectory store = new();
        string part = store[$"s/parts/sha256-{image.Layers[0].Digest.Hex}"];

        using (Process pull = Binary.Start(null, Binary.File, ["pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"]]))
        {
            await stall.Reached;
            await UntilAsync(() => File.Exists(part) && new FileInfo(part).Length == 1_500_000);
            pull.Kill();
            await Binary.FinishAsync(pull);
        }

        stall.Release();
        Assert.False(Directory.Exists(store["r"]));
        BinaryResult again = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"], "--json");

        again.Expect(0);
        using JsonDocument json = JsonDocument.Parse(again.Out);
        JsonElement layer = json.RootElement.GetProperty("layers")[0];
        Assert.Equal("resumed", layer.GetProperty("state").GetString());
        Assert.Equal(1_500_000, layer.GetProperty("resumedFrom").GetInt64());
        Assert.Equal(image.Layers[0].Size - 1_500_000, json.RootElement.GetProperty("bytes").GetProperty("downloaded").GetInt64());
        Assert.Equal("bytes=1500000-", registry.Requests.Last(request => request.Path.Contains("blobs", StringComparison.Ordinal))["Range"]);
        Assert.Empty(Directory.GetFileSystemEntries(store["s/parts"]));
        Assert.DoesNotContain(Directory.GetFileSystemEntries(store.Path), path => Path.GetFileName(path).StartsWith('.'));
        await AssertBlobAsync(store, image);
    }

    /// <summary>Else a power cut takes what came in the last half minute, or of some file systems all of it; EndToEnd/PowerCuts measures how much.</summary>
    [Fact]
    public async Task What_comes_slowly_is_flushed_meanwhile_and_what_vouches_for_it_afterwards()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 12_000_000).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 3_000_000 });
        using TemporaryDirectory store = new();
        string part = store[$"s/parts/sha256-{image.Layers[0].Digest.Hex}"];

        using Process pull = Binary.Start(
            null, "strace", ["-f", "-y", "-e", "trace=fsync,rename", "-o", store["calls"], Binary.File, "pull", image.Reference(), "--store", store["s"], "--connections", "1"]);
        await stall.Reached;
        await Task.Delay(new NativePull.Store.StoreOptions().FlushInterval + TimeSpan.FromSeconds(1), TestContext.Current.CancellationToken);
        stall.Release();
        (await Binary.FinishAsync(pull)).Expect(0);

        string[] flushed = [.. (await File.ReadAllLinesAsync(store["calls"], TestContext.Current.CancellationToken))
            .Where(line => line.Contains(part, StringComparison.Ordinal) && (line.Contains("fsync(", StringComparison.Ordinal) || line.Contains("rename(", StringComparison.Ordinal)))
            .Select(line => line.Contains("rename(", StringComparison.Ordinal) ? "published" : line.Contains(".ranges>", StringComparison.Ordinal) ? "record" : "part")];
        // a slow machine may have had time for one more, also while the last one ran
        Assert.Matches("^record( part record)+( part)+( record)? published$", string.Join(' ', flushed));
    }

    [Fact]
    public async Task A_damaged_part_is_fetched_anew_within_the_same_run()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        using TemporaryDirectory store = new();
        // what a power cut leaves: the right length, other bytes
        (await Binary.RunAsync("list", "--store", store["s"])).Expect(0);
        Directory.CreateDirectory(store["s/parts"]);
        await File.WriteAllTextAsync(store["s/oci-layout"], """{"imageLayoutVersion":"1.0.0"}""", TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(store[$"s/parts/sha256-{image.Layers[0].Digest.Hex}"], new byte[100_000], TestContext.Current.CancellationToken);

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"], "--extract");

        Assert.Contains("damaged", result.Expect(0).Error, StringComparison.Ordinal);
        Assert.Equal(LayerSize, new FileInfo(store["r/big"]).Length);
        await AssertBlobAsync(store, image);
    }

    public static TheoryData<string, int, string> Lies => new()
    {
        { "wrong byte", 6, "digest-mismatch" },
        { "too long", 6, "size-mismatch" },
        { "other length", 6, "size-mismatch" },
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public async Task A_lying_registry_is_exit_6_and_the_next_pull_from_an_honest_one_works(string lie, int code, string reason)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        registry.Faults.On(
            $"blobs/{image.Layers[0].Digest}",
            lie switch
            {
                "wrong byte" => new Fault { WrongByteAt = 3_000_000 },
                "too long" => new Fault { ExtraBytes = 10, Chunked = true },
                _ => new Fault { ContentLength = image.Layers[0].Size + 10, ExtraBytes = 10 },
            });
        using TemporaryDirectory store = new();
        string[] pull = ["pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"], "--json"];

        BinaryResult lied = await Binary.RunAsync(pull);
        bool published = Directory.Exists(store["r"]);
        BinaryResult honest = await Binary.RunAsync(pull);

        Assert.Contains($"\"reason\":\"{reason}\"", lied.Expect(code).Out, StringComparison.Ordinal);
        Assert.False(published);
        honest.Expect(0);
        await AssertBlobAsync(store, image);
    }

    [Fact]
    public async Task A_long_Retry_After_is_an_immediate_exit_5_that_reports_it()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        registry.Faults.On("manifests/latest", new Fault { Status = 429, Headers = [("Retry-After", "3600")] });
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--json");

        Assert.Contains("\"reason\":\"rate-limited\"", result.Expect(5).Out, StringComparison.Ordinal);
        Assert.Contains("\"retryAfterSeconds\":3600", result.Out, StringComparison.Ordinal);
        Assert.Single(registry.Requests);
    }

    [Fact]
    public async Task A_stalled_transfer_is_dropped_and_continued()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 1_000_000 });
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--stall-timeout", "300ms");

        result.Expect(0);
        await AssertBlobAsync(store, image);
    }

    [Theory]
    [InlineData("INT", 130, "interrupted")]
    [InlineData("TERM", 143, "terminated")]
    public async Task A_signal_ends_the_pull_with_its_code_keeps_the_part_and_removes_staging(string signal, int code, string reason)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 2_000_000 });
        using TemporaryDirectory store = new();
        using Process pull = Binary.StartInterruptible("pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"], "--extract", "--json");
        await stall.Reached;
        string part = store[$"s/parts/sha256-{image.Layers[0].Digest.Hex}"];
        await UntilAsync(() => File.Exists(part) && new FileInfo(part).Length == 2_000_000);

        await Binary.ProgramAsync("kill", $"-{signal}", pull.Id.ToString(System.Globalization.CultureInfo.InvariantCulture));
        BinaryResult ended = await Binary.FinishAsync(pull);
        stall.Release();

        Assert.Contains($"\"reason\":\"{reason}\"", ended.Expect(code).Out, StringComparison.Ordinal);
        Assert.Equal(2_000_000, new FileInfo(part).Length);
        Assert.Equal(["s"], Directory.GetFileSystemEntries(store.Path).Select(Path.GetFileName));
        Assert.Empty(Directory.GetFileSystemEntries(store["s/layers/sha256"]));
    }

    [Fact]
    public async Task Two_processes_pulling_the_same_image_fetch_each_blob_once()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", LayerSize).RandomLayer("other", 1_000_000).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 1_000_000 });
        using TemporaryDirectory store = new();
        string[] command = ["pull", image.Reference(), "--store", store["s"]];

        using Process first = Binary.Start(null, Binary.File, [.. command, "--rootfs", store["r1"]]);
        await stall.Reached;
        using Process second = Binary.Start(null, Binary.File, [.. command, "--rootfs", store["r2"]]);
        await UntilAsync(() => registry.Requests.Count(request => request.Path.EndsWith("/manifests/latest", StringComparison.Ordinal)) == 2);
        stall.Release();
        BinaryResult[] results = await Task.WhenAll(Binary.FinishAsync(first), Binary.FinishAsync(second));

        Assert.All(results, result => result.Expect(0));
        Assert.All(image.Layers, layer => Assert.Single(registry.Requests, request => request.Path.Contains(layer.Digest.ToString(), StringComparison.Ordinal)));
        Assert.Equal(await File.ReadAllBytesAsync(store["r1/big"], TestContext.Current.CancellationToken), await File.ReadAllBytesAsync(store["r2/big"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task One_token_serves_every_request_of_a_pull()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), HasStorage = true }.Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 20; i++)
        {
            image.RandomLayer($"f{i}", 1000 + i);
        }

        image.Publish(withIndex: true);
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"])).Expect(0);

        Assert.Single(registry.RequestsOf("token"));
        Assert.All(registry.RequestsOf("cdn"), request => Assert.Null(request["Authorization"]));
        // twenty layers and the config
        Assert.Equal(21, registry.RequestsOf("cdn").Count);
    }

    [Fact]
    public async Task The_same_pull_again_asks_for_one_manifest_by_tag_and_for_nothing_by_digest()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish(withIndex: true);
        using TemporaryDirectory store = new();
        string[] pull = ["pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"], "--extract"];
        (await Binary.RunAsync(pull)).Expect(0);
        int before = registry.Requests.Count;

        (await Binary.RunAsync(pull)).Expect(0);
        int byTag = registry.Requests.Count - before;
        (await Binary.RunAsync("pull", $"{registry.Address}/a/b@{image.Digest}", "--store", store["s"])).Expect(0);

        Assert.Equal(1, byTag);
        Assert.Equal(before + 1, registry.Requests.Count);
    }

    private static async Task AssertBlobAsync(TemporaryDirectory store, FakeImage image)
    {
        foreach (NativePull.Oci.Descriptor layer in image.Layers)
        {
            byte[] content = await File.ReadAllBytesAsync(store[$"s/blobs/sha256/{layer.Digest.Hex}"], TestContext.Current.CancellationToken);
            Assert.True(layer.Digest.Matches(content));
        }
    }

    // Waits for a state of another process; the test's own time limit ends a wait that is in vain.
    private static async Task UntilAsync(Func<bool> reached)
    {
        long begun = Environment.TickCount64;
        while (!reached())
        {
            Assert.True(Environment.TickCount64 - begun < 240_000, "what is waited for has not come in four minutes");
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }

    [GeneratedRegex(@"; try \d+ in ([0-9.]+) s")]
    private static partial Regex Waits();
}
