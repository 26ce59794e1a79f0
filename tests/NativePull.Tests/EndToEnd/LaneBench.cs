using System.Diagnostics;
using System.Globalization;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// What several connections bring and cost, for scripts/bench-lanes.sh: the published executable pulls one blob, or many, through a shaped network,
/// over one connection and as it does by itself, in turns. Explicit: it measures, which takes minutes, and asserts nothing about time.
/// </summary>
public sealed class LaneBench
{
    private const long MB = 1_000_000;

    public static TheoryData<string> Networks => [.. Shapes.Keys];

    // Blobs, and bytes of all; bytes per second of each connection and of all; milliseconds of a round trip.
    private static readonly Dictionary<string, (int Blobs, long Size, long Each, long All, int RoundTrip)> Shapes = new()
    {
        ["each connection limited, near"] = (1, 200 * MB, 10 * MB, 0, 1),
        ["each connection limited, far"] = (1, 200 * MB, 10 * MB, 0, 80),
        ["the line limited, near"] = (1, 150 * MB, 0, 25 * MB, 1),
        ["the line limited, far"] = (1, 150 * MB, 0, 25 * MB, 80),
        ["the line limited, fast"] = (1, 600 * MB, 0, 100 * MB, 10),
        ["nothing limited"] = (1, 1000 * MB, 0, 0, 0),
        ["many blobs, each connection limited"] = (100, 200 * MB, 4 * MB, 0, 10),
        ["many blobs, the line limited, near"] = (100, 200 * MB, 0, 20 * MB, 1),
        ["many blobs, the line limited, far"] = (100, 200 * MB, 0, 20 * MB, 80),
        ["many small blobs, far"] = (500, 25 * MB, 0, 20 * MB, 80),
    };

    [Theory(Explicit = true)]
    [MemberData(nameof(Networks))]
    public async Task Several_connections_against_one(string network)
    {
        (int blobs, long size, long each, long all, int roundTrip) = Shapes[network];
        if (!network.Contains(Environment.GetEnvironmentVariable("BENCH_NETWORK") ?? "", StringComparison.Ordinal))
        {
            return;
        }

        int runs = int.Parse(Environment.GetEnvironmentVariable("BENCH_RUNS") ?? "5", CultureInfo.InvariantCulture);
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int blob = 0; blob < blobs; blob++)
        {
            image.Layer(Quick(blob, size / blobs));
        }

        image.Publish();
        string[] alone = blobs == 1 ? ["--connections", "1"] : ["--jobs", "1", "--connections", "1"];
        List<double> one = [];
        List<double> several = [];
        List<long> extraBytes = [];
        for (int run = 0; run < runs; run++)
        {
            foreach (bool isAlone in run % 2 == 0 ? new[] { true, false } : [false, true])
            {
                await using ShapingProxy proxy = new(registry.Port) { RateOfEach = each, RateOfAll = all, RoundTrip = TimeSpan.FromMilliseconds(roundTrip) };
                string address = each + all + roundTrip == 0 ? registry.Address : proxy.Address;
                using TemporaryDirectory store = new();
                long begun = Stopwatch.GetTimestamp();
                BinaryResult result = await Binary.RunAsync(["pull", $"{address}/a/b", "--store", store["s"], "--no-sync", "-q", .. isAlone ? alone : []]);
                (isAlone ? one : several).Add(Stopwatch.GetElapsedTime(begun).TotalSeconds);
                result.Expect(0);
                if (!isAlone && address == proxy.Address)
                {
                    extraBytes.Add(proxy.Passed - size);
                }
            }
        }

        await Console.Out.WriteLineAsync(string.Create(
            CultureInfo.InvariantCulture,
            $"{{\"network\":\"{network}\",\"bytes\":{size},\"one\":[{Text(one)}],\"several\":[{Text(several)}],\"extraBytes\":[{string.Join(',', extraBytes)}],\"ratio\":{Median(one) / Median(several):0.000}}}"));
    }

    /// <summary>Requests, connections and bytes from the server, headers among them, beyond the blobs' own: of pulls that find more and more, or that are cut.</summary>
    [Theory(Explicit = true)]
    [InlineData("over one connection", 0, 15, "--connections", "1")]
    [InlineData("over several, each limited", 8, 15)]
    public async Task What_pulls_ask_and_transfer(string how, int rate, int cutAfter, params string[] options)
    {
        if (!how.Contains(Environment.GetEnvironmentVariable("BENCH_NETWORK") ?? "", StringComparison.Ordinal))
        {
            return;
        }

        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        long[] sizes = [52 * MB, 14 * MB, 7_000, 101 * MB];
        Array.ForEach(sizes, size => image.Layer(Quick((int)(size % 1_000_001), size)));
        image.Publish();
        using TemporaryDirectory store = new();
        await using ShapingProxy whole = new(registry.Port) { RateOfEach = rate * MB };
        await using ShapingProxy cut = new(registry.Port) { RateOfEach = rate * MB, ResetAfter = cutAfter * MB };
        foreach ((string what, ShapingProxy proxy, string reference, string at) in new[]
        {
            ("cold", whole, "a/b", "s"), ("again by tag", whole, "a/b", "s"), ("again by digest", whole, $"a/b@{image.Digest}", "s"), ($"cold, each connection cut after {cutAfter} MB", cut, "a/b", "t"),
        })
        {
            (long passed, int made, int asked) = (proxy.Passed, proxy.Made, registry.Requests.Count);
            (await Binary.RunAsync(["pull", $"{proxy.Address}/{reference}", "--store", store[at], "--no-sync", "-q", .. options])).Expect(0);
            long bytes = proxy.Passed - passed;
            await Console.Out.WriteLineAsync(string.Create(
                CultureInfo.InvariantCulture,
                $"{{\"network\":\"{how}\",\"pull\":\"{what}\",\"requests\":{registry.Requests.Count - asked},\"connections\":{proxy.Made - made},\"bytes\":{bytes},\"beyondBlobs\":{bytes - (what.StartsWith("cold", StringComparison.Ordinal) ? sizes.Sum() : 0)}}}"));
        }
    }

    // A pattern is enough for hashing and sending, and costs the server nothing beside the copy.
    private static FakeContent Quick(int seed, long size)
    {
        byte[] pattern = FakeContent.Generated(seed, Math.Min(1_000_003, size)).ToArray();
        return new FakeContent(size, (offset, into) =>
        {
            for (int done = 0; done < into.Length;)
            {
                int from = (int)((offset + done) % pattern.Length);
                int count = Math.Min(into.Length - done, pattern.Length - from);
                pattern.AsSpan(from, count).CopyTo(into[done..]);
                done += count;
            }
        });
    }

    private static string Text(List<double> seconds) => string.Join(',', seconds.Select(one => one.ToString("0.00", CultureInfo.InvariantCulture)));

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
