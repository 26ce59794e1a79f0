namespace NativePull.Oci;

/// <summary>The media types understood (image-spec, media-types.md, and Docker's twins), and the questions asked of them.</summary>
internal static class MediaTypes
{
    internal const string OciIndex = "application/vnd.oci.image.index.v1+json";
    internal const string OciManifest = "application/vnd.oci.image.manifest.v1+json";
    internal const string OciConfig = "application/vnd.oci.image.config.v1+json";
    internal const string DockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
    internal const string DockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
    internal const string DockerConfig = "application/vnd.docker.container.image.v1+json";

    /// <summary>
    /// Always sent together: a registry may answer 404 to a tag whose kind is not among them (GHCR does).
    /// </summary>
    internal static readonly IReadOnlyList<string> Manifests = [OciIndex, OciManifest, DockerList, DockerManifest];

    internal static bool IsIndex(string? mediaType) => mediaType is OciIndex or DockerList;

    internal static bool IsManifest(string? mediaType) => mediaType is OciManifest or DockerManifest;

    internal static bool IsImageConfig(string? mediaType) => mediaType is OciConfig or DockerConfig;

    /// <summary>A change-set in tar form, whatever its compression: magic bytes decide that.</summary>
    internal static bool IsLayer(string? mediaType) => mediaType is not null
        && !mediaType.EndsWith("+encrypted", StringComparison.Ordinal) // no tar before a key has been applied
        && (mediaType.StartsWith("application/vnd.oci.image.layer.v1.tar", StringComparison.Ordinal)
            || mediaType.StartsWith("application/vnd.oci.image.layer.nondistributable.v1.tar", StringComparison.Ordinal)
            || mediaType.StartsWith("application/vnd.docker.image.rootfs.diff.tar", StringComparison.Ordinal)
            || mediaType.StartsWith("application/vnd.docker.image.rootfs.foreign.diff.tar", StringComparison.Ordinal));
}
