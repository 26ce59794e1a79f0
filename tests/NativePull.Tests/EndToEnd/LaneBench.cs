using System.Diagnostics;
using System.Globalization;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// What several connections bring and cost, for scripts/bench-lanes.sh: the published executable pulls one blob through a shaped network, over
/// one connection and as it does by itself, in turns. Explicit: it measures, which takes minutes, and asserts nothing about time.
/// </summary>
public sealed class LaneBench
{
    private const long MB = 1_000_000;

    public static TheoryData<string> Networks => [.. Shapes.Keys];

    // Bytes of the blob; bytes per second of each connection and of all; milliseconds of a round trip.
    private static readonly Dictionary<string, (long Size, long Each, long All, int RoundTrip)> Shapes = new()
    {
        ["each connection limited, near"] = (200 * MB, 10 * MB, 0, 1),
        ["each connection limited, far"] = (200 * MB, 10 * MB, 0, 80),
        ["the line limited, near"] = (150 * MB, 0, 25 * MB, 1),
        ["the line limited, far"] = (150 * MB, 0, 25 * MB, 80),
        ["the line limited, fast"] = (600 * MB, 0, 100 * MB, 10),
        ["nothing limited"] = (1000 * MB, 0, 0, 0),
    };

    [Theory(Explicit = true)]
    [MemberData(nameof(Networks))]
    public async Task Several_connections_against_one(string network)
    {
        (long size, long each, long all, int roundTrip) = Shapes[network];
        if (!network.Contains(Environment.GetEnvironmentVariable("BENCH_NETWORK") ?? "", StringComparison.Ordinal))
        {
            return;
        }

        int runs = int.Parse(Environment.GetEnvironmentVariable("BENCH_RUNS") ?? "5", CultureInfo.InvariantCulture);
        await using FakeRegistry registry = new FakeRegistry().Start();
        new FakeImage(registry, "a/b").Layer(Quick(size)).Publish();
        List<double> one = [];
        List<double> several = [];
        List<long> extraBytes = [];
        for (int run = 0; run < runs; run++)
        {
            foreach (bool alone in run % 2 == 0 ? new[] { true, false } : [false, true])
            {
                await using ShapingProxy proxy = new(registry.Port) { RateOfEach = each, RateOfAll = all, RoundTrip = TimeSpan.FromMilliseconds(roundTrip) };
                string address = each + all + roundTrip == 0 ? registry.Address : proxy.Address;
                using TemporaryDirectory store = new();
                long begun = Stopwatch.GetTimestamp();
                BinaryResult result = await Binary.RunAsync(["pull", $"{address}/a/b", "--store", store["s"], "--no-sync", "-q", .. alone ? ["--connections", "1"] : Array.Empty<string>()]);
                (alone ? one : several).Add(Stopwatch.GetElapsedTime(begun).TotalSeconds);
                result.Expect(0);
                if (!alone && address == proxy.Address)
                {
                    extraBytes.Add(proxy.Passed - size);
                }
            }
        }

        await Console.Out.WriteLineAsync(string.Create(
            CultureInfo.InvariantCulture,
            $"{{\"network\":\"{network}\",\"bytes\":{size},\"one\":[{Text(one)}],\"several\":[{Text(several)}],\"extraBytes\":[{string.Join(',', extraBytes)}],\"ratio\":{Median(one) / Median(several):0.000}}}"));
    }

    // A pattern is enough for hashing and sending, and costs the server nothing beside the copy.
    private static FakeContent Quick(long size)
    {
        byte[] pattern = FakeContent.Generated(1, 1_000_003).ToArray();
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
