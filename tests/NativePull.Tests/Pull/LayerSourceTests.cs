using NativePull.Layers;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Store;
using NativePull.Tests.Store;

namespace NativePull.Tests.Pull;

/// <summary>What a reader of a layer is told when its bytes make no sense: that is the download's word first.</summary>
public sealed class LayerSourceTests
{
    // gzip's magic and no method of compression
    private static readonly byte[] Nonsense = [0x1f, 0x8b, 0xff, .. new byte[100]];

    [Fact]
    public async Task Bytes_that_make_no_sense_are_read_anew_where_the_part_was_begun_anew()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(new byte[200]);
        using BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        ingest.Append(Nonsense);
        LayerSource source = Source(blob, ingest, () =>
        {
            ingest.Restart();
            return Task.CompletedTask;
        });

        Assert.Throws<PartRestartedException>(() => Read(source));
    }

    [Theory]
    [InlineData(nameof(PullError.UnsafeEntry))]
    [InlineData(nameof(PullError.Unsupported))]
    public async Task What_wrong_bytes_seem_to_ask_for_is_not_held_against_the_image(string reason)
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(new byte[200]);
        using BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        ingest.Append(new byte[10]);
        LayerSource source = Source(blob, ingest, () =>
        {
            ingest.Restart();
            return Task.CompletedTask;
        });

        Assert.Throws<PartRestartedException>(() => source.Read(
            "test", _ => throw new PullException(Enum.Parse<PullError>(reason), "what a damaged header says"), new LayerLimits(), new CancellationTokenSource(10_000).Token));
    }

    [Fact]
    public async Task Bytes_that_make_no_sense_are_the_layers_own_where_the_download_stands_by_them()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(Nonsense);
        using BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        ingest.Append(Nonsense);
        LayerSource source = Source(blob, ingest, () => Task.CompletedTask);

        Assert.Equal(PullError.Malformed, Assert.Throws<PullException>(() => Read(source)).Reason);
    }

    private static LayerSource Source(Descriptor blob, BlobIngest ingest, Func<Task> completion) =>
        new(new PlannedLayer(blob, blob.Digest, new ChainId(blob.Digest)), ingest.Follow, completion, new Progress<PullEvent>());

    private static void Read(LayerSource source) => source.Read("test", tar => tar.CopyTo(Stream.Null), new LayerLimits(), StoreHarness.Token);
}
