using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What the options of transfers promise, and what servers may do on the way to a blob, by the executable and the requests it makes.</summary>
public sealed class TransferTests : IDisposable
{
    private const long MB = 1_000_000;

    private readonly TemporaryDirectory scratch = new();

    [Theory]
    [InlineData(301)]
    [InlineData(302)]
    [InlineData(303)]
    [InlineData(307)]
    [InlineData(308)]
    public async Task Every_redirect_is_followed_afresh_on_every_attempt_and_without_the_token(int status)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth() }.Start();
        await using FakeRegistry storage = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(1, 1 * MB);
        FakeImage image = new FakeImage(registry, "a/b").Layer(content).Publish();
        storage.AddBlob("other", content);
        // relative first, then to another host
        registry.Faults.On("/moved", new Fault { RedirectTo = $"{storage.Url}/v2/other/blobs/{content.Digest}", RedirectStatus = status }, 9);
        registry.Faults.On($"blobs/{content.Digest}", new Fault { RedirectTo = "../moved?x=1", RedirectStatus = status }, 9);
        storage.Faults.On("/blobs/", new Fault { CutAfter = 400_000 });

        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"])).Expect(0);

        Assert.Equal(2, registry.Requests.Count(request => request.Path.EndsWith(content.Digest.Hex, StringComparison.Ordinal) && request.Status == status));
        Assert.Equal([null, "bytes=400000-"], storage.Requests.Select(request => request["Range"]));
        Assert.All(storage.Requests, request => Assert.Null(request["Authorization"]));
        Assert.Equal(1 * MB, storage.Requests.Sum(request => request.BytesSent));
    }

    /// <summary>What a storage might have signed: {s} is its address.</summary>
    [Theory]
    [InlineData("{s}/v2/other/blobs/{d}?a=%2F%7e%2D%41+%20&b='()*;:@!$,~")]
    [InlineData("{s}/v2/other/../other/blobs/{d}", "/v2/other/blobs/{d}")]
    [InlineData("{s}/v2/other/blobs/{d}?a#b", "/v2/other/blobs/{d}?a")]
    [InlineData("{s}/v2/other/blobs/{d}?a=ä b", "/v2/other/blobs/{d}?a=%C3%A4%20b")]
    [InlineData("{s}?to=/v2/other/blobs/{d}", "/?to=/v2/other/blobs/{d}")]
    public async Task A_signed_link_is_asked_for_as_it_was_written(string link, string? expected = null)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry storage = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(1, 1000);
        FakeImage image = new FakeImage(registry, "a/b").Layer(content).Publish();
        storage.AddBlob("other", content);
        string to = link.Replace("{s}", storage.Url, StringComparison.Ordinal).Replace("{d}", content.Digest.ToString(), StringComparison.Ordinal);
        // headers are sent in Latin-1
        registry.Faults.On($"blobs/{content.Digest}", new Fault { RedirectTo = Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(to)) }, 9);

        _ = await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--retries", "1");

        Assert.Equal(expected?.Replace("{d}", content.Digest.ToString(), StringComparison.Ordinal) ?? to[storage.Url.Length..], storage.Requests[0].Path);
    }

    [Fact]
    public async Task A_trickle_is_left_for_another_connection_at_the_offset_reached()
    {
        FakeContent content = FakeContent.Generated(2, 300_000);
        byte[] bytes = content.ToArray();
        List<string> ranges = [];
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(content).Publish();
        await using RawServer trickling = new(async (line, stream, token) =>
        {
            bool isFirst;
            lock (ranges)
            {
                isFirst = ranges.Count == 0;
                ranges.Add(line);
            }

            await stream.WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 200 OK\r\nContent-Length: {bytes.Length}\r\n\r\n"), token);
            for (int at = 0; at < bytes.Length; at++)
            {
                await stream.WriteAsync(isFirst ? bytes.AsMemory(at, 1) : bytes, token);
                at += isFirst ? 0 : bytes.Length;
                await Task.Delay(isFirst ? 20 : 0, token);
            }
        });
        registry.Faults.On($"blobs/{content.Digest}", new Fault { RedirectTo = $"http://{trickling.Address}/blob" }, 9);

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--stall-timeout", "1s", "--min-rate", "5kB");

        Assert.Contains("less than 5000 a second", result.Expect(0).Error, StringComparison.Ordinal);
        Assert.Equal(2, ranges.Count);
    }

    [Fact]
    public async Task For_ever_goes_on_where_six_tries_would_be_the_end()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        registry.Faults.On("manifests/", new Fault { Status = 503, Headers = [("Retry-After", "0")] }, 3);
        registry.Faults.On("manifests/", new Fault { NoAnswer = true }, 2);
        registry.Faults.On("manifests/", new Fault { Status = 429, Headers = [("Retry-After", "Thu, 01 Jan 2026 00:00:01 GMT")] }, 4);

        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--retries", "forever")).Expect(0);

        Assert.True(registry.Faults.AreMet);
    }

    /// <summary>Longer than a timer can count, so that the wait would be a failure of its own.</summary>
    [Theory]
    [InlineData("5000000")]
    [InlineData("Fri, 31 Dec 9999 23:59:59 GMT")]
    [InlineData("99999999999999999999")]
    public async Task For_ever_bears_any_wait(string header)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { Status = 429, Headers = [("Retry-After", header)] });

        using Process pull = Binary.Start(null, Binary.File, ["pull", image.Reference(), "--store", scratch["s"], "--retries", "forever"]);
        string? line;
        do
        {
            line = await pull.StandardError.ReadLineAsync(TestContext.Current.CancellationToken);
        }
        while (line?.Contains("; try 2 in ", StringComparison.Ordinal) == false);

        Assert.NotNull(line);
        await Binary.ProgramAsync("kill", "-TERM", pull.Id.ToString(CultureInfo.InvariantCulture));
        (await Binary.FinishAsync(pull)).Expect(143);
        Assert.Single(registry.Requests, request => request.Status == 429);
    }

    [Theory]
    [InlineData("--stall-timeout")]
    [InlineData("--connect-timeout")]
    [InlineData("--deadline")]
    [InlineData("--wait-network")]
    public async Task A_time_longer_than_a_timer_can_count_is_long(string option)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();

        (await Binary.RunAsync("pull", reference, "--store", scratch["s"], option, "10000d")).Expect(0);
    }

    [Theory]
    [InlineData("120", 120)]
    [InlineData("99999999999999999999", int.MaxValue)]
    [InlineData("Thu, 01 Jan 2026 00:02:00 GMT", 120)]
    [InlineData("Thursday, 01-Jan-26 00:02:00 GMT", 120)]
    [InlineData("Thu Jan  1 00:02:00 2026", 120)]
    public async Task A_long_Retry_After_is_reported_in_seconds_however_it_is_written(string header, double seconds)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        registry.Faults.On("manifests/", new Fault { Status = 503, Headers = [("Retry-After", header)] });

        BinaryResult result = await Binary.RunAsync("pull", $"{registry.Address}/a/b", "--store", scratch["s"], "--json");

        using JsonDocument json = JsonDocument.Parse(result.Expect(5).Out);
        Assert.Equal(seconds, json.RootElement.GetProperty("error").GetProperty("retryAfterSeconds").GetDouble());
        Assert.Single(registry.Requests);
    }

    [Fact]
    public async Task A_limited_rate_is_kept_over_all_downloads_together()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 6; i++)
        {
            image.Layer(FakeContent.Generated(i, 5 * MB));
        }

        image.Publish();

        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--limit-rate", "1MB", "--deadline", "3s")).Expect(5);

        // however slow the machine is, there is no more than that: three seconds' worth, one second's for a start, and a buffer a connection
        long kept = Directory.GetFiles(scratch["s/parts"]).Sum(file => new FileInfo(file).Length);
        Assert.InRange(kept, 1, (4 * MB) + (8 * 128 * 1024));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Large_blobs_come_first_unless_somebody_waits_for_the_lowest(bool extract)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("a", 1000).RandomLayer("b", 400_000).RandomLayer("c", 20_000).Publish();

        (await Binary.RunAsync(["pull", image.Reference(), "--store", scratch["s"], "--jobs", "1", .. extract ? ["--extract"] : Array.Empty<string>()])).Expect(0);

        string[] asked = [.. registry.Requests.Select(request => request.Path.Split(':')[^1]).Where(hex => image.Layers.Any(layer => layer.Digest.Hex == hex))];
        IEnumerable<Descriptor> expected = extract ? image.Layers : image.Layers.OrderByDescending(layer => layer.Size);
        Assert.Equal(expected.Select(layer => layer.Digest.Hex), asked);
    }

    /// <summary>What a server of a large blob does with stretches.</summary>
    private static readonly Dictionary<string, Fault> Refusals = new()
    {
        ["everything with 200"] = new Fault { OnlyStretches = true, IgnoreRange = true },
        ["416"] = new Fault { OnlyStretches = true, Status = 416 },
        ["403"] = new Fault { OnlyStretches = true, Status = 403 },
        ["429"] = new Fault { OnlyStretches = true, Status = 429 },
        ["another stretch"] = new Fault { OnlyStretches = true, RangeFrom = 5 },
        ["resets"] = new Fault { OnlyStretches = true, NoAnswer = true, Reset = true },
    };

    public static TheoryData<string> Stretches => [.. Refusals.Keys];

    [Theory]
    [MemberData(nameof(Stretches))]
    public async Task A_server_that_gives_no_stretches_gives_the_blob_over_one_connection(string refusal)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(3, 50 * MB);
        FakeImage image = new FakeImage(registry, "a/b").Layer(content).Publish();
        registry.Faults.On($"blobs/{content.Digest}", Refusals[refusal], 1000);
        // slow enough for a trial of a second connection
        await using ShapingProxy slow = new(registry.Port) { RateOfEach = 10 * MB };

        (await Binary.RunAsync("pull", $"{slow.Address}/a/b", "--store", scratch["s"])).Expect(0);

        SeenRequest[] blobs = [.. registry.Requests.Where(request => request.Path.EndsWith(content.Digest.Hex, StringComparison.Ordinal))];
        Assert.Contains(blobs, request => request["Range"]?.EndsWith('-') == false);
        Assert.InRange(blobs.Length, 2, 40);
        Assert.True(image.Layers[0].Digest.Matches(await File.ReadAllBytesAsync(scratch[$"s/blobs/sha256/{content.Digest.Hex}"], TestContext.Current.CancellationToken)));
        // what a server sends against its own word is left unread
        Assert.InRange(slow.Passed, 50 * MB, (50 * MB) + (blobs.Length * (ShapingProxy.InFlight + 128 * 1024)));
    }

    [Fact]
    public async Task A_server_of_the_old_kind_that_ends_bodies_with_the_connection_is_continued_where_it_broke_off()
    {
        byte[] bytes = FakeContent.Generated(6, 1 * MB).ToArray();
        List<string> heads = [];
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(FakeContent.Of(bytes)).Publish();
        await using RawServer old = new(async (line, stream, token) =>
        {
            int number;
            lock (heads)
            {
                heads.Add(line);
                number = heads.Count;
            }

            // the first breaks off in the middle; ranges are unknown to it
            await stream.WriteAsync("HTTP/1.0 200 OK\r\n\r\n"u8.ToArray(), token);
            await stream.WriteAsync(bytes.AsMemory(0, number == 1 ? 300_000 : bytes.Length), token);
        });
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { RedirectTo = $"http://{old.Address}/blob" }, 9);

        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"])).Expect(0);

        Assert.Equal(2, heads.Count);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(scratch[$"s/blobs/sha256/{image.Layers[0].Digest.Hex}"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Small_blobs_are_never_shared()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(4, 8 * MB);
        new FakeImage(registry, "a/b").Layer(content).Publish();
        await using ShapingProxy slow = new(registry.Port) { RateOfEach = 2 * MB };

        (await Binary.RunAsync("pull", $"{slow.Address}/a/b", "--store", scratch["s"])).Expect(0);

        Assert.Single(registry.Requests, request => request.Path.EndsWith(content.Digest.Hex, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_pull_that_is_cut_ten_times_transfers_every_byte_once()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), HasStorage = true }.Start();
        FakeContent content = FakeContent.Generated(5, 11 * MB);
        FakeImage image = new FakeImage(registry, "a/b").Layer(content).Publish();
        registry.Faults.On($"cdn /data/a/b@{content.Digest}", new Fault { CutAfter = 1 * MB }, 10);

        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"])).Expect(0);

        SeenRequest[] sent = [.. registry.RequestsOf("cdn").Where(request => request.Path.Contains(content.Digest.Hex, StringComparison.Ordinal))];
        Assert.Equal(11, sent.Length);
        Assert.Equal(11 * MB, sent.Sum(request => request.BytesSent));
    }

    public void Dispose() => scratch.Dispose();
}
