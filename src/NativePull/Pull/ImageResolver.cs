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

    // An index of indexes is legal; deeper is a loop or a joke.
    private const int MaximumDepth = 3;

    /// <exception cref="PullException">NotFound, PlatformNotFound, NotInStore, Malformed, Unsupported, DigestMismatch, and the registry's.</exception>
    internal async Task<ResolvedImage> ResolveAsync(Reference reference, Digest? known, Platform platform, bool explicitly, CancellationToken token)
    {
        Document document = known is { } digest
            ? await GetDocumentAsync(reference, digest, null, token)
            : await FetchAsync(reference, reference.Selector, token);
        Document? index = null;

        for (int depth = 0; MediaTypes.IsIndex(document.Descriptor.MediaType); depth++)
        {
            if (depth == MaximumDepth)
            {
                throw new PullException(PullError.Unsupported, $"{reference}: indexes are nested deeper than {MaximumDepth}");
            }

            index ??= document;
            Descriptor chosen = Choose(reference, OciJson.ParseIndex(document.Content, document.Descriptor.MediaType), platform);
            document = await GetDocumentAsync(reference, chosen.Digest, chosen.Size, token);
        }

        if (!MediaTypes.IsManifest(document.Descriptor.MediaType))
        {
            throw new PullException(
                PullError.Unsupported,
                $"{reference}: media type \"{document.Descriptor.MediaType}\" is not supported (an image manifest or index of OCI or Docker schema 2 is)");
        }

        return await WithConfigAsync(reference, index, document, platform, explicitly, token);
    }

    private async Task<ResolvedImage> WithConfigAsync(
        Reference reference, Document? index, Document document, Platform platform, bool explicitly, CancellationToken token)
    {
        ImageManifest manifest = OciJson.ParseManifest(document.Content, document.Descriptor.MediaType);
        if (!MediaTypes.IsImageConfig(manifest.Config.MediaType))
        {
            throw new PullException(PullError.Unsupported, $"{reference}: config media type \"{manifest.Config.MediaType}\" is not an image's");
        }

        foreach (Descriptor layer in manifest.Layers)
        {
            if (!MediaTypes.IsLayer(layer.MediaType))
            {
                throw new PullException(PullError.Unsupported, $"{reference}: layer {layer.Digest} has media type \"{layer.MediaType}\", which is not a tar layer's");
            }
        }

        byte[] content = await GetConfigAsync(reference, manifest.Config, token);
        ImageConfig config = OciJson.ParseConfig(content);
        if (config.DiffIds.Count != manifest.Layers.Count)
        {
            throw new PullException(
                PullError.Malformed,
                $"{reference}: the manifest has {Count(manifest.Layers.Count)} layers, but the config {Count(config.DiffIds.Count)} diff IDs");
        }

        Platform actual = CheckPlatform(reference, config.Platform, platform, explicitly);
        IReadOnlyList<ChainId> chain = ChainId.Of(config.DiffIds);
        return new ResolvedImage(
            reference,
            index,
            document,
            new Document(manifest.Config, content),
            actual,
            [.. manifest.Layers.Select((blob, i) => new PlannedLayer(blob, config.DiffIds[i], chain[i]))]);
    }

    private static Descriptor Choose(Reference reference, ImageIndex index, Platform platform)
    {
        // attestations and other companions are not images: BuildKit gives them the platform unknown/unknown and an annotation
        List<Descriptor> images =
        [
            .. index.Manifests.Where(d =>
                (MediaTypes.IsManifest(d.MediaType) || MediaTypes.IsIndex(d.MediaType))
                && d.Platform is not { Os: "unknown" }
                && !d.Annotations.ContainsKey("vnd.docker.reference.type")),
        ];
        int picked = platform.PickFrom([.. images.Select(d => d.Platform)]);
        if (picked < 0 && images.Count == 1 && images[0].Platform is null)
        {
            // one image of no stated platform: its config will tell
            picked = 0;
        }

        if (picked < 0)
        {
            string offered = string.Join(", ", images.Where(d => d.Platform is not null).Select(d => d.Platform!.ToString()).Distinct());
            throw new PullException(
                PullError.PlatformNotFound,
                $"{reference}: nothing for platform {platform}; there is: {(offered.Length == 0 ? "no image with a platform" : offered)}");
        }

        return images[picked];
    }

    private Platform CheckPlatform(Reference reference, Platform actual, Platform wanted, bool explicitly)
    {
        if (actual.Os.Length == 0 || actual.Architecture.Length == 0)
        {
            return wanted;
        }

        if (wanted.PickFrom([actual]) < 0)
        {
            string problem = $"{reference}: the image is for {actual}, not for {wanted}";
            if (explicitly)
            {
                throw new PullException(PullError.PlatformNotFound, problem);
            }

            progress.Report(new PullEvent.Warning(problem));
        }

        return actual;
    }

    // A document named by digest: from the store, else from the registry.
    private async Task<Document> GetDocumentAsync(Reference reference, Digest digest, long? size, CancellationToken token)
    {
        if (TryRead(digest, MaximumManifest) is { } content)
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
        if (TryRead(config.Digest, MaximumConfig) is { } content)
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
