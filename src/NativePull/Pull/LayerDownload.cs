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
    // Bytes; large enough that a system call costs nothing beside its copy, small enough to stay in cache.
    private const int BufferSize = 128 * 1024;

    private readonly Lock gate = new();
    private readonly TaskCompletionSource started = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private BlobIngest? ingest;

    internal Descriptor Blob { get; } = blob;

    internal LayerState State { get; private set; } = LayerState.Present;

    internal long ResumedFrom { get; private set; }

    internal long DownloadedBytes { get; private set; }

    /// <summary>Ends when the blob is committed; set once by the conductor.</summary>
    internal Task Completion { get; set; } = Task.CompletedTask;

    /// <summary>Fetches what is missing and commits.</summary>
    /// <param name="registry">Null: offline; a missing blob is NotInStore.</param>
    internal async Task RunAsync(RegistryClient? registry, string repository, RateLimiter? limiter, CancellationToken token)
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

            BlobIngest? begun = await blobs.BeginAsync(Blob, token);
            if (begun is not null)
            {
                await FetchAndEndAsync(begun, registry, repository, limiter, token);
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

    private async Task FetchAndEndAsync(BlobIngest begun, RegistryClient registry, string repository, RateLimiter? limiter, CancellationToken token)
    {
        try
        {
            await FetchAsync(begun, registry, repository, limiter, token);
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

    private async Task FetchAsync(BlobIngest begun, RegistryClient registry, string repository, RateLimiter? limiter, CancellationToken token)
    {
        lock (gate)
        {
            ingest = begun;
        }

        ResumedFrom = begun.Offset;
        State = ResumedFrom > 0 ? LayerState.Resumed : LayerState.Downloaded;
        progress.Report(new PullEvent.BlobStarted(Blob, ResumedFrom));
        started.TrySetResult();

        await CopyAsync(begun, registry, repository, limiter, token);
        try
        {
            begun.Commit();
        }
        catch (PullException damaged) when (damaged.Reason == PullError.DigestMismatch && ResumedFrom > 0)
        {
            // the kept bytes may have been the wrong ones (a power cut, another image's registry): once more, from the first byte
            progress.Report(new PullEvent.Warning($"the kept part of {Blob.Digest} was damaged and is fetched anew"));
            begun.Restart();
            ResumedFrom = 0;
            State = LayerState.Downloaded;
            await CopyAsync(begun, registry, repository, limiter, token);
            begun.Commit();
        }
    }

    private async Task CopyAsync(BlobIngest target, RegistryClient registry, string repository, RateLimiter? limiter, CancellationToken token)
    {
        if (target.Offset == Blob.Size)
        {
            return;
        }

        byte[] buffer = new byte[BufferSize];
        await using BlobReader reader = registry.OpenBlob(repository, Blob, target.Offset);
        int read;
        while ((read = await reader.ReadAsync(buffer, token)) > 0)
        {
            target.Append(buffer.AsSpan(0, read));
            DownloadedBytes += read;
            progress.Report(new PullEvent.BlobProgress(Blob, target.Offset));
            if (limiter is not null)
            {
                await limiter.PayAsync(read, token);
            }
        }
    }
}
