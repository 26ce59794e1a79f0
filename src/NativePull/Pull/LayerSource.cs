using NativePull.IO;
using NativePull.Layers;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>One layer of an image wherever its bytes come from: a download that is followed, a store, an archive.</summary>
/// <param name="open">The blob's bytes from the first on, for a blocking reader. One that verifies itself is read to its end.</param>
/// <param name="completion">Ends when the blob's own digest has been compared, where that is not the reader's work.</param>
internal sealed class LayerSource(PlannedLayer layer, Func<CancellationToken, Stream> open, Func<Task> completion, IProgress<PullEvent> progress)
{
    internal PlannedLayer Layer { get; } = layer;

    internal Task Completion => completion();

    /// <summary>Blocks its thread until the layer is applied and its diff ID has been compared; the blob itself may not be committed yet.</summary>
    /// <param name="target">What is being made, for the progress report.</param>
    internal void Apply(LayerApplier applier, string target, CancellationToken token) => Read(target, tar => applier.Apply(tar, token), applier.Limits, token);

    /// <summary>Gives the plain tar to a reader; returns when it and every byte after it have been read, and the diff ID was the one promised.</summary>
    /// <exception cref="PartRestartedException">What was read were not the blob's bytes; another reading sees others.</exception>
    internal void Read(string target, Action<Stream> reader, LayerLimits limits, CancellationToken token)
    {
        progress.Report(new PullEvent.LayerExtracting(Layer.Blob, target));
        Stream? blob = null;
        try
        {
            blob = open(token);
            using ReadAheadStream tar = new(LayerStream.Open(blob, Layer.DiffId, Name, limits), token);
            reader(tar);
            // the archive's end is not the stream's: the diff ID covers the padding too
            tar.Drain();
            (blob as VerifyingStream)?.Drain(token);
        }
        catch (PullException suspect) when (IsOfLayer(suspect))
        {
            // bytes that make no sense are most likely not the bytes promised: the download's verdict on them comes first (a limit's is waited
            // for by nobody: what passes it may be as long as it likes)
            if (suspect.Reason != PullError.LimitPassed)
            {
                Blocking.Wait(Completion, token);
                (blob as BlobIngest.Follower)?.ThrowIfRestarted();
            }

            throw Named(suspect);
        }

        progress.Report(new PullEvent.LayerExtracted(Layer.Blob, target));
    }

    /// <summary>What is left to do for a layer that was applied, when those below it are there.</summary>
    /// <inheritdoc cref="LayerApplier.Settle"/>
    internal void Settle(LayerApplier applier, IReadOnlyList<RootDirectory> lowersTopFirst, CancellationToken token)
    {
        try
        {
            applier.Settle(lowersTopFirst, token);
        }
        catch (PullException failed) when (IsOfLayer(failed))
        {
            throw Named(failed);
        }
    }

    private string Name => $"layer {Layer.Blob.Digest}";

    // The layer's own fault, rather than this machine's.
    private static bool IsOfLayer(PullException failed) =>
        failed.Reason is PullError.Malformed or PullError.DiffIdMismatch or PullError.UnsafeEntry or PullError.Unsupported or PullError.LimitPassed;

    // Of what is wrong in an archive only its reader knows; which of an image's layers it was, only we.
    private PullException Named(PullException failed) =>
        failed.Message.StartsWith(Name, StringComparison.Ordinal) ? failed : new PullException(failed.Reason, Name, failed);
}
