using NativePull.Cli;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Cli;

public sealed class OverlayOptionsTests
{
    private static readonly string Long = "/" + new string('x', 120);

    [Fact]
    public void Short_lists_stay_lists_and_long_ones_become_options_where_the_kernel_knows_them()
    {
        string[] longPaths = [Long + "/1", Long + "/2", Long + "/3"];

        Assert.Equal("lowerdir=/b:/a", OverlayOptions.Lower(["/a", "/b"], new Version(6, 18)));
        Assert.Equal($"lowerdir={Long}/2:{Long}/1", OverlayOptions.Lower(longPaths[..2], new Version(6, 18)));
        Assert.Equal($"lowerdir+={Long}/3,lowerdir+={Long}/2,lowerdir+={Long}/1", OverlayOptions.Lower(longPaths, new Version(6, 8, 0)));
        Assert.Equal($"lowerdir={Long}/3:{Long}/2:{Long}/1", OverlayOptions.Lower(longPaths, new Version(6, 7, 12)));
    }

    [Fact]
    public void The_longest_list_has_255_bytes()
    {
        string most = "/" + new string('é', 125) + "xx"; // 253 bytes

        Assert.Equal($"lowerdir={most}:/", OverlayOptions.Lower(["/", most], new Version(6, 18)));
        Assert.Equal($"lowerdir+={most},lowerdir+=/a", OverlayOptions.Lower(["/a", most], new Version(6, 18)));
    }

    [Theory]
    [InlineData("a:b", @"a\:b")]
    [InlineData(@"a\b", @"a\\b")]
    [InlineData("a,b", "a,b")]
    [InlineData("a\"b", "a\"b")]
    public void A_path_that_needs_escapes_stays_in_a_list(string name, string escaped) =>
        Assert.Equal($"lowerdir={Long}/{escaped}:{Long}/2:{Long}/1", OverlayOptions.Lower([Long + "/1", Long + "/2", $"{Long}/{name}"], new Version(6, 18)));

    [Theory]
    [InlineData(2, 8)]
    [InlineData(20, 40)]
    public async Task The_kernel_of_this_machine_mounts_them(int count, int length)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "a mount needs root");
        using TemporaryDirectory work = new();
        List<string> layers = [];
        for (int layer = 0; layer < count; layer++)
        {
            layers.Add(Directory.CreateDirectory(work[$"{new string('d', length)}{layer}"]).FullName);
            await File.WriteAllTextAsync(Path.Combine(layers[layer], "top"), $"{layer}", TestContext.Current.CancellationToken);
        }

        Directory.CreateDirectory(work["m"]);
        (await Binary.ProgramAsync("mount", "-t", "overlay", "overlay", "-o", OverlayOptions.Lower(layers, Environment.OSVersion.Version), work["m"])).Expect(0);
        try
        {
            Assert.Equal($"{count - 1}", await File.ReadAllTextAsync(work["m/top"], TestContext.Current.CancellationToken));
        }
        finally
        {
            await Binary.UnmountAsync(work["m"]);
        }
    }
}
