using System.Globalization;
using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>
/// Finds one image in what <c>docker save</c> or <c>podman save</c> wrote: manifest.json and the files it names, in the layout of any Docker since 1.10
/// (one directory a layer, links between equal ones) or that of Docker 25 and later (an OCI layout beside it, files named by digest).
/// </summary>
internal sealed class DockerSource(SourceName name, ImageFiles files, IProgress<PullEvent> progress)
{
    private const string LayerType = "application/vnd.docker.image.rootfs.diff.tar";

    /// <exception cref="PullException">NotFound, Usage, PlatformNotFound, Malformed, Unsupported, DigestMismatch, LimitPassed.</exception>
    internal SourceImage Find(Platform platform, bool explicitly)
    {
        byte[] manifest = files.TryRead("manifest.json", ImageResolver.MaximumManifest) ?? throw NoManifest();
        DockerArchiveImage image = Choose(DockerArchiveImage.Parse(manifest, name.Text));
        byte[] content = files.TryRead(image.Config, ImageResolver.MaximumConfig)
            ?? throw new PullException(PullError.Malformed, $"{name.Text}: its config {image.Config} is missing");
        Digest digest = Digest.Of(content);
        if (DigestIn(image.Config) is { } promised && !promised.Matches(content))
        {
            throw new PullException(PullError.DigestMismatch, $"{name.Text}: config: expected {promised}, got {digest}");
        }

        ImageConfig config = OciJson.ParseConfig(content, $"{name.Text}: {image.Config}");
        if (config.DiffIds.Count != image.Layers.Count)
        {
            throw new PullException(
                PullError.Malformed,
                $"{name.Text}: manifest.json has {Text(image.Layers.Count)} layers, but the config {Text(config.DiffIds.Count)} diff IDs");
        }

        Platform actual = ImagePlan.CheckPlatform(name.Text, config.Platform, platform, explicitly, progress);
        IReadOnlyList<ChainId> chain = ChainId.Of(config.DiffIds);
        List<PlannedLayer> layers = [];
        List<Func<CancellationToken, Stream>> open = [];
        for (int i = 0; i < image.Layers.Count; i++)
        {
            string path = image.Layers[i];
            using Stream file = Open(path);
            // where the file's name is no digest, the diff ID is all that is promised
            Descriptor blob = new(LayerType, DigestIn(path) ?? config.DiffIds[i], file.Length);
            layers.Add(new PlannedLayer(blob, config.DiffIds[i], chain[i]));
            open.Add(DigestIn(path) is null ? _ => Open(path) : _ => SourceImage.OpenBlob(name.Text, files, path, blob));
        }

        return new SourceImage(digest, null, new Descriptor(MediaTypes.DockerConfig, digest, content.Length), actual, layers, open);
    }

    /// <summary>Whether two texts are the same reference once Docker's short forms are completed.</summary>
    internal static bool AreSame(string one, string other) =>
        Reference.TryParse(one, out Reference? first, out _) && Reference.TryParse(other, out Reference? second, out _) && first.ToString() == second.ToString();

    private DockerArchiveImage Choose(IReadOnlyList<DockerArchiveImage> images)
    {
        IEnumerable<string> offered = images.SelectMany((image, i) => image.RepoTags.DefaultIfEmpty("@" + Text(i)));
        if (name.Position is { } position)
        {
            return position < images.Count
                ? images[position]
                : throw SourceImage.NotChosen(PullError.NotFound, name.Text, $"there are only {Text(images.Count)} images, counted from 0", offered);
        }

        if (name.Selector is not { } selector)
        {
            return images.Count == 1
                ? images[0]
                : throw SourceImage.NotChosen(
                    images.Count == 0 ? PullError.NotFound : PullError.Usage,
                    name.Text,
                    images.Count == 0 ? "has no image" : "has several images, name one with :REFERENCE or :@N",
                    offered);
        }

        List<DockerArchiveImage> found = [.. images.Where(image => image.RepoTags.Any(tag => AreSame(tag, selector)))];
        if (found.Count == 0)
        {
            // a tag alone, where that says enough
            found = [.. images.Where(image => image.RepoTags.Any(tag => tag.EndsWith(":" + selector, StringComparison.Ordinal)))];
        }

        return found.Count switch
        {
            1 => found[0],
            0 => throw SourceImage.NotChosen(PullError.NotFound, name.Text, $"has no image \"{selector}\"", offered),
            _ => throw SourceImage.NotChosen(PullError.Usage, name.Text, $"has several images \"{selector}\", name one with :REFERENCE or :@N", offered),
        };
    }

    private Stream Open(string path) =>
        files.TryOpen(path) ?? throw new PullException(PullError.Malformed, $"{name.Text}: its layer {path} is missing");

    private PullException NoManifest()
    {
        using Stream? layout = files.TryOpen("oci-layout");
        using Stream? repositories = files.TryOpen("repositories");
        return layout is not null ? new PullException(PullError.Malformed, $"{name.Text}: has no manifest.json; it is an OCI layout, which oci-archive: reads")
            : repositories is not null ? new PullException(PullError.Unsupported, $"{name.Text}: has no manifest.json; what Docker saved before 1.10 is not supported")
            : new PullException(PullError.Malformed, $"{name.Text}: has no manifest.json, so docker save did not write it");
    }

    // blobs/ALGORITHM/HEX, and HEX.json for configs.
    private static Digest? DigestIn(string path)
    {
        string[] parts = path.Split('/');
        string text = parts is ["blobs", var algorithm, var hex] ? $"{algorithm}:{hex}"
            : path.EndsWith(".json", StringComparison.Ordinal) ? $"sha256:{path[..^5]}"
            : "";
        return Digest.TryParse(text, out Digest digest) ? digest : null;
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
