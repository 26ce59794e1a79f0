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

    // Manifests of an index that states no platforms, looked at one by one.
    private const int MaximumUnstated = 16;

    /// <summary>It is to become files: what cannot is refused before more of it is fetched.</summary>
    internal bool MustBeImage { get; init; }

    /// <exception cref="PullException">NotFound, PlatformNotFound, NotInStore, Malformed, Unsupported, DigestMismatch, and the registry's.</exception>
    internal async Task<ResolvedImage> ResolveAsync(Reference reference, Digest? known, Platform platform, bool explicitly, CancellationToken token)
    {
        Document document = known is { } digest
            ? await GetDocumentAsync(reference, digest, null, null, token)
            : await FetchAsync(reference, reference.Selector, token);
        bool isIndex = MediaTypes.IsIndex(document.Descriptor.MediaType);
        var offered = new List<Platform>();
        var way = new Stack<Document>();
        Document manifest = await FollowAsync(reference, document, platform, way, offered, token) ?? throw new PullException(
            PullError.PlatformNotFound,
            $"{reference}: nothing for platform {platform}; there is: {(offered.Count == 0 ? "no image with a platform" : string.Join(", ", offered.Distinct()))}");
        ResolvedImage image = await WithConfigAsync(reference, isIndex ? document : null, manifest, platform, explicitly, token);
        return image with { Between = [.. way.Where(index => !ReferenceEquals(index, document))] };
    }

    // Down to the manifest for the platform; null: nothing here is for it. The way holds the indexes gone through.
    private async Task<Document?> FollowAsync(
        Reference reference, Document document, Platform platform, Stack<Document> way, List<Platform> offered, CancellationToken token)
    {
        string mediaType = document.Descriptor.MediaType;
        if (!MediaTypes.IsIndex(mediaType))
        {
            return MediaTypes.IsManifest(mediaType) ? document : throw Unsupported(reference, mediaType);
        }

        if (way.Count == MaximumDepth)
        {
            throw new PullException(PullError.Unsupported, $"{reference}: indexes are nested deeper than {MaximumDepth}");
        }

        way.Push(document);
        List<Descriptor> images = Images(OciJson.ParseIndex(document.Content, mediaType));
        offered.AddRange(images.Select(d => d.Platform).OfType<Platform>());
        int picked = platform.PickFrom([.. images.Select(d => d.Platform)]);
        if (picked >= 0)
        {
            return await FollowAsync(reference, await GetDocumentAsync(reference, images[picked], token), platform, way, offered, token);
        }

        // no platform is stated: the configs tell; a single manifest is taken as one without an index would be
        List<Descriptor> unstated = [.. images.Where(d => d.Platform is null).Take(MaximumUnstated)];
        foreach (Descriptor candidate in unstated)
        {
            try
            {
                Document inner = await GetDocumentAsync(reference, candidate, token);
                Document? found = await FollowAsync(reference, inner, platform, way, offered, token);
                if (found is not null && (images.Count == 1 || !ReferenceEquals(found, inner) || await IsForAsync(reference, found, platform, offered, token)))
                {
                    return found;
                }
            }
            catch (PullException absent) when (registry is null && absent.Reason == PullError.NotInStore)
            {
                // not the one that was pulled
            }
        }

        way.Pop();
        return null;
    }

    // Attestations and other companions are not images: BuildKit gives them the platform unknown/unknown and an annotation.
    private static List<Descriptor> Images(ImageIndex index) =>
    [
        .. index.Manifests.Where(d =>
            (MediaTypes.IsManifest(d.MediaType) || MediaTypes.IsIndex(d.MediaType))
            && d.Platform is not { Os: "unknown" }
            && !d.Annotations.ContainsKey("vnd.docker.reference.type"))
            .Select(d => d.Platform is { Os: "", Architecture: "" } ? d with { Platform = null } : d),
    ];

    private async Task<bool> IsForAsync(Reference reference, Document document, Platform platform, List<Platform> offered, CancellationToken token)
    {
        ImageManifest manifest = OciJson.ParseManifest(document.Content, document.Descriptor.MediaType);
        if (manifest.NoImage is not null || OciJson.PlatformOf(await GetConfigAsync(reference, manifest.Config, token)) is not { } actual)
        {
            return false;
        }

        offered.Add(actual);
        return platform.PickFrom([actual]) >= 0;
    }

    private static PullException Unsupported(Reference reference, string mediaType) => new(
        PullError.Unsupported,
        mediaType.StartsWith("application/vnd.docker.distribution.manifest.v1", StringComparison.Ordinal)
            ? $"{reference}: this is a Docker image manifest of schema 1, which has no layers by digest and is not supported (push the image anew to convert it)"
            : $"{reference}: media type \"{mediaType}\" is not supported (an image manifest or index of OCI or Docker schema 2 is)");

    private async Task<ResolvedImage> WithConfigAsync(
        Reference reference, Document? index, Document document, Platform platform, bool explicitly, CancellationToken token)
    {
        ImageManifest manifest = OciJson.ParseManifest(document.Content, document.Descriptor.MediaType);
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
            reference, index, document, configDocument, actual, [.. manifest.Layers.Select((blob, i) => new PlannedLayer(blob, config.DiffIds[i], chain[i]))]);
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
