using NativePull.Oci;
using NativePull.Store;

namespace NativePull.Tests.Store;

/// <summary>A blob being written: what is kept, what is published, what a follower sees.</summary>
public sealed class BlobIngestTests
{
    private readonly byte[] content = [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * 31))];

    [Fact]
    public async Task A_commit_publishes_the_blob_whole_and_leaves_no_part()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        using (BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!)
        {
            ingest.Append(content.AsSpan(0, 40_000));
            ingest.Append(content.AsSpan(40_000));
            Assert.False(File.Exists(store.Layout.Blob(blob.Digest)));
            ingest.Commit();
        }

        Assert.Equal(content, File.ReadAllBytes(store.Layout.Blob(blob.Digest)));
        Assert.Empty(Directory.GetFileSystemEntries(store.Layout.Parts));
    }

    [Fact]
    public async Task A_sha512_blob_has_a_directory_of_its_own()
    {
        using StoreHarness store = StoreHarness.Make();
        Assert.True(Digest.TryParse("sha512:" + Convert.ToHexStringLower(System.Security.Cryptography.SHA512.HashData(content)), out Digest digest));

        await store.Blobs.PutAsync(new Descriptor("x/y", digest, content.Length), content, StoreHarness.Token);

        Assert.Equal(content, File.ReadAllBytes(Path.Combine(store.Layout.Root, "blobs/sha512", digest.Hex)));
    }

    [Fact]
    public async Task What_was_appended_is_kept_and_the_next_ingest_goes_on_there()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        using (BlobIngest first = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!)
        {
            first.Append(content.AsSpan(0, 70_001));
        }

        using BlobIngest second = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        Assert.Equal(70_001, second.Offset);
        second.Append(content.AsSpan(70_001));
        second.Commit();

        Assert.True(store.Blobs.Contains(blob));
    }

    [Fact]
    public async Task A_part_that_nothing_was_appended_to_leaves_no_file()
    {
        using StoreHarness store = StoreHarness.Make();

        (await store.Blobs.BeginAsync(StoreHarness.Describe(content), StoreHarness.Token))!.Dispose();

        Assert.Empty(Directory.GetFileSystemEntries(store.Layout.Parts));
    }

    [Fact]
    public async Task A_start_that_is_cancelled_before_the_kept_bytes_were_hashed_keeps_them()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        File.WriteAllBytes(store.Layout.Part(blob.Digest), content[..50_000]);

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => store.Blobs.BeginAsync(blob, new CancellationToken(canceled: true)));

        Assert.Equal(50_000, new FileInfo(store.Layout.Part(blob.Digest)).Length);
    }

    [Fact]
    public async Task A_part_longer_than_its_blob_is_begun_anew()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        File.WriteAllBytes(store.Layout.Part(blob.Digest), new byte[content.Length + 1]);

        using BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;

        Assert.Equal(0, ingest.Offset);
    }

    [Fact]
    public async Task A_wrong_digest_publishes_nothing_and_deletes_the_bytes()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        using (BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!)
        {
            ingest.Append(new byte[content.Length]);

            PullException failure = Assert.Throws<PullException>(ingest.Commit);

            Assert.Equal(PullError.DigestMismatch, failure.Reason);
            Assert.Contains(blob.Digest.ToString(), failure.Message, StringComparison.Ordinal);
        }

        Assert.Empty(Directory.GetFileSystemEntries(store.Layout.Parts));
        Assert.False(store.Blobs.Contains(blob));
    }

    [Fact]
    public async Task After_a_wrong_digest_the_same_ingest_can_be_filled_again()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        using BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        ingest.Append(new byte[content.Length]);
        Assert.Throws<PullException>(ingest.Commit);

        ingest.Append(content);
        ingest.Commit();

        Assert.Equal(content, store.Blobs.TryRead(blob.Digest, content.Length));
    }

    [Fact]
    public async Task A_committed_blob_can_be_read_before_its_ingest_gives_its_lock_back()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        using BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        ingest.Append(content);
        ingest.Commit();

        using Stream read = store.Blobs.Open(blob.Digest);

        Assert.Equal(content, ReadAll(read));
        Assert.Equal(content, store.Blobs.TryRead(blob.Digest, content.Length));
    }

    [Fact]
    public async Task Too_many_bytes_are_refused_before_they_are_written_and_too_few_at_the_commit()
    {
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = StoreHarness.Describe(content);
        using BlobIngest ingest = (await store.Blobs.BeginAsync(blob, StoreHarness.Token))!;
        ingest.Append(content.AsSpan(1));

        PullException tooMany = Assert.Throws<PullException>(() => ingest.Append([1, 2]));
        PullException tooFew = Assert.Throws<PullException>(ingest.Commit);

        Assert.Equal(PullError.SizeMismatch, tooMany.Reason);
        Assert.Equal(PullError.SizeMismatch, tooFew.Reason);
        Assert.False(store.Blobs.Contains(blob));
    }

    [Fact]
    public async Task A_follower_sees_the_bytes_as_they_come_and_the_end_at_the_commit()
    {
        using StoreHarness store = StoreHarness.Make();
        using BlobIngest ingest = (await store.Blobs.BeginAsync(StoreHarness.Describe(content), StoreHarness.Token))!;
        ingest.Append(content.AsSpan(0, 10));
        using Stream follower = ingest.Follow(StoreHarness.Token);
        byte[] buffer = new byte[100];
        Assert.Equal(10, follower.Read(buffer));
        Task<byte[]> rest = Task.Factory.StartNew(() => ReadAll(follower), StoreHarness.Token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        for (int at = 10; at < content.Length; at += 33_330)
        {
            ingest.Append(content.AsSpan(at, Math.Min(33_330, content.Length - at)));
            Assert.False(rest.IsCompleted);
        }

        ingest.Commit();

        Assert.Equal(content[10..], await rest);
    }

    [Fact]
    public async Task A_follower_outlives_the_ingest_of_a_committed_blob()
    {
        using StoreHarness store = StoreHarness.Make();
        BlobIngest ingest = (await store.Blobs.BeginAsync(StoreHarness.Describe(content), StoreHarness.Token))!;
        using Stream follower = ingest.Follow(StoreHarness.Token);
        ingest.Append(content);
        ingest.Commit();
        ingest.Dispose();

        Assert.Equal(content, ReadAll(follower));
    }

    [Fact]
    public async Task A_restart_tells_followers_to_begin_again()
    {
        using StoreHarness store = StoreHarness.Make();
        using BlobIngest ingest = (await store.Blobs.BeginAsync(StoreHarness.Describe(content), StoreHarness.Token))!;
        ingest.Append(content.AsSpan(0, 10));
        using Stream before = ingest.Follow(StoreHarness.Token);
        Assert.Equal(10, before.Read(new byte[10]));
        Task waiting = OnOwnThread(() => before.ReadExactly(new byte[10]));

        ingest.Restart();
        using Stream after = ingest.Follow(StoreHarness.Token);
        ingest.Append(content);
        ingest.Commit();

        await Assert.ThrowsAsync<PartRestartedException>(() => waiting);
        Assert.Throws<PartRestartedException>(() => before.Read(new byte[10]));
        Assert.Equal(content, ReadAll(after));
    }

    [Fact]
    public async Task Giving_up_wakes_followers_that_wait()
    {
        using StoreHarness store = StoreHarness.Make();
        BlobIngest ingest = (await store.Blobs.BeginAsync(StoreHarness.Describe(content), StoreHarness.Token))!;
        using Stream follower = ingest.Follow(StoreHarness.Token);
        Task waiting = OnOwnThread(() => follower.ReadExactly(new byte[10]));

        ingest.Dispose();

        await Assert.ThrowsAsync<OperationCanceledException>(() => waiting);
    }

    [Fact]
    public async Task Cancelling_wakes_a_follower_that_waits()
    {
        using StoreHarness store = StoreHarness.Make();
        using CancellationTokenSource source = CancellationTokenSource.CreateLinkedTokenSource(StoreHarness.Token);
        using BlobIngest ingest = (await store.Blobs.BeginAsync(StoreHarness.Describe(content), StoreHarness.Token))!;
        using Stream follower = ingest.Follow(source.Token);
        Task waiting = OnOwnThread(() => follower.ReadExactly(new byte[10]));

        await source.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
    }

    private static Task OnOwnThread(Action work) => Task.Factory.StartNew(work, StoreHarness.Token, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private static byte[] ReadAll(Stream stream)
    {
        using MemoryStream all = new();
        stream.CopyTo(all);
        return all.ToArray();
    }
}
