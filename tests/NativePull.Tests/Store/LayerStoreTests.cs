using NativePull.Oci;
using NativePull.Store;

namespace NativePull.Tests.Store;

/// <summary>Extracted layers by chain ID.</summary>
public sealed class LayerStoreTests
{
    private readonly ChainId chain = ChainId.Of([Digest.Of([1]), Digest.Of([2])])[1];

    [Fact]
    public async Task A_layer_is_found_once_it_was_published()
    {
        using StoreHarness store = StoreHarness.Make();
        Assert.False(store.Layers.TryFind(chain, "", out _));
        using StagedDirectory staged = (await store.Layers.BeginAsync(chain, "", StoreHarness.Token))!;
        File.WriteAllText(Path.Combine(staged.Path, "file"), "");
        Assert.False(store.Layers.TryFind(chain, "", out _));

        staged.Publish();

        Assert.True(store.Layers.TryFind(chain, "", out string? path));
        Assert.Equal(Path.Combine(store.Layout.Root, "layers/sha256", chain.Value.Hex), path);
        Assert.True(File.Exists(Path.Combine(path, "file")));
    }

    [Fact]
    public async Task An_empty_layer_is_there_once_it_was_published()
    {
        using StoreHarness store = StoreHarness.Make();
        (await store.Layers.BeginAsync(chain, "", StoreHarness.Token))!.Publish();

        Assert.Null(await store.Layers.BeginAsync(chain, "", StoreHarness.Token));
    }

    [Fact]
    public async Task Eight_at_once_make_a_layer_once_and_all_find_it()
    {
        using StoreHarness store = StoreHarness.Make();
        int made = 0;

        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(
            async () =>
            {
                using StagedDirectory? staged = await store.Layers.BeginAsync(chain, "", StoreHarness.Token);
                if (staged is not null)
                {
                    Interlocked.Increment(ref made);
                    File.WriteAllText(Path.Combine(staged.Path, "file"), "");
                    staged.Publish();
                }

                Assert.True(store.Layers.TryFind(chain, "", out string? path));
                Assert.True(File.Exists(Path.Combine(path, "file")));
            },
            StoreHarness.Token)));

        Assert.Equal(1, made);
        Assert.Single(Directory.GetFileSystemEntries(Path.Combine(store.Layout.Layers, "sha256")));
    }
}
