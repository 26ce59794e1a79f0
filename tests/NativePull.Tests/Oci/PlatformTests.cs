using NativePull.Oci;

namespace NativePull.Tests.Oci;

public sealed class PlatformTests
{
    [Theory]
    [InlineData("linux/amd64", "linux/amd64")]
    [InlineData("Linux/AMD64", "linux/amd64")]
    [InlineData("linux/x86_64", "linux/amd64")]
    [InlineData("linux/x86-64", "linux/amd64")]
    [InlineData("linux/amd64/v3", "linux/amd64/v3")]
    [InlineData("linux/arm64", "linux/arm64")]
    [InlineData("linux/aarch64", "linux/arm64")]
    [InlineData("linux/arm64/v8", "linux/arm64/v8")]
    [InlineData("linux/arm/v6", "linux/arm/v6")]
    [InlineData("linux/arm/7", "linux/arm/v7")]
    [InlineData("linux/armhf", "linux/arm/v7")]
    [InlineData("linux/armel", "linux/arm/v6")]
    [InlineData("linux/i386", "linux/386")]
    [InlineData("linux/riscv64", "linux/riscv64")]
    [InlineData("windows/amd64", "windows/amd64")]
    public void A_platform_is_parsed(string text, string expected)
    {
        Assert.True(Platform.TryParse(text, out Platform? platform));
        Assert.Equal(expected, platform.ToString());
    }

    [Theory]
    [InlineData("")]
    [InlineData("linux")]
    [InlineData("linux/")]
    [InlineData("/amd64")]
    [InlineData("linux/amd64/")]
    [InlineData("linux/amd64/v1/x")]
    [InlineData("linux/amd 64")]
    [InlineData("linux/amd64\n")]
    public void What_is_none_is_refused(string text) => Assert.False(Platform.TryParse(text, out _));

    /// <summary>Wanted; the index's entries in order, "-" for one without a platform; the one to take, "" for none.</summary>
    public static TheoryData<string, string, string> Choices => new()
    {
        { "linux/amd64", "linux/amd64 linux/arm64/v8", "linux/amd64" },
        { "linux/arm64/v8", "linux/amd64 linux/arm64/v8", "linux/arm64/v8" },
        { "linux/arm64/v8", "linux/amd64 linux/arm64", "linux/arm64" },
        { "linux/arm64", "linux/arm64/v8", "linux/arm64/v8" },
        { "linux/arm64/v8", "linux/arm64 linux/arm64/v8", "linux/arm64/v8" },
        { "linux/arm64/v8", "linux/arm64/v9", "" },
        { "linux/arm/v7", "linux/arm/v5 linux/arm/v6 linux/arm/v7", "linux/arm/v7" },
        { "linux/arm/v7", "linux/arm/v6 linux/arm/v5", "linux/arm/v6" },
        { "linux/arm/v7", "linux/arm/v8 linux/arm/v5", "linux/arm/v5" },
        { "linux/arm/v6", "linux/arm/v7", "" },
        { "linux/arm/v6", "linux/arm/v7 linux/arm/v5", "linux/arm/v5" },
        { "linux/arm/v7", "linux/arm", "linux/arm" },
        { "linux/arm", "linux/arm/v6 linux/arm/v7", "linux/arm/v7" },
        { "linux/amd64/v3", "linux/amd64 linux/amd64/v2 linux/amd64/v3 linux/amd64/v4", "linux/amd64/v3" },
        { "linux/amd64/v3", "linux/amd64 linux/amd64/v2 linux/amd64/v4", "linux/amd64/v2" },
        { "linux/amd64/v3", "linux/amd64/v4 linux/amd64", "linux/amd64" },
        { "linux/amd64", "linux/amd64/v2", "" },
        { "linux/amd64", "windows/amd64 linux/arm64 unknown/unknown -", "" },
        { "linux/amd64", "- unknown/unknown linux/amd64", "linux/amd64" },
        { "linux/amd64", "", "" },
        { "linux/386", "linux/amd64", "" },
        { "linux/amd64", "linux/386", "" },
        { "linux/s390x", "linux/s390x", "linux/s390x" },
        { "linux/mips64le", "linux/mips64le/hardfloat", "" },
        { "linux/mips64le/hardfloat", "linux/mips64le/softfloat linux/mips64le/hardfloat", "linux/mips64le/hardfloat" },
        { "windows/amd64", "linux/amd64 windows/amd64", "windows/amd64" },
    };

    [Theory]
    [MemberData(nameof(Choices))]
    public void The_best_that_runs_is_picked_and_never_another_architecture(string wanted, string offered, string expected)
    {
        Assert.True(Platform.TryParse(wanted, out Platform? platform));
        Platform?[] candidates = [.. offered.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(text => Platform.TryParse(text, out Platform? one) ? one : null)];

        int picked = platform.PickFrom(candidates);

        Assert.Equal(expected, picked < 0 ? "" : candidates[picked]!.ToString());
    }

    [Fact]
    public void The_first_of_equals_is_picked()
    {
        var amd64 = new Platform("linux", "amd64", null);

        Assert.Equal(1, amd64.PickFrom([null, amd64, amd64]));
    }

    [Fact]
    public void This_machine_runs_its_architectures_plain_images()
    {
        Platform here = Platform.OfThisMachine;

        Assert.Equal("linux", here.Os);
        Assert.Equal(0, here.PickFrom([here with { Variant = null }]));
        Assert.Equal(0, here.PickFrom([here]));
    }
}
