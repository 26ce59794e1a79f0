using System.Globalization;
using NativePull.IO;
using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>An image found in files: its documents read and verified, its layers ready to be opened any number of times.</summary>
/// <param name="Digest">The manifest's or the index's; the config's where there is no manifest.</param>
/// <param name="Manifest">Null where the source has none.</param>
internal sealed record SourceImage(
    Digest Digest, Digest? Manifest, Descriptor Config, Platform Platform, IReadOnlyList<PlannedLayer> Layers, IReadOnlyList<Func<CancellationToken, Stream>> Open)
{
    // names in a sentence; a layout may have thousands
    private const int MaximumShown = 20;

    /// <summary>A blob by its descriptor; what is read is compared with it.</summary>
    /// <exception cref="PullException">Malformed: it is not there; SizeMismatch.</exception>
    internal static VerifyingStream OpenBlob(string what, ImageFiles files, string name, Descriptor blob)
    {
        Stream file = files.TryOpen(name) ?? throw new PullException(PullError.Malformed, $"{what}: blob {blob.Digest} is missing");
        if (file.Length == blob.Size)
        {
            return new VerifyingStream(file, blob.Digest, $"{what}: blob", PullError.DigestMismatch);
        }

        using (file)
        {
            throw new PullException(PullError.SizeMismatch, $"{what}: blob {blob.Digest}: expected {Text(blob.Size)} bytes, got {Text(file.Length)}");
        }
    }

    /// <summary>A small blob whole, compared with its descriptor.</summary>
    /// <exception cref="PullException">Malformed, LimitPassed, SizeMismatch, DigestMismatch.</exception>
    internal static byte[] ReadBlob(string what, ImageFiles files, string name, Descriptor blob, long limit)
    {
        byte[] content = files.TryRead(name, limit) ?? throw new PullException(PullError.Malformed, $"{what}: blob {blob.Digest} is missing");
        if (content.Length != blob.Size)
        {
            throw new PullException(PullError.SizeMismatch, $"{what}: blob {blob.Digest}: expected {Text(blob.Size)} bytes, got {Text(content.Length)}");
        }

        return blob.Digest.Matches(content)
            ? content
            : throw new PullException(PullError.DigestMismatch, $"{what}: blob: expected {blob.Digest}, got {blob.Digest.DigestOf(content)}");
    }

    /// <summary>The sentence for an image that was not chosen clearly: what there is.</summary>
    internal static PullException NotChosen(PullError reason, string what, string problem, IEnumerable<string> names)
    {
        string[] all = [.. names];
        string shown = string.Join(", ", all.Take(MaximumShown));
        return new PullException(
            reason,
            all.Length == 0 ? $"{what}: {problem}; there is: nothing"
            : all.Length <= MaximumShown ? $"{what}: {problem}; there is: {shown}"
            : $"{what}: {problem}; there is: {shown} and {Text(all.Length - MaximumShown)} more");
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
