using System.Text.Json;
using System.Text.Json.Serialization;
using NativePull.Layers;
using NativePull.Oci;
using NativePull.Pull;

namespace NativePull.Cli;

/// <summary>What <c>--json</c> prints: one document a line on stdout. Member names are part of the contract; <c>schema</c> counts its versions.</summary>
internal static class ResultJson
{
    internal const int Schema = 1;

    internal static string Of(PullResult result) => JsonSerializer.Serialize(
        new ResultDocument(
            Schema,
            result.Reference,
            result.Name,
            result.Digest.ToString(),
            result.Manifest?.ToString(),
            result.Platform.ToString(),
            result.Config.ToString(),
            [.. result.Layers.Select(layer => Of(layer, result.NoImage is null))],
            new BytesDocument(result.TotalBytes, result.DownloadedBytes),
            result.Rootfs,
            LostDocument.Of(result.Extracted),
            result.Warnings,
            Math.Round(result.Elapsed.TotalSeconds, 3)),
        ResultJsonContext.Default.ResultDocument);

    internal static string OfFailure(string? reference, PullException failure) => JsonSerializer.Serialize(
        new FailureDocument(
            Schema,
            reference,
            new ErrorDocument(ExitCode.Of(failure.Reason), ExitCode.Name(failure.Reason), failure.Sentence, failure.RetryAfterSeconds)),
        ResultJsonContext.Default.FailureDocument);

    internal static string Of(ImageDocument image) => JsonSerializer.Serialize(image, ResultJsonContext.Default.ImageDocument);

    internal static string Of(LoginDocument login) => JsonSerializer.Serialize(login, ResultJsonContext.Default.LoginDocument);

    private static LayerDocument Of(PulledLayer layer, bool isImage) => new(
        layer.Blob.Digest.ToString(),
        isImage ? layer.DiffId.ToString() : null,
        isImage ? layer.ChainId.ToString() : null,
        layer.Blob.MediaType,
        layer.Blob.Size,
        layer.State switch { LayerState.Present => "present", LayerState.Resumed => "resumed", _ => "downloaded" },
        layer.ResumedFrom,
        layer.Path,
        LostDocument.Of(layer.Extracted));
}

internal sealed record BytesDocument(long Total, long Downloaded);

internal sealed record LayerDocument(
    string Digest, string? DiffId, string? ChainId, string MediaType, long Size, string? State, long? ResumedFrom, string? Path, LostDocument? Lost = null);

/// <summary>How much of what was written could not be kept, by kind; absent where nothing was written.</summary>
internal sealed record LostDocument(long Owners, long Modes, long Xattrs, long Devices, long Times)
{
    internal static LostDocument? Of(ExtractReport? report) => report is null
        ? null
        : new(report.OwnersLost, report.ModesLost, report.XattrsLost, report.DevicesSkipped, report.TimesLost);
}

internal sealed record ResultDocument(
    int Schema,
    string Reference,
    string Name,
    string Digest,
    string? Manifest,
    string Platform,
    string Config,
    IReadOnlyList<LayerDocument> Layers,
    BytesDocument Bytes,
    string? Rootfs,
    LostDocument? Lost,
    IReadOnlyList<string> Warnings,
    double Seconds);

/// <summary>One image as <c>list</c> and <c>inspect</c> show it.</summary>
internal sealed record ImageDocument(
    int Schema,
    string Reference,
    string Name,
    string Digest,
    string Manifest,
    string Platform,
    string Config,
    long Size,
    string? Created,
    string? PulledAt,
    IReadOnlyList<LayerDocument> Layers)
{
    internal static ImageDocument Of(ResolvedImage image, DateTimeOffset? pulledAt) => new(
        ResultJson.Schema,
        image.Reference.ToString(),
        image.Reference.Name,
        image.Digest.ToString(),
        image.Manifest.Descriptor.Digest.ToString(),
        image.Platform.ToString(),
        image.Config.Descriptor.Digest.ToString(),
        image.TotalBytes,
        image.NoImage is null ? OciJson.ParseConfig(image.Config.Content, image.Reference.ToString()).Created : null,
        pulledAt?.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture),
        [.. image.Layers.Select(layer => new LayerDocument(
            layer.Blob.Digest.ToString(),
            image.NoImage is null ? layer.DiffId.ToString() : null,
            image.NoImage is null ? layer.ChainId.ToString() : null,
            layer.Blob.MediaType, layer.Blob.Size, null, null, null))]);
}

/// <param name="Verified">The registry asked for the credentials, and took them.</param>
internal sealed record LoginDocument(int Schema, string Registry, string Username, string File, bool Verified);

internal sealed record ErrorDocument(int Exit, string Reason, string Message, double? RetryAfterSeconds);

internal sealed record FailureDocument(int Schema, string? Reference, ErrorDocument Error);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(ResultDocument))]
[JsonSerializable(typeof(FailureDocument))]
[JsonSerializable(typeof(ImageDocument))]
[JsonSerializable(typeof(LoginDocument))]
internal sealed partial class ResultJsonContext : JsonSerializerContext;
