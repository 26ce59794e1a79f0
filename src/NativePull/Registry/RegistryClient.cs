using System.Net.Http.Headers;
using System.Runtime.CompilerServices;
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

    // Bytes; of a registry that knows no pages, and describes every image beside its tags.
    private const int MaximumTagPage = 32 * 1024 * 1024;

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
        (byte[] content, string? header, string? announced, _, _) = await GetAllAsync(request, what, MaximumManifest, token);
        while (byDigest && !expected.Matches(content) && transport.DistrustMirrors(request.Path))
        {
            (content, header, announced, _, _) = await GetAllAsync(request, what, MaximumManifest, token);
        }

        while (!byDigest && !IsDocument(content, what, header) && transport.DistrustMirrors(request.Path, "is no manifest"))
        {
            (content, header, announced, _, _) = await GetAllAsync(request, what, MaximumManifest, token);
        }

        if (byDigest && !expected.Matches(content))
        {
            throw new PullException(PullError.DigestMismatch, $"{what}: expected {expected}, got {expected.DigestOf(content)}");
        }

        // The bytes are what we have and what we keep, so their own digest counts. Some registries and proxies that convert documents announce
        // another; no client fails for it, but somebody who reads the warning may see why two of them print two digests.
        if (Digest.TryParse(announced, out Digest named) && !named.Matches(content))
        {
            options.Warnings?.Report($"{what}: the registry announces {named}, but what it sent is {named.DigestOf(content)}");
        }

        return new FetchedManifest(OciJson.MediaTypeOf(content, what, header) ?? header ?? "", byDigest ? expected : Digest.Of(content), content);
    }

    /// <summary>
    /// What a tag points to now, as the registry's headers say: a HEAD, which Docker Hub does not count as a pull and which moves no document.
    /// Null: this registry does not say; a GET will.
    /// </summary>
    /// <exception cref="PullException">As <see cref="RegistryTransport.SendAsync"/>, for what a GET would not get past either.</exception>
    internal async Task<Digest?> FindDigestAsync(string repository, string selector, CancellationToken token)
    {
        var request = new RegistryRequest($"v2/{repository}/manifests/{selector}", repository, MediaTypes.Manifests, 0) { IsHead = true };
        try
        {
            using Answer answer = await transport.SendAsync(request, new Attempts($"{Registry}/{repository}:{selector}", options, retries) { TriesOfAnswered = 2 }, token);
            return Header(answer.Response, "Docker-Content-Digest") is [var named, ..] && Digest.TryParse(named, out Digest digest) ? digest : null;
        }
        catch (RegistryException refused) when (refused.Reason != PullError.RateLimited && refused.Status is not null)
        {
            return null; // not every registry knows HEAD; and the error body that explains the others comes with a GET
        }
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

        if (blob.VerifiedData is { } embedded)
        {
            return embedded;
        }

        byte[] content = new byte[blob.Size];
        do
        {
            await using BlobReader reader = OpenBlob(repository, blob, 0);
            int filled = 0;
            int read;
            while ((read = await reader.ReadAsync(content.AsMemory(filled), token)) > 0)
            {
                filled += read;
            }
        }
        while (!blob.Digest.Matches(content) && Distrust(repository, blob));

        return blob.Digest.Matches(content)
            ? content
            : throw new PullException(PullError.DigestMismatch, $"{what}: expected {blob.Digest}, got {blob.Digest.DigestOf(content)}");
    }

    /// <summary>Asks nothing before the first read.</summary>
    /// <param name="offset">Bytes, 0 to the blob's size.</param>
    /// <param name="giveWay">As <see cref="Attempts.GiveWay"/>.</param>
    internal BlobReader OpenBlob(
        string repository, Descriptor blob, long offset, Func<RegistryException, CancellationToken, Task<bool>>? giveWay = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, blob.Size);
        return new BlobReader(transport, repository, blob, offset, null, new Attempts(What(repository, blob), options, retries) { GiveWay = giveWay });
    }

    /// <summary>A stretch of a blob of which others read the rest; it gives up where it is not given just that (<see cref="BlobReader.IsRefused"/>).</summary>
    /// <param name="giveWay">As <see cref="Attempts.GiveWay"/>.</param>
    internal BlobReader OpenRange(
        string repository, Descriptor blob, long offset, long end, Func<RegistryException, CancellationToken, Task<bool>>? giveWay = null) =>
        new(transport, repository, blob, offset, end, new Attempts(What(repository, blob), options, retries) { GiveWay = giveWay });

    /// <summary>The same where its work can be done by others, or in another way: it is quick to give up, and a registry that is asked for too much is left alone.</summary>
    internal BlobReader OpenRangeBriefly(string repository, Descriptor blob, long offset, long end)
    {
        RegistryOptions patience = options with { Retry = options.Retry with { Tries = 2, MaximumRetryAfter = TimeSpan.FromSeconds(1) } };
        return new BlobReader(transport, repository, blob, offset, end, new Attempts(What(repository, blob), patience, retries));
    }

    /// <summary>Its bytes have another digest: mirrors that gave any of them are not asked for it again.</summary>
    /// <returns>Whether there was one, so that fetching it anew is worth while.</returns>
    internal bool Distrust(string repository, Descriptor blob) => transport.DistrustMirrors($"v2/{repository}/blobs/{blob.Digest}");

    /// <summary>Signs in, and asks for nothing else (distribution-spec, "Determining Support").</summary>
    /// <returns>Whether the registry wanted to know who we are.</returns>
    /// <exception cref="PullException">As <see cref="RegistryTransport.SendAsync"/>.</exception>
    internal async Task<bool> SignInAsync(CancellationToken token)
    {
        var request = new RegistryRequest("v2/", "", null, 0);
        using Answer answer = await transport.SendAsync(request, new Attempts(Registry, options, retries), token);
        return transport.WasAskedWho("");
    }

    /// <summary>All tags, page by page (distribution-spec, "Listing Tags"); those of a page when all of it is here.</summary>
    /// <param name="pageSize">How many are asked for at once; the registry may give fewer, or more.</param>
    /// <param name="after">Begin behind this tag; null: with the first.</param>
    /// <exception cref="PullException">
    /// Malformed: no such list, or one without end; LimitPassed: more than 100,000 pages, or one of more than 32 MiB; else as
    /// <see cref="RegistryTransport.SendAsync"/>.
    /// </exception>
    internal async IAsyncEnumerable<TagPage> ListTagsAsync(string repository, int pageSize, string? after, [EnumeratorCancellation] CancellationToken token)
    {
        string what = $"{Registry}/{repository}";
        string? path = $"v2/{repository}/tags/list?n={pageSize}{(after is null ? "" : $"&last={Uri.EscapeDataString(after)}")}";
        TagListEnd end = new(what);
        while (path is not null)
        {
            Fetched got = await GetAllAsync(new RegistryRequest(path, repository, ["application/json"], 0), what, MaximumTagPage, token);
            var page = TagPage.Read(got.Content, what);
            end.Check(path, page);
            yield return page;
            path = TagPage.Next(got.Links, got.Asked, what);
        }
    }

    public void Dispose() => transport.Dispose();

    // What a tag names has no digest to be held against, but a page to sign in to something it is not.
    private static bool IsDocument(byte[] content, string what, string? header)
    {
        try
        {
            return MediaTypes.Manifests.Contains(OciJson.MediaTypeOf(content, what, header) ?? header ?? "");
        }
        catch (PullException)
        {
            return false;
        }
    }

    private string What(string repository, Descriptor blob) => $"{Registry}/{repository}@{blob.Digest}";

    private async Task<Fetched> GetAllAsync(RegistryRequest request, string what, long limit, CancellationToken token)
    {
        var attempts = new Attempts(what, options, retries);
        while (true)
        {
            Answer? answer = null;
            try
            {
                answer = await transport.SendAsync(request, attempts, token);
                await using ResponseBody body = RegistryTransport.Body(answer);
                HttpResponseMessage response = answer.Response;
                return new Fetched(
                    ContentEncoding.Decode(await BoundedRead.AllAsync(body, limit, what, token), response, limit, what),
                    response.Content.Headers.ContentType?.MediaType,
                    Header(response, "Docker-Content-Digest") is [var named, ..] ? named : null,
                    Header(response, "Link"),
                    answer.Asked);
            }
            catch (PullException failure) when (transport.Blame(answer, request, failure.Message))
            {
                // another place is asked at once
            }
            catch (RegistryException failure) when (failure.IsTransient)
            {
                await attempts.WaitAfterAsync(failure, token);
            }
            finally
            {
                answer?.Dispose();
            }
        }
    }

    private static IReadOnlyList<string> Header(HttpResponseMessage response, string name) =>
        response.Headers.NonValidated.TryGetValues(name, out HeaderStringValues values) ? [.. values] : [];

    private sealed record Fetched(byte[] Content, string? MediaType, string? Digest, IReadOnlyList<string> Links, Uri Asked);
}
