using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>What is worth telling while a pull runs. Reports come from several threads; a receiver must not block.</summary>
internal abstract record PullEvent
{
    private PullEvent() { }

    internal sealed record Resolving(Reference Reference) : PullEvent;

    internal sealed record Resolved(Reference Reference, Digest Digest, Platform Platform) : PullEvent;

    /// <param name="TotalBytes">Config and distinct layers, compressed.</param>
    internal sealed record Planned(int Layers, long TotalBytes) : PullEvent;

    /// <param name="Offset">Bytes already here.</param>
    internal sealed record BlobStarted(Descriptor Blob, long Offset) : PullEvent;

    /// <param name="Offset">Bytes here now.</param>
    internal sealed record BlobProgress(Descriptor Blob, long Offset) : PullEvent;

    internal sealed record BlobDone(Descriptor Blob, LayerState State) : PullEvent;

    /// <summary>Another try after a pause; the reason is the failure's sentence.</summary>
    internal sealed record Retrying(string What, int Try, TimeSpan Wait, string Reason) : PullEvent;

    /// <summary>Refused while others are served, it waits until there are fewer at a time; the reason is the refusal's sentence.</summary>
    internal sealed record GaveWay(Descriptor Blob, string Reason) : PullEvent;

    internal sealed record LayerExtracting(Descriptor Blob, string Target) : PullEvent;

    internal sealed record LayerExtracted(Descriptor Blob, string Target) : PullEvent;

    internal sealed record Warning(string Text) : PullEvent;
}
