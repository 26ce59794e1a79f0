using NativePull.IO;
using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>A manifest or index as it was sent: these bytes are what the digest names.</summary>
/// <param name="MediaType">The document's own word, else the header's, else what its shape tells; "" where neither tells.</param>
internal sealed record FetchedManifest(string MediaType, Digest Digest, byte[] Content);

/// <summary>Manifests and blobs of one registry: the pull half of the distribution API (distribution-spec, "Pull"). Safe for concurrent use.</summary>
internal sealed class RegistryClient(string registry, RegistryOptions options, IProgress<RetryNotice>? retries = null) : IDisposable
{
    internal const long MaximumManifest = 4 * 1024 * 1024; // bytes; distribution-spec, "Pushing Manifests": registries should accept this much

    private readonly RegistryTransport transport = new(registry, options, retries);

    /// <summary>As references name it.</summary>
    internal string Registry { get; } = registry;

    /// <summary>TLS was needed, and the machine had no roots of its own.</summary>
    internal bool UsedEmbeddedRoots => transport.UsedEmbeddedRoots;

    /// <param name="selector">A tag or a digest.</param>
    /// <exception cref="PullException">
    /// DigestMismatch: not the bytes the selector names; LimitPassed: more than 4 MiB; Malformed: not JSON; else as <see cref="RegistryTransport.SendAsync"/>.
    /// </exception>
    internal async Task<FetchedManifest> GetManifestAsync(string repository, string selector, CancellationToken token)
    {
        bool byDigest = Digest.TryParse(selector, out Digest expected);
        string what = $"{Registry}/{repository}{(byDigest ? '@' : ':')}{selector}";
        var request = new RegistryRequest($"v2/{repository}/manifests/{selector}", repository, MediaTypes.Manifests, 0);
        (byte[] content, string? header) = await GetAllAsync(request, what, token);
        if (byDigest && !expected.Matches(content))
        {
            throw new PullException(PullError.DigestMismatch, $"{what}: expected {expected}, got {expected.DigestOf(content)}");
        }

        // Docker-Content-Digest is not compared: many registries and mirrors send another than that of the bytes.
        return new FetchedManifest(OciJson.MediaTypeOf(content, what, header) ?? header ?? "", byDigest ? expected : Digest.Of(content), content);
    }

    /// <summary>A blob to be held in memory: a config. Verified.</summary>
    /// <param name="limit">Bytes.</param>
    /// <exception cref="PullException">LimitPassed, DigestMismatch; else as <see cref="BlobReader.ReadAsync"/>.</exception>
    internal async Task<byte[]> GetSmallBlobAsync(string repository, Descriptor blob, long limit, CancellationToken token)
    {
        string what = What(repository, blob);
        if (blob.Size > limit)
        {
            throw new PullException(PullError.LimitPassed, $"{what}: {blob.Size} bytes, more than the {limit} allowed");
        }

        if (blob.Data is { } embedded && embedded.Length == blob.Size && blob.Digest.Matches(embedded))
        {
            return embedded;
        }

        byte[] content = new byte[blob.Size];
        await using BlobReader reader = OpenBlob(repository, blob, 0);
        int filled = 0;
        int read;
        while ((read = await reader.ReadAsync(content.AsMemory(filled), token)) > 0)
        {
            filled += read;
        }

        return blob.Digest.Matches(content)
            ? content
            : throw new PullException(PullError.DigestMismatch, $"{what}: expected {blob.Digest}, got {blob.Digest.DigestOf(content)}");
    }

    /// <summary>Asks nothing before the first read.</summary>
    /// <param name="offset">Bytes, 0 to the blob's size.</param>
    internal BlobReader OpenBlob(string repository, Descriptor blob, long offset)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, blob.Size);
        return new BlobReader(transport, repository, blob, offset, null, new Attempts(What(repository, blob), options, retries));
    }

    /// <summary>A stretch of a blob of which others read the rest; it gives up where it is not given just that (<see cref="BlobReader.IsRefused"/>).</summary>
    /// <param name="isExtra">Others can do its work: it is quick to give up, and a registry that is asked for too much is left alone.</param>
    internal BlobReader OpenRange(string repository, Descriptor blob, long offset, long end, bool isExtra)
    {
        RegistryOptions patience = isExtra ? options with { Retry = options.Retry with { Tries = 2, MaximumRetryAfter = TimeSpan.FromSeconds(1) } } : options;
        return new BlobReader(transport, repository, blob, offset, end, new Attempts(What(repository, blob), patience, retries));
    }

    public void Dispose() => transport.Dispose();

    private string What(string repository, Descriptor blob) => $"{Registry}/{repository}@{blob.Digest}";

    private async Task<(byte[] Content, string? MediaType)> GetAllAsync(RegistryRequest request, string what, CancellationToken token)
    {
        var attempts = new Attempts(what, options, retries);
        while (true)
        {
            try
            {
                using Answer answer = await transport.SendAsync(request, attempts, token);
                await using ResponseBody body = transport.Body(answer);
                return (await BoundedRead.AllAsync(body, MaximumManifest, what, token), answer.Response.Content.Headers.ContentType?.MediaType);
            }
            catch (RegistryException failure) when (failure.IsTransient)
            {
                await attempts.WaitAfterAsync(failure, token);
            }
        }
    }
}
