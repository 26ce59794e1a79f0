using System.Globalization;
using System.Text.Json;
using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>Finds one image in an OCI image layout (image-spec, image-layout.md), be it a directory or a tar.</summary>
internal sealed class OciSource(SourceName name, ImageFiles files, IProgress<PullEvent> progress)
{
    private const string RefName = "org.opencontainers.image.ref.name";

    // What containerd, and docker save with it, call the image; their ref.name is the tag alone.
    private const string ContainerdName = "io.containerd.image.name";

    /// <exception cref="PullException">NotFound, Usage, PlatformNotFound, Malformed, Unsupported, DigestMismatch, SizeMismatch, LimitPassed.</exception>
    internal async Task<SourceImage> FindAsync(Platform platform, bool explicitly, CancellationToken token)
    {
        CheckLayout();
        byte[] content = files.TryRead("index.json", ImageResolver.MaximumManifest)
            ?? throw new PullException(PullError.Malformed, $"{name.Text}: has no index.json");
        IReadOnlyList<Descriptor> chosen = Choose(OciJson.ParseIndex(content, MediaTypes.OciIndex, $"{name.Text}: index.json"));
        IndexWalk walk = new(
            name.Text,
            platform,
            (descriptor, _) => Task.FromResult(Read(descriptor)),
            (config, _) => Task.FromResult(ReadConfig(config)),
            static _ => false);
        // one name for several platforms is one image
        Document document = chosen.Count == 1
            ? await walk.ToManifestAsync(Read(chosen[0]), token)
            : await walk.ToManifestAsync(new ImageIndex(MediaTypes.OciIndex, chosen), token);
        ImageManifest manifest = OciJson.ParseManifest(document.Content, document.Descriptor.MediaType, $"{name.Text}: {document.Descriptor.Digest}");
        if (manifest.NoImage is { } problem)
        {
            throw new PullException(PullError.Unsupported, $"{name.Text}: {problem}: there is nothing to extract");
        }

        ImageConfig config = OciJson.ParseConfig(ReadConfig(manifest.Config), $"{name.Text}: {manifest.Config.Digest}");
        return new SourceImage(
            (walk.Way.LastOrDefault() ?? document).Descriptor.Digest,
            document.Descriptor.Digest,
            manifest.Config,
            ImagePlan.CheckPlatform(name.Text, config.Platform, platform, explicitly, progress),
            ImagePlan.Layers(name.Text, manifest, config),
            [.. manifest.Layers.Select(blob => (Func<CancellationToken, Stream>)(_ => SourceImage.OpenBlob(name.Text, files, PathOf(blob.Digest), blob)))]);
    }

    private void CheckLayout()
    {
        byte[] content = files.TryRead("oci-layout", ImageResolver.MaximumManifest)
            ?? throw new PullException(PullError.Malformed, $"{name.Text}: is no OCI image layout (it has no oci-layout file)");
        try
        {
            using JsonDocument layout = JsonDocument.Parse(content);
            string? version = layout.RootElement.ValueKind == JsonValueKind.Object && layout.RootElement.TryGetProperty("imageLayoutVersion", out JsonElement said) ? said.ToString() : null;
            if (version != "1.0.0")
            {
                throw new PullException(PullError.Unsupported, $"{name.Text}: image layout version {version ?? "missing"} is not supported, only 1.0.0");
            }
        }
        catch (JsonException malformed)
        {
            throw new PullException(PullError.Malformed, $"{name.Text}: oci-layout: malformed JSON: {JsonFault.Describe(content, malformed)}");
        }
    }

    private IReadOnlyList<Descriptor> Choose(ImageIndex index)
    {
        IEnumerable<string> offered = index.Manifests.Select((each, i) => NameOf(each) ?? "@" + i.ToString(CultureInfo.InvariantCulture)).Distinct();
        if (name.Position is { } position)
        {
            return position < index.Manifests.Count
                ? [index.Manifests[position]]
                : throw SourceImage.NotChosen(PullError.NotFound, name.Text, $"there are only {index.Manifests.Count.ToString(CultureInfo.InvariantCulture)} images, counted from 0", offered);
        }

        List<Descriptor> candidates = [.. index.Manifests.Where(each => name.Selector is null || Matches(each, name.Selector))];
        if (candidates.Count == 0)
        {
            throw SourceImage.NotChosen(PullError.NotFound, name.Text, name.Selector is null ? "has no image" : $"has no image \"{name.Selector}\"", offered);
        }

        if (candidates.Select((each, i) => NameOf(each) ?? "@" + i.ToString(CultureInfo.InvariantCulture)).Distinct().Count() > 1)
        {
            throw SourceImage.NotChosen(PullError.Usage, name.Text, "has several images, name one with :TAG or :@N", offered);
        }

        return candidates;
    }

    private static string? NameOf(Descriptor image) =>
        image.Annotations.GetValueOrDefault(ContainerdName) ?? image.Annotations.GetValueOrDefault(RefName);

    private static bool Matches(Descriptor image, string selector) =>
        image.Annotations.GetValueOrDefault(RefName) is { } tag && (tag == selector || DockerSource.AreSame(tag, selector))
        || (image.Annotations.GetValueOrDefault(ContainerdName) is { } full && (full == selector || DockerSource.AreSame(full, selector)));

    private Document Read(Descriptor descriptor)
    {
        byte[] content = SourceImage.ReadBlob(name.Text, files, PathOf(descriptor.Digest), descriptor, ImageResolver.MaximumManifest);
        string mediaType = OciJson.MediaTypeOf(content, $"{name.Text}: {descriptor.Digest}", descriptor.MediaType) ?? descriptor.MediaType;
        return new Document(descriptor with { MediaType = mediaType }, content);
    }

    private byte[] ReadConfig(Descriptor config) => SourceImage.ReadBlob(name.Text, files, PathOf(config.Digest), config, ImageResolver.MaximumConfig);

    private static string PathOf(Digest digest) => $"blobs/{digest.Algorithm}/{digest.Hex}";
}
