using System.Globalization;
using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>From documents to the layers of one image, wherever the documents were found; what does not fit together is refused here.</summary>
internal static class ImagePlan
{
    /// <summary>An index of indexes is legal; deeper is a loop or a joke.</summary>
    private const int MaximumDepth = 3;

    /// <exception cref="PullException">Unsupported.</exception>
    internal static void CheckDepth(string what, int depth)
    {
        if (depth == MaximumDepth)
        {
            throw new PullException(PullError.Unsupported, $"{what}: indexes are nested deeper than {MaximumDepth}");
        }
    }

    /// <summary>The manifest of an image of layers.</summary>
    /// <exception cref="PullException">Malformed, Unsupported.</exception>
    internal static ImageManifest Manifest(string what, Document document)
    {
        if (!MediaTypes.IsManifest(document.Descriptor.MediaType))
        {
            throw new PullException(
                PullError.Unsupported,
                $"{what}: media type \"{document.Descriptor.MediaType}\" is not supported (an image manifest or index of OCI or Docker schema 2 is)");
        }

        ImageManifest manifest = OciJson.ParseManifest(document.Content, document.Descriptor.MediaType);
        if (!MediaTypes.IsImageConfig(manifest.Config.MediaType))
        {
            throw new PullException(PullError.Unsupported, $"{what}: config media type \"{manifest.Config.MediaType}\" is not an image's");
        }

        foreach (Descriptor layer in manifest.Layers)
        {
            if (!MediaTypes.IsLayer(layer.MediaType))
            {
                throw new PullException(PullError.Unsupported, $"{what}: layer {layer.Digest} has media type \"{layer.MediaType}\", which is not a tar layer's");
            }
        }

        return manifest;
    }

    /// <summary>Blobs and diff IDs joined, bottom first.</summary>
    /// <exception cref="PullException">Malformed: their counts differ.</exception>
    internal static IReadOnlyList<PlannedLayer> Layers(string what, ImageManifest manifest, ImageConfig config)
    {
        if (config.DiffIds.Count != manifest.Layers.Count)
        {
            throw new PullException(
                PullError.Malformed,
                $"{what}: the manifest has {Count(manifest.Layers.Count)} layers, but the config {Count(config.DiffIds.Count)} diff IDs");
        }

        IReadOnlyList<ChainId> chain = ChainId.Of(config.DiffIds);
        return [.. manifest.Layers.Select((blob, i) => new PlannedLayer(blob, config.DiffIds[i], chain[i]))];
    }

    /// <summary>The manifest of an index that is for a platform.</summary>
    /// <exception cref="PullException">PlatformNotFound.</exception>
    internal static Descriptor Choose(string what, ImageIndex index, Platform platform)
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
                $"{what}: nothing for platform {platform}; there is: {(offered.Length == 0 ? "no image with a platform" : offered)}");
        }

        return images[picked];
    }

    /// <summary>What the image is for, as its config says; another platform than the one wanted is a warning, or an error where it was asked for.</summary>
    /// <exception cref="PullException">PlatformNotFound.</exception>
    internal static Platform CheckPlatform(string what, Platform actual, Platform wanted, bool explicitly, IProgress<PullEvent> progress)
    {
        if (actual.Os.Length == 0 || actual.Architecture.Length == 0)
        {
            return wanted;
        }

        if (wanted.PickFrom([actual]) < 0)
        {
            string problem = $"{what}: the image is for {actual}, not for {wanted}";
            if (explicitly)
            {
                throw new PullException(PullError.PlatformNotFound, problem);
            }

            progress.Report(new PullEvent.Warning(problem));
        }

        return actual;
    }

    private static string Count(long number) => number.ToString(CultureInfo.InvariantCulture);
}
