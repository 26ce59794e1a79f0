using NativePull.Layers;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Layers;

/// <summary>Alone in the process: what other tests hold meanwhile would be counted too.</summary>
[CollectionDefinition(nameof(FlatArchiveMemoryTests), DisableParallelization = true)]
[Collection(nameof(FlatArchiveMemoryTests))]
public sealed class FlatArchiveMemoryTests
{
    [Fact]
    public void Two_hundred_thousand_names_take_less_than_three_megabytes_where_only_two_are_allowed()
    {
        using TemporaryDirectory scratch = new();
        using FlatArchive archive = new(new LayerLimits { Memory = 2 << 20 }, null, () => scratch.Path);
        using FlatArchiveTests.ManyFiles layer = new(200_000);
        long before = GC.GetTotalMemory(forceFullCollection: true);

        archive.Merge(layer, CancellationToken.None);

        long used = GC.GetTotalMemory(forceFullCollection: true) - before;
        Assert.True(used < 3_000_000, $"{used} bytes");
        Assert.Empty(scratch.Names);
        GC.KeepAlive(archive);
    }
}
