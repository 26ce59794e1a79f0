using NativePull.Layers;

namespace NativePull.Tests.Layers;

/// <summary>Alone in the process: what other tests hold meanwhile would be counted too.</summary>
[CollectionDefinition(nameof(FlatArchiveMemoryTests), DisableParallelization = true)]
[Collection(nameof(FlatArchiveMemoryTests))]
public sealed class FlatArchiveMemoryTests
{
    [Fact]
    public void Two_hundred_thousand_names_take_less_than_forty_megabytes()
    {
        using FlatArchive archive = new(new LayerLimits());
        using FlatArchiveTests.ManyFiles layer = new(200_000);
        long before = GC.GetTotalMemory(forceFullCollection: true);

        archive.Merge(layer, CancellationToken.None);

        long used = GC.GetTotalMemory(forceFullCollection: true) - before;
        Assert.True(used < 40_000_000, $"{used} bytes");
        GC.KeepAlive(archive);
    }
}
