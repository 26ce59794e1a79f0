using System.Diagnostics;
using System.Globalization;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>How many blobs the executable fetches at once: as many as are of use on the network there is, as few as the server bears.</summary>
[Collection(nameof(ConcurrencyTests))]
public sealed class ConcurrencyTests
{
    private const long MB = 1_000_000;

    // .NET's client asks again by itself, on three more connections, where one ends without a byte.
    private const int LibrarysTries = 4;

    /// <summary>What a server does to who asks for more blobs at once than it gives, how many it gives, and how often that may happen at the beginning.</summary>
    public static TheoryData<string, int, int> Narrow => new()
    {
        { "429", 1, 3 },
        { "429", 2, 2 },
        { "429 with a wait", 1, 3 },
        { "503", 1, 6 },
        { "503", 3, 2 },
        { "no answer", 1, 6 * LibrarysTries },
        { "a reset", 1, 6 * LibrarysTries },
        { "a reset", 2, 4 * LibrarysTries },
    };

    [Theory]
    [MemberData(nameof(Narrow))]
    public async Task A_server_that_bears_few_at_once_gets_no_more(string refusal, int most, int refusals)
    {
        await using FakeRegistry registry = new FakeRegistry
        {
            MostAtOnce = most,
            Busy = refusal switch
            {
                "429" => new Fault { Status = 429 },
                "429 with a wait" => new Fault { Status = 429, Headers = [("Retry-After", "1")] },
                "503" => new Fault { Status = 503, Headers = [("Retry-After", "0")] },
                "no answer" => new Fault { NoAnswer = true },
                _ => new Fault { NoAnswer = true, Reset = true },
            },
        }.Start();
        FakeImage image = ManyLayers(registry, 12, 3 * MB);
        // slow enough that the first is not over before the others begin, and all of it before another trial is due
        await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 10 * MB };
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", $"{proxy.Address}/a/b", "--store", store["s"]);

        result.Expect(0);
        SeenRequest[] blobs = [.. registry.Requests.Where(request => request.Path.Contains("/blobs/", StringComparison.Ordinal))];
        Assert.Equal(most, blobs.Max(request => request.AtOnce));
        Assert.InRange(blobs.Count(request => request.AtOnce == 0), 1, refusals + TrialsOnASlowMachine);
        Assert.All(image.Layers, layer => Assert.Equal(layer.Size, new FileInfo(store[$"s/blobs/sha256/{layer.Digest.Hex}"]).Length));
        Assert.Equal(12 * 3 * MB, blobs.Where(request => image.Layers.Any(layer => request.Path.EndsWith(layer.Digest.Hex, StringComparison.Ordinal))).Sum(request => request.AtOnce > 0 ? request.BytesSent : 0));
    }

    // One after 8 s, the next after 16 s more: only a machine that is busy with other things gets there.
    private const int TrialsOnASlowMachine = 2 * 2 * LibrarysTries;

    [Fact]
    public async Task A_host_that_resets_further_connections_is_served_by_the_one_there_is()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = ManyLayers(registry, 12, 1 * MB);
        await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 5 * MB, MostAtOnce = 1 };
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", $"{proxy.Address}/a/b", "--store", store["s"], "--plain-http")).Expect(0);

        Assert.Equal(1, proxy.MostOpen);
        Assert.InRange(proxy.Refused, 1, (6 * LibrarysTries) + TrialsOnASlowMachine);
        Assert.All(image.Layers, layer => Assert.True(File.Exists(store[$"s/blobs/sha256/{layer.Digest.Hex}"])));
    }

    [Theory]
    [InlineData(1, "429")]
    [InlineData(2, "429")]
    [InlineData(2, "503")]
    [InlineData(3, "503")]
    public async Task Large_and_small_blobs_share_what_a_narrow_server_bears(int most, string refusal)
    {
        await using FakeRegistry registry = new FakeRegistry { MostAtOnce = most, Busy = new Fault { Status = int.Parse(refusal, CultureInfo.InvariantCulture) } }.Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 12; i++)
        {
            image.Layer(FakeContent.Generated(i, i is 2 or 5 ? 40 * MB : 1 * MB));
        }

        image.Publish();
        // each connection is slow: a server that bore them would be asked for eight
        await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 10 * MB };
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", $"{proxy.Address}/a/b", "--store", store["s"])).Expect(0);

        SeenRequest[] blobs = [.. registry.Requests.Where(request => request.Path.Contains("/blobs/", StringComparison.Ordinal))];
        Assert.Equal(most, blobs.Max(request => request.AtOnce));
        Assert.InRange(blobs.Count(request => request.AtOnce == 0), 1, 24);
        Assert.All(image.Layers, layer => Assert.True(File.Exists(store[$"s/blobs/sha256/{layer.Digest.Hex}"])));
    }

    [Fact]
    public async Task Two_processes_before_a_narrow_server_do_not_wait_for_each_other_for_ever()
    {
        await using FakeRegistry registry = new FakeRegistry { MostAtOnce = 1, Busy = new Fault { Status = 429 } }.Start();
        FakeImage image = ManyLayers(registry, 8, 2 * MB);
        await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 10 * MB };
        using TemporaryDirectory store = new();
        string[] pull = ["pull", $"{proxy.Address}/a/b", "--store", store["s"], "--retries", "forever"];

        using Process first = Binary.Start(null, Binary.File, pull);
        using Process second = Binary.Start(null, Binary.File, pull);
        BinaryResult[] results = await Task.WhenAll(Binary.FinishAsync(first), Binary.FinishAsync(second));

        Assert.All(results, result => result.Expect(0));
        Assert.All(image.Layers, layer => Assert.Single(
            registry.Requests, request => request.AtOnce > 0 && request.Path.EndsWith(layer.Digest.Hex, StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Where_each_connection_is_limited_eight_blobs_are_fetched_at_once()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        ManyLayers(registry, 60, 1 * MB);
        await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 1 * MB, RoundTrip = TimeSpan.FromMilliseconds(10) };
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", $"{proxy.Address}/a/b", "--store", store["s"])).Expect(0);

        Assert.Equal(8, proxy.MostOpen);
    }

    // Blobs one after the other that are looked at together: the connections they came over were used at once.
    private const int Stretch = 16;

    [Fact]
    public async Task Where_fewer_fill_the_line_fewer_are_fetched_at_once()
    {
        await using FakeRegistry registry = new FakeRegistry { MostAtOnce = 100 }.Start();
        ManyLayers(registry, 150, MB / 2);
        await using ShapingProxy proxy = new(registry.Port) { RateOfAll = 7 * MB };
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", $"{proxy.Address}/a/b", "--store", store["s"])).Expect(0);

        int[] connections = [.. registry.Requests.Where(request => request.AtOnce > 0).Select(request => request.Connection)];
        int[] used = [.. Enumerable.Range(0, connections.Length - Stretch).Select(at => connections.AsSpan(at, Stretch).ToArray().Distinct().Count())];
        TestContext.Current.TestOutputHelper!.WriteLine(string.Join(' ', used));
        Assert.Contains(used, number => number < 4); // as many as a pull begins with
    }

    private static FakeImage ManyLayers(FakeRegistry registry, int count, long size)
    {
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < count; i++)
        {
            image.Layer(FakeContent.Generated(i, size));
        }

        return image.Publish();
    }
}

/// <summary>Alone: what other tests take of the machine's time would be measured as the line's.</summary>
[CollectionDefinition(nameof(ConcurrencyTests), DisableParallelization = true)]
public sealed class ConcurrencyTestsAlone;
