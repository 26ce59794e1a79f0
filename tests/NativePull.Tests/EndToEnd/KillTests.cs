using System.Diagnostics;
using System.Globalization;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// kill -9 at random moments, over one connection and over several: what was transferred is not transferred again, but for what each connection
/// had in flight. NATIVEPULL_TEST_KILLS says how often; its default keeps the suite quick.
/// </summary>
public sealed class KillTests
{
    private const long Size = 150_000_000;

    // The reader's buffer, and for what the kernel keeps of a connection beside the proxy's own
    private const long Buffer = 2 * 128 * 1024;

    [Theory]
    [InlineData(1)]
    [InlineData(8)]
    public async Task Nothing_that_was_written_is_transferred_again(int lanes)
    {
        int kills = int.Parse(Environment.GetEnvironmentVariable("NATIVEPULL_TEST_KILLS") ?? "20", CultureInfo.InvariantCulture);
        kills = lanes == 1 ? kills : (kills + 1) / 2; // these take longer, until there are several connections
        int seed = Environment.TickCount;
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        Random random = new(seed);
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(seed, Size);
        new FakeImage(registry, "a/b").Layer(content).Publish();
        int done = 0;
        while (done < kills)
        {
            await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 10_000_000 };
            using TemporaryDirectory store = new();
            string[] pull = ["pull", $"{proxy.Address}/a/b", "--store", store["s"], "--json", "--connections", lanes.ToString(CultureInfo.InvariantCulture)];
            int killed = 0;
            for (bool ended = false; !ended && done < kills;)
            {
                using Process process = Binary.Start(null, Binary.File, pull);
                using var moment = new CancellationTokenSource(random.Next(50, lanes == 1 ? 1200 : 4000));
                await process.WaitForExitAsync(moment.Token).ContinueWith(static _ => { }, TaskScheduler.Default);
                ended = process.HasExited;
                process.Kill();
                await Binary.FinishAsync(process);
                killed += ended ? 0 : 1;
                done += ended ? 0 : 1;
            }

            (await Binary.RunAsync(pull)).Expect(0);

            // a document and the headers are small beside one buffer
            Assert.InRange(proxy.Passed, Size, Size + ((Buffer + ShapingProxy.InFlight) * proxy.Made));
            TestContext.Current.TestOutputHelper?.WriteLine($"{killed} kills, {proxy.Made} connections: {proxy.Passed - Size} bytes more than the {Size} of the blob");
            await AssertWholeAsync(store[$"s/blobs/sha256/{content.Digest.Hex}"], content.Digest);
            Assert.Empty(Directory.GetFileSystemEntries(store["s/parts"]));
        }
    }

    private static async Task AssertWholeAsync(string blob, Digest expected)
    {
        await using FileStream file = File.OpenRead(blob);
        Assert.Equal(expected.ToString(), "sha256:" + Convert.ToHexStringLower(await System.Security.Cryptography.SHA256.HashDataAsync(file, TestContext.Current.CancellationToken)));
    }
}
