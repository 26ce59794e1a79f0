using NativePull.IO;
using NativePull.Layers;

namespace NativePull.Pull;

/// <summary>Applies one layer of an image from its download: follows the part while it grows, and checks the diff ID over every byte.</summary>
internal sealed class LayerSource(PlannedLayer layer, LayerDownload download, IProgress<PullEvent> progress)
{
    internal PlannedLayer Layer { get; } = layer;

    internal LayerDownload Download { get; } = download;

    /// <summary>Blocks its thread until the layer is applied and its diff ID has been compared; the blob itself may not be committed yet.</summary>
    /// <param name="target">What is being made, for the progress report.</param>
    internal void Apply(LayerApplier applier, string target, CancellationToken token)
    {
        progress.Report(new PullEvent.LayerExtracting(Layer.Blob, target));
        try
        {
            using ReadAheadStream tar = new(LayerStream.Open(Download.Open(token), Layer.DiffId, $"layer {Layer.Blob.Digest}", applier.Limits), token);
            applier.Apply(tar, token);
            // the archive's end is not the stream's: the diff ID covers the padding too
            tar.Drain();
        }
        catch (PullException suspect) when (suspect.Reason is PullError.Malformed or PullError.DiffIdMismatch)
        {
            // bytes that make no sense are most likely not the bytes promised: the download's verdict on them comes first
            Blocking.Wait(Download.Completion, token);
            throw;
        }

        progress.Report(new PullEvent.LayerExtracted(Layer.Blob, target));
    }
}
