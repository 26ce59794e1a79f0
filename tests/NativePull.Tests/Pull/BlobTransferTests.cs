using NativePull.Oci;
using NativePull.Pull;
using NativePull.Store;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;
using NativePull.Tests.Registry;

namespace NativePull.Tests.Pull;

/// <summary>One large blob over several connections: right bytes whatever the server does, no byte fetched twice, and a part that tells what it holds.</summary>
public sealed class BlobTransferTests : IDisposable
{
    private const long Size = 40_000_000;

    private readonly TemporaryDirectory directory = new();
    private readonly StoreLayout layout;
    private readonly BlobStore blobs;

    public BlobTransferTests()
    {
        layout = new StoreLayout(directory["s"]);
        Directory.CreateDirectory(layout.Parts);
        blobs = new BlobStore(layout, new StoreOptions());
    }

    public void Dispose() => directory.Dispose();

    [Fact]
    public async Task Several_connections_share_the_blob_without_asking_for_a_byte_twice()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);

        (BlobTransfer transfer, long received) = await PullAsync(it, blob);

        Assert.True(transfer.UsedLanes);
        Assert.Equal(Size, received);
        Assert.True(it.Fake.Requests.Select(request => request.Connection).Distinct().Count() > 1);
        AssertKept(blob);
    }

    public static TheoryData<string> Survivable => [.. Troubles.Keys];

    private static readonly Dictionary<string, (Fault Fault, int Times)> Troubles = new()
    {
        ["every connection is cut once"] = (new Fault { CutAfter = 3_000_001 }, 5),
        ["stretches are cut at their first byte"] = (new Fault { OnlyStretches = true, CutAfter = 0 }, 3),
        ["stretches are reset"] = (new Fault { OnlyStretches = true, CutAfter = 70_000, Reset = true }, 7),
        ["stretches end too soon, in chunks"] = (new Fault { OnlyStretches = true, MissingBytes = 10, Chunked = true }, 4),
        ["200 with everything instead of a stretch"] = (new Fault { OnlyRanges = true, IgnoreRange = true }, 1000),
        ["416 for every stretch"] = (new Fault { OnlyStretches = true, Status = 416 }, 1000),
        ["stretches of another place"] = (new Fault { OnlyStretches = true, RangeFrom = 5 }, 1000),
        ["429 for every further connection"] = (new Fault { OnlyStretches = true, Status = 429, Headers = [("Retry-After", "50")] }, 3),
        ["403 for every further connection"] = (new Fault { OnlyStretches = true, Status = 403 }, 3),
        ["another length once"] = (new Fault { OnlyStretches = true, ContentLength = Size }, 1),
        ["503 now and then"] = (new Fault { OnlyStretches = true, Status = 503 }, 2),
    };

    [Theory]
    [MemberData(nameof(Survivable))]
    public async Task The_blob_comes_out_right(string trouble)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", Troubles[trouble].Fault, Troubles[trouble].Times);

        (_, long received) = await PullAsync(it, blob);

        Assert.Equal(Size, received);
        AssertKept(blob);
    }

    [Theory]
    [InlineData(5_000_000)]
    [InlineData(20_000_000)]
    [InlineData(39_000_000)]
    public async Task A_transfer_given_up_is_continued_in_all_of_its_holes(long after)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);

        long first = await GiveUpAsync(it, blob, after);
        (_, long second) = await PullAsync(it, blob);

        Assert.Equal(Size, first + second);
        AssertKept(blob);
    }

    [Fact]
    public async Task Holes_are_filled_by_a_single_connection_too()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);

        long first = await GiveUpAsync(it, blob, 20_000_000);
        (_, long second) = await PullAsync(it, blob, mostLanes: 1);

        Assert.Equal(Size, first + second);
        AssertKept(blob);
    }

    // The first stretch is asked for with little patience, which ends with its first byte.
    [Fact]
    public async Task A_first_stretch_that_gives_bytes_and_then_fails_is_borne_as_often_as_any()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        long first = await GiveUpAsync(it, blob, 20_000_000);
        it.Fake.Faults.On("/blobs/", new Fault { OnlyStretches = true, MissingBytes = 10, Chunked = true }, times: 4);

        (_, long second) = await PullAsync(it, blob, mostLanes: 1);

        Assert.Equal(Size, first + second);
        AssertKept(blob);
    }

    [Fact]
    public async Task A_further_connection_that_is_led_to_somebody_not_trusted_is_left_out()
    {
        using var strangers = new FakeCertificates();
        await using FakeRegistry stranger = new FakeRegistry { Certificate = strangers.Issue() }.Start();
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        // the first connection is held until another has asked
        Fault stall = it.Fake.Faults.On("/blobs/", new Fault { StallAfter = 500_000 });
        it.Fake.Faults.On("/blobs/", new Fault { OnlyStretches = true, RedirectTo = $"{stranger.Url}/x", BeforeAnswer = stall.Release });

        (BlobTransfer transfer, long received) = await PullAsync(it, blob);

        Assert.True(transfer.UsedLanes);
        Assert.True(it.Fake.Faults.AreMet);
        Assert.Equal(Size, received);
        AssertKept(blob);
    }

    // As of several servers behind one name, of which not all know ranges.
    [Theory]
    [InlineData(400)]
    [InlineData(500)]
    [InlineData(501)]
    public async Task A_registry_that_gives_stretches_no_longer_is_asked_for_the_rest_as_a_whole(int status)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        await HoldAsync(blob, new ByteRange(10_000_000, 11_000_000));
        it.Fake.Faults.On("/blobs/", new Fault { OnlyStretches = true }); // nothing is wrong with the first
        it.Fake.Faults.On("/blobs/", new Fault { OnlyRanges = true, Status = status }, times: 1000);

        await PullAsync(it, blob, mostLanes: 1);

        AssertKept(blob);
    }

    [Fact]
    public async Task A_part_that_somebody_cuts_short_meanwhile_is_an_error_and_no_endless_wait()
    {
        Descriptor blob = Describe();
        using BlobIngest ingest = await blobs.BeginAsync(blob, RegistryHarness.Token) ?? throw new InvalidOperationException("it is there");
        ingest.AllowRanges();
        ingest.BeginRange(0).Write(new byte[1000]);
        (await Binary.ProgramAsync("truncate", "-s", "10", layout.Part(blob.Digest))).Expect(0);

        PullException failure = Assert.Throws<PullException>(() => ingest.HashBehind(RegistryHarness.Token));

        Assert.Equal(PullError.Machine, failure.Reason);
    }

    [Fact]
    public async Task Holes_are_filled_from_a_registry_without_ranges()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        await GiveUpAsync(it, blob, 20_000_000);
        it.Fake.Faults.On("/blobs/", new Fault { OnlyRanges = true, IgnoreRange = true }, times: 1000);

        await PullAsync(it, blob);

        AssertKept(blob);
    }

    [Theory]
    [InlineData("other bytes in one stretch")]
    [InlineData("a shorter part")]
    public async Task After_a_power_cut_only_the_stretches_that_were_lost_are_fetched_again(string damage)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        long first = await GiveUpAsync(it, blob, 30_000_000);
        await using (FileStream part = new(layout.Part(blob.Digest), FileMode.Open))
        {
            if (damage == "a shorter part")
            {
                part.SetLength(part.Length - 10);
            }
            else
            {
                part.Position = part.Length - 5;
                part.Write(new byte[2]);
            }
        }

        (_, long second) = await PullAsync(it, blob);

        Assert.InRange(first + second, Size + 1, Size + 20_000_000);
        AssertKept(blob);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(9_000_000)]
    [InlineData(19_990_000)]
    public async Task After_a_power_cut_one_connection_fetches_again_only_what_is_near_to_what_was_lost(long lost)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        using var stop = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => PullAsync(it, blob, mostLanes: 1, stop, after: 20_000_000));
        long first = lastReceived;
        await using (FileStream part = new(layout.Part(blob.Digest), FileMode.Open))
        {
            // a kernel writes a file's blocks down in an order of its own, and one that it had not come to is zeros
            part.Position = lost;
            part.Write(new byte[4096]);
        }

        (_, long second) = await PullAsync(it, blob, mostLanes: 1);

        Assert.InRange(first + second, Size + 1, Size + (5 * 1024 * 1024));
        AssertKept(blob);
    }

    [Fact]
    public async Task A_record_without_its_part_and_a_part_without_its_record_are_survived()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        await GiveUpAsync(it, blob, 20_000_000);
        File.Delete(layout.Part(blob.Digest));
        (_, long received) = await PullAsync(it, blob);
        Assert.Equal(Size, received);

        File.Delete(layout.Blob(blob.Digest));
        await GiveUpAsync(it, blob, 20_000_000);
        Assert.True(File.Exists(layout.PartRecord(blob.Digest)));
        File.Delete(layout.PartRecord(blob.Digest));

        await Assert.ThrowsAsync<PullException>(() => PullAsync(it, blob)); // the digest tells; the download then begins anew
        await PullAsync(it, blob);
        AssertKept(blob);
    }

    /// <summary>Where a connection is cut: at the borders of the reader's buffer, of the blob, and of nothing.</summary>
    public static TheoryData<long> Cuts => [0, 1, Buffer - 1, Buffer, Buffer + 1, 700_000, SmallSize - 1];

    private const long Buffer = 128 * 1024;
    private const long SmallSize = 1_000_003;

    [Theory]
    [MemberData(nameof(Cuts))]
    public async Task No_byte_is_sent_twice_wherever_a_connection_is_cut(long cut)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(SmallSize);
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = cut });

        (_, long received) = await PullAsync(it, blob);

        Assert.Equal(SmallSize, received);
        Assert.Equal(SmallSize, it.Fake.Requests.Sum(request => request.BytesSent));
        Assert.Equal([null, cut == 0 ? null : $"bytes={cut}-"], it.Fake.Requests.Select(request => request["Range"]));
        AssertKept(blob);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(Buffer)]
    [InlineData(1024 * 1024 - 1)]
    [InlineData(1024 * 1024)]
    public async Task A_stretch_that_is_cut_is_continued_where_it_was(long cut)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        it.Fake.Faults.On("/blobs/", new Fault { OnlyStretches = true, CutAfter = cut }, times: 2);

        (_, long received) = await PullAsync(it, blob);

        Assert.Equal(Size, received);
        AssertKept(blob);
    }

    [Fact]
    public async Task A_small_blob_is_never_shared()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(8_000_000);

        await PullAsync(it, blob);

        Assert.Single(it.Fake.Requests);
    }

    [Fact]
    public async Task A_full_disk_ends_all_lanes()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: mounts a small file system");
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(Size);
        (await Binary.ProgramAsync("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", layout.Parts)).Expect(0);
        try
        {
            PullException full = await Assert.ThrowsAsync<PullException>(() => PullAsync(it, blob));
            Assert.Equal(PullError.NoSpace, full.Reason);
        }
        finally
        {
            await Binary.UnmountAsync(layout.Parts);
        }
    }

    private static Descriptor Describe() => new("application/vnd.oci.image.layer.v1.tar", FakeContent.Generated(7, Size).Digest, Size);

    // As an earlier run left it, from other places of the blob than its beginning.
    private async Task HoldAsync(Descriptor blob, ByteRange range)
    {
        byte[] bytes = FakeContent.Generated(7, Size).ToArray()[(int)range.Start..(int)range.End];
        using BlobIngest ingest = await blobs.BeginAsync(blob, RegistryHarness.Token) ?? throw new InvalidOperationException("it is there");
        ingest.AllowRanges();
        ingest.BeginRange(range.Start).Write(bytes);
    }

    // As a killed process leaves it: nothing is said to the part any more.
    private async Task<long> GiveUpAsync(RegistryHarness it, Descriptor blob, long after)
    {
        // the first connection stops early, so that there are holes
        Fault stall = it.Fake.Faults.On("/blobs/", new Fault { StallAfter = 500_000 });
        using var stop = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => PullAsync(it, blob, stop: stop, after: after));
        stall.Release();
        return lastReceived;
    }

    private long lastReceived;

    private async Task<(BlobTransfer Transfer, long Received)> PullAsync(
        RegistryHarness it, Descriptor blob, int mostLanes = 4, CancellationTokenSource? stop = null, long after = long.MaxValue)
    {
        lastReceived = 0;
        using BlobIngest ingest = await blobs.BeginAsync(blob, RegistryHarness.Token) ?? throw new InvalidOperationException("it is there");
        ConnectionBudget budget = new(mostLanes, blob.Size, TimeProvider.System, atFirst: mostLanes);
        budget.Enter();
        BlobTransfer transfer = new(it.Client, RegistryHarness.Repository, blob, ingest, mostLanes, budget, (bytes, _) =>
        {
            if (Interlocked.Add(ref lastReceived, bytes) > after)
            {
                stop!.Cancel();
            }

            return ValueTask.CompletedTask;
        });
        await transfer.RunAsync(stop?.Token ?? RegistryHarness.Token);
        ingest.Commit();
        return (transfer, lastReceived);
    }

    private void AssertKept(Descriptor blob)
    {
        Assert.True(blob.Digest.Matches(File.ReadAllBytes(layout.Blob(blob.Digest))));
        Assert.Empty(Directory.GetFileSystemEntries(layout.Parts));
    }
}
