using NativePull.Oci;
using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// One blob on its way into the store, and the place where an applier finds its bytes: behind the part while it grows, in the committed blob
/// afterwards.
/// </summary>
internal sealed class LayerDownload(Descriptor blob, BlobStore blobs, IProgress<PullEvent> progress)
{
    private readonly Lock gate = new();
    private readonly TaskCompletionSource started = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private BlobIngest? ingest;
    private long downloaded;

    internal Descriptor Blob { get; } = blob;

    internal LayerState State { get; private set; } = LayerState.Present;

    internal long ResumedFrom { get; private set; }

    internal long DownloadedBytes => Interlocked.Read(ref downloaded);

    /// <summary>Ends when the blob is committed; set once by the conductor.</summary>
    internal Task Completion { get; set; } = Task.CompletedTask;

    /// <summary>Fetches what is missing and commits.</summary>
    /// <param name="registry">Null: offline; a missing blob is NotInStore.</param>
    /// <param name="turn">To use the network; it is had when this is called.</param>
    internal async Task RunAsync(RegistryClient? registry, string repository, TransferLimits limits, DownloadQueue.Turn turn, CancellationToken token)
    {
        try
        {
            if (blobs.Contains(Blob))
            {
                progress.Report(new PullEvent.BlobDone(Blob, LayerState.Present));
                return;
            }

            if (registry is null)
            {
                throw new PullException(PullError.NotInStore, $"layer {Blob.Digest} is not in the store");
            }

            // whoever has a part may wait for its turn, so whoever waits for a part must not keep a turn: between two processes that would be for ever
            BlobIngest? begun = await blobs.BeginAsync(Blob, token, turn.Release);
            if (begun is not null)
            {
                await FetchAndEndAsync(begun, registry, repository, limits, turn, token);
            }

            progress.Report(new PullEvent.BlobDone(Blob, State));
        }
        finally
        {
            started.TrySetResult();
        }
    }

    /// <summary>The blob's bytes from the first on, for a blocking reader; waits until the download has begun.</summary>
    internal Stream Open(CancellationToken token)
    {
        Blocking.Wait(started.Task, token);
        lock (gate)
        {
            if (ingest is not null)
            {
                return ingest.Follow(token);
            }
        }

        // not being written: committed, or failed, and then the failure is the answer
        Blocking.Wait(Completion, token);
        return blobs.Open(Blob.Digest);
    }

    private async Task FetchAndEndAsync(
        BlobIngest begun, RegistryClient registry, string repository, TransferLimits limits, DownloadQueue.Turn turn, CancellationToken token)
    {
        try
        {
            // no bytes come for a long time where a turn, a silent server, a Retry-After or a network is waited for
            await begun.StayingAliveAsync(FetchInTurnAsync(begun, registry, repository, limits, turn, token));
        }
        finally
        {
            // nobody may begin to follow what is about to be closed
            lock (gate)
            {
                ingest = null;
            }

            begun.Dispose();
        }
    }

    private async Task FetchInTurnAsync(
        BlobIngest begun, RegistryClient registry, string repository, TransferLimits limits, DownloadQueue.Turn turn, CancellationToken token)
    {
        await turn.TakeAsync(token);
        await FetchAsync(begun, registry, repository, limits, turn, token);
    }

    private async Task FetchAsync(
        BlobIngest begun, RegistryClient registry, string repository, TransferLimits limits, DownloadQueue.Turn turn, CancellationToken token)
    {
        lock (gate)
        {
            ingest = begun;
        }

        ResumedFrom = begun.Held;
        State = ResumedFrom > 0 ? LayerState.Resumed : LayerState.Downloaded;
        progress.Report(new PullEvent.BlobStarted(Blob, ResumedFrom));
        started.TrySetResult();

        bool inOnePiece = !await TransferAsync(begun, registry, repository, limits, turn, token) && ResumedFrom == 0;
        while (!TryCommit(begun, () => registry.Distrust(repository, Blob) || !inOnePiece))
        {
            // the kept bytes may have been the wrong ones (a power cut, another image's registry), or a server answers ranges with
            // other bytes than it sends in one piece: once more, from the first byte and over one connection
            string what = ResumedFrom > 0 ? "the kept part of" : inOnePiece ? "what a mirror gave for" : "what came in pieces of";
            progress.Report(new PullEvent.Warning($"{what} {Blob.Digest} was damaged and is fetched anew"));
            begun.Restart();
            ResumedFrom = 0;
            State = LayerState.Downloaded;
            await TransferAsync(begun, registry, repository, limits with { Connections = 1 }, turn, token);
            inOnePiece = true;
        }
    }

    // False: another digest, and it is worth fetching anew.
    private static bool TryCommit(BlobIngest begun, Func<bool> mayBeBetter)
    {
        try
        {
            begun.Commit();
            return true;
        }
        catch (PullException damaged) when (damaged.Reason == PullError.DigestMismatch && mayBeBetter())
        {
            return false;
        }
    }

    // Whether more than one connection took part.
    private async Task<bool> TransferAsync(
        BlobIngest target, RegistryClient registry, string repository, TransferLimits limits, DownloadQueue.Turn turn, CancellationToken token)
    {
        BlobTransfer transfer = new(registry, repository, Blob, target, limits.Connections, limits.Budget, ReceivedAsync) { GiveWay = GiveWayAsync };
        limits.Budget.Enter();
        try
        {
            await transfer.RunAsync(token);
            return transfer.UsedLanes;
        }
        finally
        {
            limits.Budget.Leave();
        }

        ValueTask ReceivedAsync(int bytes, CancellationToken cancel)
        {
            Interlocked.Add(ref downloaded, bytes);
            progress.Report(new PullEvent.BlobProgress(Blob, target.Held));
            return limits.Rate?.PayAsync(bytes, cancel) ?? ValueTask.CompletedTask;
        }

        async Task<bool> GiveWayAsync(RegistryException refusal, CancellationToken cancel)
        {
            if (!limits.Budget.TryGiveWay(refusal.RetryAfter))
            {
                return false;
            }

            try
            {
                progress.Report(new PullEvent.GaveWay(Blob, refusal.Message));
                await turn.GiveWayAsync(refusal.RetryAfter, cancel);
                return true;
            }
            finally
            {
                limits.Budget.Enter();
            }
        }
    }
}

/// <summary>What all transfers of a pull share.</summary>
/// <param name="Connections">For one blob at most, 1 or more.</param>
/// <param name="Rate">Null: unlimited.</param>
internal sealed record TransferLimits(ConnectionBudget Budget, int Connections, RateLimiter? Rate);
