using System.Text.Json;
using System.Text.Json.Serialization;

namespace NativePull.Oci;

/// <summary>
/// The three documents from their bytes. Unknown members are ignored; a missing or impossible one is
/// <see cref="PullError.Malformed"/> naming the document and the member.
/// </summary>
internal static class OciJson
{
    private const int SchemaVersion = 2;
    private const int MaximumShown = 100; // characters of a stranger's text in a message

    /// <summary>The document's kind: its own word, else the transport's where that names one, else its shape's; null where nothing tells.</summary>
    /// <param name="name">The document's, for messages.</param>
    /// <param name="header">What the transport called it; null where it said nothing.</param>
    /// <exception cref="PullException">Malformed.</exception>
    internal static string? MediaTypeOf(byte[] content, string name, string? header = null)
    {
        DocumentKind kind = JsonFault.Read(content, OciJsonContext.Default.DocumentKind, $"{name}: manifest");
        return kind.MediaType is { Length: > 0 } said ? said
            : MediaTypes.IsIndex(header) || MediaTypes.IsManifest(header) ? header
            : kind.SchemaVersion == 1 ? "application/vnd.docker.distribution.manifest.v1+json"
            : kind.Manifests is not null ? MediaTypes.OciIndex
            : kind.Layers is not null || kind.Config is not null ? MediaTypes.OciManifest
            : null;
    }

    /// <param name="name">The document's, for messages.</param>
    /// <exception cref="PullException">Malformed.</exception>
    internal static ImageIndex ParseIndex(byte[] content, string mediaType, string name)
    {
        string what = $"{name}: index";
        IndexDocument document = JsonFault.Read(content, OciJsonContext.Default.IndexDocument, what);
        CheckSchema(document.SchemaVersion, what);
        CheckKind(document.Layers ?? document.Config, what, "layers or a config");
        DescriptorDocument?[] manifests = document.Manifests ?? throw Missing(what, "manifests");
        return new ImageIndex(mediaType, [.. manifests.Select((d, i) => ToDescriptor(d, what, $"manifests[{i}]"))]);
    }

    /// <param name="name">The document's, for messages.</param>
    /// <exception cref="PullException">Malformed.</exception>
    internal static ImageManifest ParseManifest(byte[] content, string mediaType, string name)
    {
        string what = $"{name}: manifest";
        ManifestDocument document = JsonFault.Read(content, OciJsonContext.Default.ManifestDocument, what);
        CheckSchema(document.SchemaVersion, what);
        CheckKind(document.Manifests, what, "manifests");
        DescriptorDocument config = document.Config ?? throw Missing(what, "config");
        // null, where Go wrote an image without any; that none is missing, the config says
        DescriptorDocument?[] layers = document.Layers ?? [];
        ImageManifest manifest = new(
            mediaType,
            ToDescriptor(config, what, "config"),
            [.. layers.Select((d, i) => ToDescriptor(d, what, $"layers[{i}]"))],
            document.ArtifactType);
        return manifest.Layers.Aggregate(UInt128.Zero, (sum, layer) => sum + (UInt128)layer.Size) <= long.MaxValue
            ? manifest
            : throw new PullException(PullError.Malformed, $"{what}: its layers have more bytes together than a number can say");
    }

    /// <summary>Only what a config says about its platform; null where the bytes are no such document.</summary>
    internal static Platform? PlatformOf(byte[] config)
    {
        try
        {
            return ParseConfig(config, "").Platform;
        }
        catch (PullException)
        {
            return null;
        }
    }

    /// <param name="name">The document's, for messages.</param>
    /// <exception cref="PullException">Malformed.</exception>
    internal static ImageConfig ParseConfig(byte[] content, string name)
    {
        string what = $"{name}: config";
        ConfigDocument document = JsonFault.Read(content, OciJsonContext.Default.ConfigDocument, what);
        // an image without layers has none, or null, where Go wrote it (moby, image/rootfs.go, "omitempty")
        string?[] diffIds = (document.RootFs ?? throw Missing(what, "rootfs.diff_ids")).DiffIds ?? [];
        return new ImageConfig(
            new Platform(document.Os ?? "", document.Architecture ?? "", document.Variant is { Length: > 0 } variant ? variant : null),
            [.. diffIds.Select((text, i) => Digest.TryParse(text, out Digest diffId)
                ? diffId
                : throw new PullException(PullError.Malformed, $"{what}: rootfs.diff_ids[{i}] is {Shown(text)}, which is not a digest"))],
            document.Created);
    }

    private static Descriptor ToDescriptor(DescriptorDocument? document, string what, string member)
    {
        if (document is null)
        {
            throw Missing(what, member);
        }

        if (!Digest.TryParse(document.Digest, out Digest digest))
        {
            throw new PullException(PullError.Malformed, $"{what}: {member}.digest is {Shown(document.Digest)}, which is not a digest");
        }

        if (document.Size is not { } size || size < 0)
        {
            throw new PullException(PullError.Malformed, $"{what}: {member}.size is {document.Size?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "missing"}, expected a number of bytes");
        }

        return new Descriptor(document.MediaType ?? "", digest, size)
        {
            Platform = document.Platform is { } platform
                ? new Platform(platform.Os ?? "", platform.Architecture ?? "", platform.Variant is { Length: > 0 } variant ? variant : null)
                : null,
            Annotations = document.Annotations ?? [],
            Urls = document.Urls ?? [],
            Data = document.Data,
        };
    }

    private static void CheckSchema(int? version, string what)
    {
        if (version is not null and not SchemaVersion)
        {
            throw new PullException(PullError.Unsupported, $"{what}: schema version {version} is not supported, only {SchemaVersion}");
        }
    }

    // A document that can be read as either kind would be two images under one digest (image-spec, manifest.md, "mediaType").
    private static void CheckKind(JsonElement? foreign, string what, string member)
    {
        if (foreign is { ValueKind: not JsonValueKind.Null })
        {
            throw new PullException(PullError.Malformed, $"{what}: has {member} as well, so it is unclear what it is");
        }
    }

    private static string Shown(string? text) => text is null ? "missing" : $"\"{(text.Length > MaximumShown ? text[..MaximumShown] + "…" : text)}\"";

    private static PullException Missing(string what, string member) => new(PullError.Malformed, $"{what}: {member} is missing");
}

internal sealed record DocumentKind(int? SchemaVersion, string? MediaType, JsonElement? Manifests, JsonElement? Layers, JsonElement? Config);

internal sealed record PlatformDocument(string? Os, string? Architecture, string? Variant);

internal sealed record DescriptorDocument(string? MediaType, string? Digest, long? Size, PlatformDocument? Platform, Dictionary<string, string>? Annotations, string[]? Urls, byte[]? Data);

internal sealed record IndexDocument(int? SchemaVersion, DescriptorDocument?[]? Manifests, JsonElement? Layers, JsonElement? Config);

internal sealed record ManifestDocument(int? SchemaVersion, DescriptorDocument? Config, DescriptorDocument?[]? Layers, JsonElement? Manifests, string? ArtifactType);

internal sealed record RootFsDocument([property: JsonPropertyName("diff_ids")] string?[]? DiffIds);

internal sealed record ConfigDocument(string? Os, string? Architecture, string? Variant, string? Created, [property: JsonPropertyName("rootfs")] RootFsDocument? RootFs);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(DocumentKind))]
[JsonSerializable(typeof(IndexDocument))]
[JsonSerializable(typeof(ManifestDocument))]
[JsonSerializable(typeof(ConfigDocument))]
internal sealed partial class OciJsonContext : JsonSerializerContext;
