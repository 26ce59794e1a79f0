using NativePull.Cli;
using NativePull.Layers;

namespace NativePull.Tests.Cli;

/// <summary>The spelling of --uid-map and --gid-map.</summary>
public sealed class RangeTests
{
    [Fact]
    public void Ranges_are_container_host_count_as_for_newuidmap()
    {
        Assert.True(Values.TryParseRanges(["0:1000:1", "1:100000:65535", "65536:4294967294:1"], out IReadOnlyList<IdRange> ranges, out _));

        Assert.Equal([new IdRange(0, 1000, 1), new IdRange(1, 100000, 65535), new IdRange(65536, 4294967294, 1)], ranges);
    }

    [Fact]
    public void A_range_may_be_all_numbers_as_the_kernel_writes_it_of_the_first_namespace()
    {
        Assert.True(Values.TryParseRanges(["0:0:4294967295"], out IReadOnlyList<IdRange> ranges, out string? problem), problem);

        Assert.Equal([new IdRange(0, 0, uint.MaxValue)], ranges);
    }

    [Theory]
    [InlineData("nothing", "")]
    [InlineData("two numbers", "0:1")]
    [InlineData("four numbers", "0:1:2:3")]
    [InlineData("a sign", "-1:0:1")]
    [InlineData("a blank", "0: 1:1")]
    [InlineData("no numbers", "a:b:c")]
    [InlineData("an empty range", "0:0:0")]
    [InlineData("the number that is nobody, in the image", "4294967295:0:1")]
    [InlineData("a range that reaches the number that is nobody", "0:4294967290:6")]
    [InlineData("more than 32 bits", "0:0:4294967296")]
    [InlineData("an overlap in the image", "0:1000:10", "9:5000:1")]
    [InlineData("an overlap on the host", "0:1000:10", "100:1009:1")]
    [InlineData("the same range again", "0:1000:10", "0:1000:10")]
    public void What_is_no_range_or_overlaps_another_is_refused(string what, params string[] texts)
    {
        Assert.False(Values.TryParseRanges(texts, out _, out string? problem), what);
        Assert.Contains($"\"{texts[^1]}\"", problem, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Keep", "keep")]
    [InlineData("OverrideStat", "override-stat")]
    [InlineData("OverlayUser", "overlay-user")]
    public void Words_of_the_command_line_are_lower_case_with_dashes(string name, string word) => Assert.Equal(word, Values.Kebab(name));
}
