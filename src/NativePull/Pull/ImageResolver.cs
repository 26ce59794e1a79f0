using System.Globalization;
using NativePull.Oci;
using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// Follows a reference to one platform's image: index → manifest → config. What is named by digest is taken from the store where it is
/// there, so that a second pull asks for at most the one document a tag names.
/// </summary>
/// <param name="registry">Null: offline; what the store lacks is an error.</param>
internal sealed class ImageResolver(RegistryClient? registry, BlobStore? blobs, IProgress<PullEvent> progress)
{
    /// <summary>Bytes; distribution-spec, "Pulling manifests", asks registries to accept at least this much.</summary>
    internal const long MaximumManifest = 4 * 1024 * 1024;

    /// <summary>Bytes; a config with a long history stays far below.</summary>
    internal const long MaximumConfig = 8 * 1024 * 1024;

    /// <summary>It is to become files: what cannot is refused before more of it is fetched.</summary>
    internal bool MustBeImage { get; init; }

    /// <exception cref="PullException">NotFound, PlatformNotFound, NotInStore, Malformed, Unsupported, DigestMismatch, and the registry's.</exception>
    internal async Task<ResolvedImage> ResolveAsync(Reference reference, Digest? known, Platform platform, bool explicitly, CancellationToken token)
    {
        Document document = known is { } digest
            ? await GetDocumentAsync(reference, digest, null, null, token)
            : await FetchAsync(reference, reference.Selector, token);
        bool isIndex = MediaTypes.IsIndex(document.Descriptor.MediaType);
        IndexWalk walk = new(
            reference.ToString(),
            platform,
            (named, cancel) => GetDocumentAsync(reference, named, cancel),
            (config, cancel) => GetConfigAsync(reference, config, cancel),
            absent => registry is null && absent.Reason == PullError.NotInStore);
        Document manifest = await walk.ToManifestAsync(document, token);
        ResolvedImage image = await WithConfigAsync(reference, isIndex ? document : null, manifest, platform, explicitly, token);
        return image with { Between = [.. walk.Way.Where(index => !ReferenceEquals(index, document))] };
    }

    private async Task<ResolvedImage> WithConfigAsync(
        Reference reference, Document? index, Document document, Platform platform, bool explicitly, CancellationToken token)
    {
        ImageManifest manifest = OciJson.ParseManifest(document.Content, document.Descriptor.MediaType, $"{reference.Name}@{document.Descriptor.Digest}");
        if (MustBeImage && manifest.NoImage is { } problem)
        {
            throw new PullException(PullError.Unsupported, $"{reference}: {problem}: there is nothing to extract; pulled without that, its blobs are kept as they are");
        }

        byte[] content = await GetConfigAsync(reference, manifest.Config, token);
        var configDocument = new Document(manifest.Config, content);
        if (manifest.NoImage is { } why)
        {
            return new ResolvedImage(
                reference, index, document, configDocument, platform, [.. manifest.Layers.Select(blob => new PlannedLayer(blob, blob.Digest, new ChainId(blob.Digest)))])
            {
                NoImage = why,
            };
        }

        ImageConfig config = OciJson.ParseConfig(content, $"{reference.Name}@{manifest.Config.Digest}");
        IReadOnlyList<PlannedLayer> layers = ImagePlan.Layers(reference.ToString(), manifest, config);
        Platform actual = ImagePlan.CheckPlatform(reference.ToString(), config.Platform, platform, explicitly, progress);
        return new ResolvedImage(reference, index, document, configDocument, actual, layers);
    }

    // A document named by digest: from the store, else from the registry.
    private Task<Document> GetDocumentAsync(Reference reference, Descriptor named, CancellationToken token) =>
        GetDocumentAsync(reference, named.Digest, named.Size, named.VerifiedData, token);

    private async Task<Document> GetDocumentAsync(Reference reference, Digest digest, long? size, byte[]? embedded, CancellationToken token)
    {
        if ((embedded ?? TryRead(digest, MaximumManifest)) is { } content)
        {
            string mediaType = OciJson.MediaTypeOf(content, $"{reference.Name}@{digest}") ?? "";
            return new Document(new Descriptor(mediaType, digest, content.Length), content);
        }

        Document fetched = await FetchAsync(reference, digest.ToString(), token);
        if (size is { } expected && expected != fetched.Content.Length)
        {
            throw new PullException(
                PullError.SizeMismatch,
                $"{reference.Name}@{digest}: expected {Count(expected)} bytes, as its index says, got {Count(fetched.Content.Length)}");
        }

        return fetched;
    }

    // What is damaged counts as absent where it can be had again.
    private byte[]? TryRead(Digest digest, long limit)
    {
        try
        {
            return blobs?.TryRead(digest, limit);
        }
        catch (PullException damaged) when (damaged.Reason == PullError.StoreDamaged && registry is not null)
        {
            progress.Report(new PullEvent.Warning($"{damaged.Message}; it is fetched anew"));
            return null;
        }
    }

    private async Task<Document> FetchAsync(Reference reference, string selector, CancellationToken token)
    {
        if (registry is null)
        {
            throw new PullException(PullError.NotInStore, $"{reference}: not in the store");
        }

        FetchedManifest fetched = await registry.GetManifestAsync(reference.Repository, selector, token);
        // a document's own word counts where the transport's is missing or not one of the four kinds
        string mediaType = MediaTypes.Manifests.Contains(fetched.MediaType)
            ? fetched.MediaType
            : OciJson.MediaTypeOf(fetched.Content, $"{reference.Name}@{fetched.Digest}") ?? fetched.MediaType;
        return new Document(new Descriptor(mediaType, fetched.Digest, fetched.Content.Length), fetched.Content);
    }

    private async Task<byte[]> GetConfigAsync(Reference reference, Descriptor config, CancellationToken token)
    {
        if ((config.VerifiedData ?? TryRead(config.Digest, MaximumConfig)) is { } content)
        {
            return content;
        }

        if (registry is null)
        {
            throw new PullException(PullError.NotInStore, $"{reference}: config {config.Digest} is not in the store");
        }

        return await registry.GetSmallBlobAsync(reference.Repository, config, MaximumConfig, token);
    }

    private static string Count(long number) => number.ToString(CultureInfo.InvariantCulture);
}
