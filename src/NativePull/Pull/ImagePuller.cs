using NativePull.Layers;
using NativePull.Oci;
using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// The conductor: resolve → plan → download ∥ extract → record → publish. It alone knows Registry, Store and Layers; each of them knows
/// none of the others.
/// </summary>
/// <param name="registry">Null: offline; no socket is opened and what the store lacks is an error.</param>
internal sealed class ImagePuller(
    RegistryClient? registry, BlobStore blobs, LayerStore layers, Catalog catalog, IProgress<PullEvent> progress, TimeProvider clock)
{
    // What a pull of many small blobs needs to hide the round trips before anything can be measured, and few enough that the lowest layer still
    // comes first.
    private const int BlobsAtFirst = 4;

    /// <exception cref="PullException">Any reason; nothing half-done is visible afterwards, and parts are kept.</exception>
    internal async Task<PullResult> PullAsync(Reference reference, PullOptions options, CancellationToken token)
    {
        long begun = clock.GetTimestamp();
        WarningCollector events = new(progress);
        ResolvedImage image = await ResolveAsync(reference, options, events, token);
        if (options.Expect is { } expected && expected != image.Digest)
        {
            throw new PullException(PullError.Unexpected, $"{reference}: expected {expected}, got {image.Digest}");
        }

        if (options.ExtractLayers || options.Outputs.AreAsked)
        {
            options.Outputs.Extract.Limits.CheckLayers(image.Layers.Count);
        }

        events.Report(new PullEvent.Resolved(reference, image.Digest, image.Platform));
        events.Report(new PullEvent.Planned(image.Layers.Count, image.TotalBytes));
        await KeepDocumentsAsync(image, token);

        Dictionary<Digest, LayerDownload> downloads = image.Blobs.ToDictionary(blob => blob.Digest, blob => new LayerDownload(blob, blobs, events));
        List<LayerSource> sources = [.. image.Layers.Select(layer => ToSource(layer, downloads[layer.Blob.Digest], events))];
        OverlayExtraction? overlay = options.ExtractLayers ? new OverlayExtraction(sources, layers, options.Outputs.Extract) : null;
        using Outputs outputs = new(options.Outputs, image.Manifest.Descriptor.Digest, sources, catalog);
        outputs.Check();
        await RunAsync(image, downloads.Values, overlay, outputs, options, token);
        await outputs.WriteArchiveAsync(token);
        await catalog.RecordAsync(ToRecord(image, clock.GetUtcNow()), token);
        outputs.Publish();

        ExtractReport? extracted = outputs.Report ?? ExtractReport.Sum(overlay?.Reports);
        foreach (string loss in Losses.Of(extracted, options.Outputs.Extract))
        {
            events.Report(new PullEvent.Warning(loss));
        }

        return new PullResult(
            reference.ToString(),
            reference.Name,
            image.Digest,
            image.Manifest.Descriptor.Digest,
            image.Config.Descriptor.Digest,
            image.Platform,
            [.. image.Layers.Select((layer, i) => ToResult(layer, downloads[layer.Blob.Digest], overlay?.Paths[i] ?? outputs.LayerPaths?[i], overlay?.Reports[i] ?? outputs.LayerReports?[i]))],
            image.TotalBytes,
            downloads.Values.Sum(download => download.DownloadedBytes),
            options.Outputs.Rootfs,
            extracted,
            events.Texts,
            clock.GetElapsedTime(begun))
        {
            NoImage = image.NoImage,
        };
    }

    private async Task<ResolvedImage> ResolveAsync(Reference reference, PullOptions options, IProgress<PullEvent> events, CancellationToken token)
    {
        events.Report(new PullEvent.Resolving(reference));
        PullPolicy policy = options.Policy ?? (reference.Digest is null ? PullPolicy.Newer : PullPolicy.Missing);
        PulledImage? image = catalog.Find(reference, options.Platform);
        if (image is null && policy == PullPolicy.Never)
        {
            throw new PullException(PullError.NotInStore, $"{reference}: not in the store for platform {options.Platform}, and no registry may be asked");
        }

        Digest? known = image?.Digest;
        if (registry is not null && policy is PullPolicy.Newer or PullPolicy.Always)
        {
            // what is not known at all is asked for at once; else the one HEAD is enough where nothing has changed
            known = known is null ? null : await registry.FindDigestAsync(reference.Repository, reference.Selector, token) is { } now && blobs.Has(now) ? now : null;
        }

        await CheckTagAsync(reference, options, token);
        ImageResolver resolver = new(registry, blobs, events) { MustBeImage = options.ExtractLayers || options.Outputs.AreAsked };
        return await resolver.ResolveAsync(reference, known, options.Platform, options.PlatformIsExplicit, token);
    }

    private static LayerSource ToSource(PlannedLayer layer, LayerDownload download, IProgress<PullEvent> events) =>
        new(layer, download.Open, () => download.Completion, events);

    // What a header says is enough to agree; to disagree, the document itself is asked for.
    private async Task CheckTagAsync(Reference reference, PullOptions options, CancellationToken token)
    {
        if (!options.CheckTag)
        {
            return;
        }

        if (registry is null || reference is not { Tag: { } tag, Digest: { } expected })
        {
            throw new PullException(PullError.Usage, $"{reference}: --check-tag needs NAME:TAG@DIGEST and a registry to ask");
        }

        if (await registry.FindDigestAsync(reference.Repository, tag, token) != expected
            && (await registry.GetManifestAsync(reference.Repository, tag, token)).Digest is var actual && actual != expected)
        {
            throw new PullException(PullError.Unexpected, $"{reference}: the tag points to {actual}, not to {expected}");
        }
    }

    private async Task KeepDocumentsAsync(ResolvedImage image, CancellationToken token)
    {
        foreach (Document document in new[] { image.Index, image.Manifest, image.Config }.OfType<Document>().Concat(image.Between))
        {
            await blobs.PutAsync(document.Descriptor, document.Content, token);
        }

        // a layer may be inside its manifest
        foreach (Descriptor blob in image.Blobs)
        {
            if (blob.VerifiedData is { } embedded)
            {
                await blobs.PutAsync(blob, embedded, token);
            }
        }
    }

    private async Task RunAsync(
        ResolvedImage image,
        IReadOnlyCollection<LayerDownload> downloads,
        OverlayExtraction? overlay,
        Outputs outputs,
        PullOptions options,
        CancellationToken token)
    {
        using WorkGroup work = new(token);
        long missing = downloads.Where(download => !blobs.Contains(download.Blob)).Sum(download => download.Blob.Size);
        ConnectionBudget budget = new(Math.Max(options.Jobs, options.Connections), missing, clock, blobsAtFirst: BlobsAtFirst);
        DownloadQueue queue = new(options.Jobs, budget, clock);
        TransferLimits limits = new(budget, options.Connections, options.LimitRate is { } rate ? new RateLimiter(rate, clock) : null);

        // Bottom-up, so that what an applier waits for is always being fetched, and the lowest first. Where nobody waits, the largest first:
        // the whole ends when the last one does.
        IEnumerable<LayerDownload> order = overlay is null && !options.Outputs.AreAsked ? downloads.OrderByDescending(download => download.Blob.Size) : downloads;
        foreach (LayerDownload download in order)
        {
            download.Completion = work.Run(cancel =>
                queue.RunAsync(turn => download.RunAsync(registry, image.Reference.Repository, limits, turn, cancel), cancel));
        }

        overlay?.Start(work);
        outputs.Start(work);
        await work.AwaitAllAsync();
    }

    private static PulledImage ToRecord(ResolvedImage image, DateTimeOffset now) => new(
        image.Reference.ToString(),
        image.Reference.Name,
        image.Platform,
        image.Index is null ? null : ToStored(image.Index),
        ToStored(image.Manifest),
        ToStored(image.Config),
        [.. image.Layers.Select(layer => new StoredLayer(layer.Blob, layer.DiffId))],
        now);

    private static StoredDocument ToStored(Document document) =>
        new(document.Descriptor.MediaType, document.Descriptor.Digest, document.Content);

    private static PulledLayer ToResult(PlannedLayer layer, LayerDownload download, string? path, ExtractReport? extracted) => new(
        layer.Blob, layer.DiffId, layer.ChainId, download.State, download.ResumedFrom, path, extracted);
}
