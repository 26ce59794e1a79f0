using System.Globalization;
using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>From manifest and config to the layers of one image, wherever the two were found; what does not fit together is refused here.</summary>
internal static class ImagePlan
{
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
