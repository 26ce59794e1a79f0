using NativePull.Oci;
using NativePull.Store;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Store;

/// <summary>Blobs by digest, and the lock on their parts.</summary>
public sealed class BlobStoreTests
{
    private readonly byte[] content = [.. Enumerable.Range(0, 5000).Select(i => (byte)i)];

    [Fact]
    public async Task A_blob_that_is_here_is_not_begun_again()
    {
        using StoreHarness store = StoreHarness.Make();
        await store.Blobs.PutAsync(StoreHarness.Describe(content), content, StoreHarness.Token);

        Assert.Null(await store.Blobs.BeginAsync(StoreHarness.Describe(content), StoreHarness.Token));
        Assert.Empty(Directory.GetFileSystemEntries(store.Layout.Parts));
    }

    [Fact]
    public async Task A_blob_of_another_length_than_promised_is_not_here()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        await store.Blobs.PutAsync(blob, content, StoreHarness.Token);
        // what a power cut may leave of a blob that was published without flushing
        File.WriteAllBytes(store.Layout.Blob(blob.Digest), []);

        Assert.False(store.Blobs.Contains(blob));
        await store.Blobs.PutAsync(blob, content, StoreHarness.Token);

        Assert.Equal(content, store.Blobs.TryRead(blob.Digest, 10_000));
    }

    [Fact]
    public async Task Reading_hashes_again_and_putting_replaces_what_was_damaged()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        await store.Blobs.PutAsync(blob, content, StoreHarness.Token);
        File.WriteAllBytes(store.Layout.Blob(blob.Digest), new byte[content.Length]);

        PullException damaged = Assert.Throws<PullException>(() => store.Blobs.TryRead(blob.Digest, 10_000));
        await store.Blobs.PutAsync(blob, content, StoreHarness.Token);

        Assert.Equal(PullError.StoreDamaged, damaged.Reason);
        Assert.Equal(content, store.Blobs.TryRead(blob.Digest, 10_000));
    }

    [Fact]
    public async Task Reading_has_a_limit_and_an_absent_blob_is_null()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        Assert.Null(store.Blobs.TryRead(blob.Digest, 10_000));
        await store.Blobs.PutAsync(blob, content, StoreHarness.Token);

        Assert.Equal(PullError.LimitPassed, Assert.Throws<PullException>(() => store.Blobs.TryRead(blob.Digest, 4999)).Reason);
    }

    [Fact]
    public async Task A_second_ingest_waits_for_the_first_and_then_finds_the_blob()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        BlobIngest first = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        Task<BlobIngest?> second = store.Blobs.BeginAsync(blob, StoreHarness.Token);
        first.Append(content);
        Assert.False(second.IsCompleted);

        first.Commit();
        first.Dispose();

        Assert.Null(await second);
        Assert.Empty(Directory.GetFileSystemEntries(store.Layout.Parts));
    }

    [Fact]
    public async Task A_second_ingest_goes_on_where_the_first_gave_up_even_while_a_follower_still_has_the_part_open()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        BlobIngest first = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        using Stream follower = first.Follow(StoreHarness.Token);
        first.Append(content.AsSpan(0, 1000));
        Task<BlobIngest?> second = store.Blobs.BeginAsync(blob, StoreHarness.Token);

        first.Dispose();

        using BlobIngest? taken = await second;
        Assert.Equal(1000, taken!.Offset);
    }

    [Fact]
    public async Task Waiting_ends_with_locked_when_the_other_process_makes_no_progress()
    {
        FakeTime clock = new();
        using StoreHarness store = new() { Options = new StoreOptions { Clock = clock, LockTimeout = TimeSpan.FromMinutes(2), LockPoll = TimeSpan.FromSeconds(1) } };
        Directory.CreateDirectory(store.Layout.Parts);
        Descriptor blob = StoreHarness.Describe(content);
        using BlobIngest first = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;

        PullException failure = await Assert.ThrowsAsync<PullException>(() => store.Blobs.BeginAsync(blob, StoreHarness.Token));

        Assert.Equal(PullError.Locked, failure.Reason);
        Assert.InRange(clock.Waits.Count, 120, 122);
    }

    [Fact]
    public async Task A_holder_that_shows_that_it_lives_is_waited_for()
    {
        FakeTime clock = new();
        using StoreHarness store = new() { Options = new StoreOptions { Clock = clock, LockTimeout = TimeSpan.FromMinutes(2), LockPoll = TimeSpan.FromSeconds(1) } };
        Directory.CreateDirectory(store.Layout.Parts);
        Descriptor blob = StoreHarness.Describe(content);
        using BlobIngest first = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        int signs = 10;

        await Assert.ThrowsAsync<PullException>(() => store.Blobs.BeginAsync(blob, StoreHarness.Token, waits: () =>
        {
            if (clock.Waits.Count % 100 == 99 && signs-- > 0)
            {
                first.Touch();
            }
        }));

        Assert.InRange(clock.Waits.Count, 1000, 1122);
    }

    [Fact]
    public async Task Eight_at_once_write_one_blob_once()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        int written = 0;

        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(
            async () =>
            {
                using BlobIngest? ingest = await store.Blobs.BeginAsync(blob, StoreHarness.Token);
                if (ingest is not null)
                {
                    Interlocked.Increment(ref written);
                    ingest.Append(content);
                    ingest.Commit();
                }
            },
            StoreHarness.Token)));

        Assert.Equal(1, written);
        Assert.Equal(content, File.ReadAllBytes(store.Layout.Blob(blob.Digest)));
    }
}
