using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using NativePull.Oci;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>A store whose file system is full in the middle of a pull: what is told, what is kept, and what is transferred when there is room.</summary>
public sealed partial class FullDiskTests
{
    private const long MB = 1_000_000;

    /// <summary>Blobs, bytes of each, and the most connections for one.</summary>
    public static TheoryData<int, long, int> Pulls => new()
    {
        { 1, 60 * MB, 1 },
        { 1, 60 * MB, 8 },
        { 8, 8 * MB, 1 },
    };

    [Fact]
    public async Task Where_the_names_of_an_image_find_no_room_it_is_said_and_nothing_is_left()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        TarBuilder tar = new();
        for (int i = 0; i < 30_000; i++)
        {
            tar.File(string.Create(CultureInfo.InvariantCulture, $"d/{i}"));
        }

        byte[] plain = tar.End().ToArray();
        using LayerRun run = new(new LayoutLayer(TarBuilder.GZip(plain), Digest.Of(plain), LayoutLayer.Tar + "+gzip"));
        using TemporaryDirectory scratch = new();
        Directory.CreateDirectory(scratch["s"]);
        (await Binary.ProgramAsync("mount", "-t", "tmpfs", "-o", "size=1m", "none", scratch["s"])).Expect(0);
        try
        {
            BinaryResult full = await run.MeasureAsync("--tar", scratch["s/x"], "--limit", "memory=1");

            Assert.Contains("write a file for the names that memory has no room for: No space left on device", full.Expect(8).Error, StringComparison.Ordinal);
            Assert.Empty(Directory.GetFileSystemEntries(scratch["s"]));
        }
        finally
        {
            await Binary.UnmountAsync(scratch["s"]);
        }
    }

    [Theory]
    [MemberData(nameof(Pulls))]
    public async Task What_is_here_when_the_disk_is_full_is_not_transferred_again(int blobs, long size, int connections)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < blobs; i++)
        {
            image.Layer(FakeContent.Generated(i, size));
        }

        image.Publish();
        // each connection is slow, so that a second one is worth while long before the disk is full
        await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 4 * MB };
        using TemporaryDirectory scratch = new();
        Directory.CreateDirectory(scratch["s"]);
        (await Binary.ProgramAsync("mount", "-t", "tmpfs", "-o", "size=30m", "none", scratch["s"])).Expect(0);
        try
        {
            string[] pull = ["pull", $"{proxy.Address}/a/b", "--store", scratch["s"], "--json", "--connections", connections.ToString(CultureInfo.InvariantCulture)];

            BinaryResult full = (await Binary.RunAsync(pull)).Expect(8);
            (long sent, int made) = (proxy.Passed, proxy.Made);
            (await Binary.ProgramAsync("mount", "-o", "remount,size=100m", scratch["s"])).Expect(0);
            BinaryResult healed = (await Binary.RunAsync(pull)).Expect(0);

            Assert.Contains("\"reason\":\"no-space\"", full.Out, StringComparison.Ordinal);
            Match said = Sentence().Match(full.Error);
            Assert.True(said.Success, full.Error);
            Assert.Equal(scratch["s/parts"], said.Groups["place"].Value);
            using JsonDocument json = JsonDocument.Parse(healed.Out);
            long again = json.RootElement.GetProperty("bytes").GetProperty("downloaded").GetInt64();
            Assert.InRange(sent, 20 * MB, (30 << 20) + InHand(made));
            // the other connections went on for as long as it took to tell them
            Assert.InRange(again, 1, blobs == 1 ? long.Parse(said.Groups["missing"].Value, CultureInfo.InvariantCulture) : blobs * size);
            // each connection had a buffer in its hands that found no room
            Assert.InRange(sent + again, blobs * size, (blobs * size) + InHand(made));
            Assert.True(connections == 1 || made > 2, "one connection was all");
        }
        finally
        {
            await Binary.UnmountAsync(scratch["s"]);
        }
    }

    // Bytes that were sent to a process that ended: what each connection had read, and what was on its way.
    private static long InHand(int connections) => connections * ((128 * 1024) + ShapingProxy.InFlight);

    [GeneratedRegex("nativepull: (?<place>[^:]*): no space left on its file system: (?<missing>[0-9]+) bytes of blob sha256:[0-9a-f]{64} are still to come, and [0-9]+ are free; what is here is kept\n$")]
    private static partial Regex Sentence();
}
