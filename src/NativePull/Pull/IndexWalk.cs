using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>From the document that a name leads to, through indexes, down to the manifest for one platform; wherever documents are found.</summary>
/// <param name="what">Names the image in messages.</param>
/// <param name="read">A manifest or index that an index names.</param>
/// <param name="readConfig">A manifest's config.</param>
/// <param name="isAbsent">Whether a failure to read only says that this is not the image that was kept.</param>
internal sealed class IndexWalk(
    string what,
    Platform platform,
    Func<Descriptor, CancellationToken, Task<Document>> read,
    Func<Descriptor, CancellationToken, Task<byte[]>> readConfig,
    Func<PullException, bool> isAbsent)
{
    // An index of indexes is legal; deeper is a loop or a joke.
    private const int MaximumDepth = 3;

    // Manifests of an index that states no platforms, looked at one by one.
    private const int MaximumUnstated = 16;

    private readonly List<Platform> offered = [];
    private readonly Stack<Document> way = new();

    /// <summary>The indexes gone through, innermost first.</summary>
    internal IReadOnlyCollection<Document> Way => way;

    /// <exception cref="PullException">PlatformNotFound, Malformed, Unsupported, and those of reading.</exception>
    internal async Task<Document> ToManifestAsync(Document start, CancellationToken token) => await FollowAsync(start, token) ?? throw NothingFound();

    /// <summary>The same where an index is not a document of its own.</summary>
    internal async Task<Document> ToManifestAsync(ImageIndex index, CancellationToken token) => await PickAsync(index, token) ?? throw NothingFound();

    // Null: nothing here is for the platform.
    private async Task<Document?> FollowAsync(Document document, CancellationToken token)
    {
        string mediaType = document.Descriptor.MediaType;
        if (!MediaTypes.IsIndex(mediaType))
        {
            return MediaTypes.IsManifest(mediaType) ? document : throw Unsupported(mediaType);
        }

        if (way.Count == MaximumDepth)
        {
            throw new PullException(PullError.Unsupported, $"{what}: indexes are nested deeper than {MaximumDepth}");
        }

        way.Push(document);
        Document? found = await PickAsync(OciJson.ParseIndex(document.Content, mediaType, NameOf(document)), token);
        if (found is null)
        {
            way.Pop();
        }

        return found;
    }

    private async Task<Document?> PickAsync(ImageIndex index, CancellationToken token)
    {
        List<Descriptor> images = Images(index);
        offered.AddRange(images.Select(d => d.Platform).OfType<Platform>());
        int picked = platform.PickFrom([.. images.Select(d => d.Platform)]);
        if (picked >= 0)
        {
            return await FollowAsync(await read(images[picked], token), token);
        }

        // no platform is stated: the configs tell; a single manifest is taken as one without an index would be
        int depth = way.Count;
        foreach (Descriptor candidate in images.Where(d => d.Platform is null).Take(MaximumUnstated))
        {
            try
            {
                Document inner = await read(candidate, token);
                Document? found = await FollowAsync(inner, token);
                if (found is not null && (images.Count == 1 || !ReferenceEquals(found, inner) || await IsForPlatformAsync(found, token)))
                {
                    return found;
                }
            }
            catch (PullException absent) when (isAbsent(absent))
            {
                while (way.Count > depth)
                {
                    way.Pop();
                }
            }
        }

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

    private async Task<bool> IsForPlatformAsync(Document document, CancellationToken token)
    {
        ImageManifest manifest = OciJson.ParseManifest(document.Content, document.Descriptor.MediaType, NameOf(document));
        if (manifest.NoImage is not null || OciJson.PlatformOf(await readConfig(manifest.Config, token)) is not { } actual)
        {
            return false;
        }

        offered.Add(actual);
        return platform.PickFrom([actual]) >= 0;
    }

    private string NameOf(Document document) => $"{what}: {document.Descriptor.Digest}";

    private PullException NothingFound() => new(
        PullError.PlatformNotFound,
        $"{what}: nothing for platform {platform}; there is: {Platform.ListOf(offered)}");

    private PullException Unsupported(string mediaType) => new(
        PullError.Unsupported,
        mediaType.StartsWith("application/vnd.docker.distribution.manifest.v1", StringComparison.Ordinal)
            ? $"{what}: this is a Docker image manifest of schema 1, which has no layers by digest and is not supported (push the image anew to convert it)"
            : $"{what}: media type \"{mediaType}\" is not supported (an image manifest or index of OCI or Docker schema 2 is)");
}
