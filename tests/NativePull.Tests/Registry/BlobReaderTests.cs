using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

public sealed class BlobReaderTests
{
    private const long Size = 200_000;

    /// <summary>Every way to lose a connection or to misread a range that still ends with the right bytes.</summary>
    public static TheoryData<string> Survivable => [.. Quirks.Keys];

    private static readonly Dictionary<string, Fault[]> Quirks = new()
    {
        ["nothing wrong"] = [],
        ["in chunks"] = [new Fault { Chunked = true }],
        ["in chunks, with a length that says nothing"] = [new Fault { Chunked = true, Headers = [("Content-Length", "7")] }],
        ["cut at the first byte"] = [new Fault { CutAfter = 0 }],
        ["cut after one byte"] = [new Fault { CutAfter = 1 }],
        ["cut before the last byte"] = [new Fault { CutAfter = Size - 1 }],
        ["cut three times"] = [new Fault { CutAfter = 50_000 }, new Fault { CutAfter = 50_000 }, new Fault { CutAfter = 50_000 }],
        ["cut in chunks"] = [new Fault { CutAfter = 70_000, Chunked = true }],
        ["chunks that end too soon"] = [new Fault { MissingBytes = 1_000 }],
        ["reset"] = [new Fault { CutAfter = 100_000, Reset = true }],
        ["no answer"] = [new Fault { NoAnswer = true }],
        ["503"] = [new Fault { Status = 503 }],
        ["an error body of the blob's length is not the blob"] = [new Fault { Status = 500, Body = new string('x', (int)Size) }],
        ["200 instead of 206"] = [new Fault { CutAfter = 60_000 }, new Fault { IgnoreRange = true }],
        ["200 instead of 206, cut while skipping"] = [new Fault { CutAfter = 60_000 }, new Fault { IgnoreRange = true, CutAfter = 30_000 }],
        ["200 instead of 206, cut after skipping"] = [new Fault { CutAfter = 60_000 }, new Fault { IgnoreRange = true, CutAfter = 90_000 }],
        ["206 of another beginning"] = [new Fault { CutAfter = 60_000 }, new Fault { RangeFrom = 59_999 }],
        ["206 from the start"] = [new Fault { CutAfter = 60_000 }, new Fault { RangeFrom = 0 }],
        ["206 of another total"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentRange = "bytes 60000-199999/200001" }],
        ["206 of another end"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentRange = "bytes 60000-100000/200000" }],
        ["206 that ends before the end"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentRange = "bytes 60000-100000/200000", ContentLength = 40_001, CutAfter = 40_001 }],
        ["206 in another unit"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentRange = "lines 60000-199999/200000" }],
        ["206 without Content-Range"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentRange = "" }],
        ["206 with nonsense"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentRange = "bytes all" }],
        ["206 of an open total"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentRange = "bytes 60000-199999/*" }],
        ["206 of another length"] = [new Fault { CutAfter = 60_000 }, new Fault { ContentLength = Size }],
        ["404 to a range"] = [new Fault { CutAfter = 60_000 }, new Fault { Status = 404 }],
        ["416"] = [new Fault { CutAfter = 60_000 }, new Fault { Status = 416 }],
        ["416, and then cut again"] = [new Fault { CutAfter = 60_000 }, new Fault { Status = 416 }, new Fault { CutAfter = 120_000 }],
    };

    [Theory]
    [MemberData(nameof(Survivable))]
    public async Task The_right_bytes_come_out(string quirk)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        foreach (Fault fault in Quirks[quirk])
        {
            it.Fake.Faults.On("/blobs/", fault);
        }

        byte[] read = await it.ReadBlobAsync(blob);

        Assert.True(blob.Digest.Matches(read));
        Assert.True(it.Fake.Faults.AreMet);
    }

    [Fact]
    public async Task A_cut_is_continued_at_the_exact_offset_reached()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 123_457 });

        await it.ReadBlobAsync(blob);

        Assert.Equal([null, "bytes=123457-"], it.Fake.Requests.Select(request => request["Range"]));
        Assert.Equal([123_457, Size - 123_457], it.Fake.Requests.Select(request => request.BytesSent));
    }

    [Fact]
    public async Task A_registry_that_answers_416_to_every_range_is_asked_for_the_whole()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { OnlyRanges = true, Status = 416 }, times: 100);

        byte[] read = await it.ReadBlobAsync(blob, offset: 60_000);

        Assert.Equal(FakeContent.Generated(7, Size).ToArray()[60_000..], read);
        Assert.Equal(["bytes=60000-", null], it.Fake.Requests.Select(request => request["Range"]));
        Assert.Empty(it.Time.Waits);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(100_000)]
    [InlineData(Size - 1)]
    public async Task Reading_from_an_offset_asks_for_the_rest_only(long offset)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);

        byte[] read = await it.ReadBlobAsync(blob, offset);

        Assert.Equal(FakeContent.Generated(7, Size).ToArray()[(int)offset..], read);
        SeenRequest request = Assert.Single(it.Fake.Requests);
        Assert.Equal(206, request.Status);
        Assert.Equal("identity", request["Accept-Encoding"]);
        Assert.Equal(Size - offset, request.BytesSent);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(5, 5)]
    public async Task Nothing_is_asked_where_nothing_is_left(long size, long offset)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(size);

        Assert.Empty(await it.ReadBlobAsync(blob, offset));
        Assert.Empty(it.Fake.Requests);
    }

    [Fact]
    public async Task Opening_asks_nothing_before_the_first_read()
    {
        await using var it = new RegistryHarness();
        await using BlobReader reader = it.Client.OpenBlob(RegistryHarness.Repository, it.AddBlob(), 0);

        Assert.Empty(it.Fake.Requests);
    }

    [Fact]
    public async Task A_mebibyte_lost_is_not_asked_for_twice_over_the_whole_of_a_large_blob()
    {
        await using var it = new RegistryHarness();
        var content = FakeContent.Generated(3, 16 * 1024 * 1024 + 5);
        Descriptor blob = it.Fake.AddBlob(RegistryHarness.Repository, content);
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 1024 * 1024 }, times: 16);

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.Equal(17, it.Fake.Requests.Count);
        Assert.Equal(content.Length, it.Fake.Requests.Sum(request => request.BytesSent));
    }

    [Fact]
    public async Task Progress_starts_the_count_of_failures_anew()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 10_000 }, times: 15);

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.All(it.Time.Waits, wait => Assert.Equal(TimeSpan.FromSeconds(0.5), wait));
    }

    [Fact]
    public async Task Six_tries_without_progress_are_the_end()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 10 });
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 0 }, times: 100);

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ReadBlobAsync(blob));

        Assert.Equal(PullError.Unavailable, failure.Reason);
        Assert.Contains("6 tries", failure.Message, StringComparison.Ordinal);
        Assert.Equal(6, it.Fake.Requests.Count);
        Assert.Equal([0.5, 1, 2, 4, 8], it.Time.Waits.Select(wait => wait.TotalSeconds));
    }

    [Fact]
    public async Task A_stretch_that_is_announced_with_another_length_is_not_read()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { ContentLength = Size });

        await using BlobReader reader = it.Client.OpenRange(RegistryHarness.Repository, blob, 50_000, 100_000);
        byte[] read = await RegistryHarness.ReadAsync(reader);

        Assert.Empty(read);
        Assert.True(reader.IsRefused);
    }

    [Fact]
    public async Task The_whole_is_asked_for_with_all_patience_where_that_for_its_rest_is_at_an_end()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 10_000 });
        it.Fake.Faults.On("/blobs/", new Fault { OnlyRanges = true, Status = 500 }, times: 5);
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 0 }, times: 5);

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.True(it.Fake.Faults.AreMet);
    }

    public static TheoryData<string> Liars => [.. Lies.Keys];

    private static readonly Dictionary<string, Fault[]> Lies = new()
    {
        ["announces one byte more"] = [new Fault { ContentLength = Size + 1 }],
        ["announces one byte less"] = [new Fault { ContentLength = Size - 1 }],
        ["announces and sends more"] = [new Fault { ExtraBytes = 10 }],
        ["sends more in chunks"] = [new Fault { ExtraBytes = 1, Chunked = true }],
        ["sends much more in chunks"] = [new Fault { ExtraBytes = 500_000, Chunked = true }],
        ["sends more of the rest in chunks"] = [new Fault { CutAfter = 50_000 }, new Fault { ExtraBytes = 1, Chunked = true }],
    };

    [Theory]
    [MemberData(nameof(Liars))]
    public async Task A_registry_with_another_length_is_refused(string lie)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        foreach (Fault fault in Lies[lie])
        {
            it.Fake.Faults.On("/blobs/", fault);
        }

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ReadBlobAsync(blob));

        Assert.Equal(PullError.SizeMismatch, failure.Reason);
        Assert.Contains(blob.Digest.ToString(), failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task No_byte_beyond_the_size_comes_out()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { ExtraBytes = 50_000, Chunked = true });
        await using BlobReader reader = it.Client.OpenBlob(RegistryHarness.Repository, blob, 0);
        byte[] buffer = new byte[Size * 2];
        while (reader.Position < Size)
        {
            await reader.ReadAsync(buffer.AsMemory((int)reader.Position), RegistryHarness.Token);
        }

        Assert.Equal(0, buffer[Size]);
    }

    [Fact]
    public async Task A_connection_that_breaks_after_the_last_byte_does_no_harm()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { Chunked = true, CutAfter = Size });

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.Single(it.Fake.Requests);
    }

    [Fact]
    public async Task A_stalled_body_is_left_and_continued()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { StallAfter = 65_536 });
        await using BlobReader reader = it.Client.OpenBlob(RegistryHarness.Repository, blob, 0);
        byte[] all = new byte[Size];
        while (reader.Position < 65_536)
        {
            await reader.ReadAsync(all.AsMemory((int)reader.Position), RegistryHarness.Token);
        }

        Task<int> next = reader.ReadAsync(all.AsMemory(65_536), RegistryHarness.Token).AsTask();
        it.Time.ExpireGuards();
        int read = await next;
        byte[] rest = await RegistryHarness.ReadAsync(reader);
        rest.CopyTo(all, 65_536 + read);

        Assert.True(blob.Digest.Matches(all));
        Assert.Equal("bytes=65536-", it.Fake.Requests[1]["Range"]);
        Assert.Contains("no byte for", Assert.Single(it.Notices).Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Headers_that_do_not_come_are_not_waited_for()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        Fault fault = it.Fake.Faults.On("/blobs/", new Fault { StallAfter = -1 });

        Task<byte[]> reading = it.ReadBlobAsync(blob);
        await fault.Reached.WaitAsync(RegistryHarness.Token);
        it.Time.ExpireGuards();

        Assert.True(blob.Digest.Matches(await reading));
    }

    [Fact]
    public async Task A_registry_that_stalls_for_ever_is_the_reason_stalled()
    {
        await using var it = new RegistryHarness(null, options => options with { Retry = options.Retry with { Tries = 2 } });
        Descriptor blob = it.AddBlob(Size);
        Fault[] faults = [it.Fake.Faults.On("/blobs/", new Fault { StallAfter = -1 }), it.Fake.Faults.On("/blobs/", new Fault { StallAfter = -1 })];

        Task<byte[]> reading = it.ReadBlobAsync(blob);
        foreach (Fault fault in faults)
        {
            await fault.Reached.WaitAsync(RegistryHarness.Token);
            it.Time.ExpireGuards();
        }

        Assert.Equal(PullError.Stalled, (await RegistryHarness.FailureAsync(() => reading)).Reason);
    }

    [Fact]
    public async Task Cancelling_ends_a_read_at_once_as_cancellation()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        Fault fault = it.Fake.Faults.On("/blobs/", new Fault { StallAfter = 0 });
        using var stop = new CancellationTokenSource();
        await using BlobReader reader = it.Client.OpenBlob(RegistryHarness.Repository, blob, 0);

        Task<int> reading = reader.ReadAsync(new byte[10], stop.Token).AsTask();
        await fault.Reached;
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading);
        Assert.Empty(it.Notices);
    }

    [Fact]
    public async Task A_missing_blob_is_not_found_and_names_itself()
    {
        await using var it = new RegistryHarness();
        var blob = new Descriptor("", Digest.Of("nobody has this"u8), 15);

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ReadBlobAsync(blob));

        Assert.Equal(PullError.NotFound, failure.Reason);
        Assert.Contains("BLOB_UNKNOWN: blob unknown to registry", failure.Message, StringComparison.Ordinal);
        Assert.Contains(blob.Digest.ToString(), failure.Message, StringComparison.Ordinal);
        Assert.Single(it.Fake.Requests);
    }
}
