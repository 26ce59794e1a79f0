using System.Text.Json;
using System.Text.Json.Serialization;

namespace NativePull.Oci;

/// <summary>One image of manifest.json in the archives of <c>docker save</c> (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format").</summary>
/// <param name="Config">The config's file in the archive.</param>
/// <param name="RepoTags">References; empty where the image has none.</param>
/// <param name="Layers">The layers' files in the archive, bottom first.</param>
internal sealed record DockerArchiveImage(string Config, IReadOnlyList<string> RepoTags, IReadOnlyList<string> Layers)
{
    /// <exception cref="PullException">Malformed.</exception>
    internal static IReadOnlyList<DockerArchiveImage> Parse(byte[] manifest)
    {
        DockerArchiveDocument?[] documents;
        try
        {
            documents = JsonSerializer.Deserialize(manifest, DockerArchiveContext.Default.DockerArchiveDocumentArray)
                ?? throw new PullException(PullError.Malformed, "manifest.json: expected an array, got null");
        }
        catch (JsonException malformed)
        {
            throw new PullException(PullError.Malformed, "manifest.json: malformed JSON", malformed);
        }

        return [.. documents.Select((document, i) => new DockerArchiveImage(
            document?.Config ?? throw Missing(i, "Config"),
            [.. (document.RepoTags ?? []).OfType<string>()],
            [.. (document.Layers ?? throw Missing(i, "Layers")).Select(layer => layer ?? throw Missing(i, "Layers"))]))];
    }

    private static PullException Missing(int image, string member) => new(PullError.Malformed, $"manifest.json: [{image}].{member} is missing");
}

internal sealed record DockerArchiveDocument(string? Config, string?[]? RepoTags, string?[]? Layers);

[JsonSerializable(typeof(DockerArchiveDocument[]))]
internal sealed partial class DockerArchiveContext : JsonSerializerContext;
