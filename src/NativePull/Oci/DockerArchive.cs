using System.Text.Json.Serialization;

namespace NativePull.Oci;

/// <summary>One image of manifest.json in the archives of <c>docker save</c> (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format").</summary>
/// <param name="Config">The config's file in the archive.</param>
/// <param name="RepoTags">References; empty where the image has none.</param>
/// <param name="Layers">The layers' files in the archive, bottom first.</param>
internal sealed record DockerArchiveImage(string Config, IReadOnlyList<string> RepoTags, IReadOnlyList<string> Layers)
{
    /// <param name="name">The archive's, for messages.</param>
    /// <exception cref="PullException">Malformed.</exception>
    internal static IReadOnlyList<DockerArchiveImage> Parse(byte[] manifest, string name)
    {
        string what = $"{name}: manifest.json";
        DockerArchiveDocument?[] documents = JsonFault.Read(manifest, DockerArchiveContext.Default.DockerArchiveDocumentArray, what);
        return [.. documents.Select((document, i) => new DockerArchiveImage(
            document?.Config ?? throw Missing(what, i, "Config"),
            [.. (document.RepoTags ?? []).OfType<string>()],
            // null where there are none: so Go writes a list that was never begun
            [.. (document.Layers ?? []).Select(layer => layer ?? throw Missing(what, i, "Layers"))]))];
    }

    private static PullException Missing(string what, int image, string member) => new(PullError.Malformed, $"{what}: [{image}].{member} is missing");
}

internal sealed record DockerArchiveDocument(string? Config, string?[]? RepoTags, string?[]? Layers);

[JsonSerializable(typeof(DockerArchiveDocument[]))]
internal sealed partial class DockerArchiveContext : JsonSerializerContext;
