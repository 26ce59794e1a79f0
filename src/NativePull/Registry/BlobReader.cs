using System.Net;
using System.Net.Http.Headers;
using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>
/// One blob as one run of bytes from an offset to its end, whatever the connections do: it is reopened at the offset reached
/// (RFC 9110, 14). Every byte that comes out stood at its place in the answer; whether it is the right one, the digest must tell.
/// </summary>
/// <param name="offset">Bytes, 0 to the blob's size: where to begin.</param>
/// <param name="end">
/// The offset of the first byte not wanted: then a registry that does not give just this range is not read at all, for others are reading the
/// rest. Null: to the blob's end, and where ranges fail the whole is asked for and its beginning skipped.
/// </param>
internal sealed class BlobReader(RegistryTransport transport, string repository, Descriptor blob, long offset, long? end, Attempts attempts) : IAsyncDisposable
{
    private readonly long stop = end ?? blob.Size;
    private ResponseBody? body;
    private Answer? source; // of the body, or of what was to be one
    private RegistryRequest? request;
    private long skip; // bytes of the body that come before Position
    private bool lengthIsKnown;
    private bool rangesFailed; // then the whole is asked for, and its beginning skipped

    /// <summary>The offset of the next byte.</summary>
    internal long Position { get; private set; } = offset;

    /// <summary>The registry does not give ranges; only where an end was asked for.</summary>
    internal bool IsRefused { get; private set; }

    /// <summary>It was asked for the rest and sends everything.</summary>
    internal bool SendsWhole { get; private set; }

    /// <returns>0 only at the end, or where <see cref="IsRefused"/>.</returns>
    /// <exception cref="PullException">SizeMismatch: the registry has more, or other bytes than it says; else as <see cref="RegistryTransport.SendAsync"/>.</exception>
    internal async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken token)
    {
        while (Position < stop && !IsRefused)
        {
            try
            {
                if (body is null)
                {
                    await OpenAsync(token);
                }
                else if (await ReadBodyAsync(buffer, token) is > 0 and int read)
                {
                    attempts.Progress();
                    Position += read;
                    return read;
                }
            }
            catch (RegistryException failure) when (failure.IsTransient)
            {
                await CloseAsync();
                if (!transport.Blame(source, request, failure.Message))
                {
                    await attempts.WaitAfterAsync(failure, token);
                }
            }
        }

        if (!IsRefused)
        {
            await EndAsync(token);
        }

        return 0;
    }

    public ValueTask DisposeAsync() => CloseAsync();

    // 0: only skipped bytes came, or none were left to come; then it has thrown or will be asked again
    private async Task<int> ReadBodyAsync(Memory<byte> buffer, CancellationToken token)
    {
        long left = skip > 0 ? skip : stop - Position;
        int read = await body!.ReadAsync(buffer[..(int)Math.Min(buffer.Length, left)], token);
        if (read == 0)
        {
            rangesFailed |= skip > 0 && !IsOfMirror; // what was to be the whole is less than what is here
            throw new RegistryException(PullError.Unavailable, $"the body ended at byte {Position - skip} of {blob.Size}") { IsTransient = true };
        }

        if (skip == 0)
        {
            return read;
        }

        skip -= read;
        return 0;
    }

    private async Task OpenAsync(CancellationToken token)
    {
        long from = rangesFailed ? 0 : Position;
        Answer? answer = null;
        source = null;
        try
        {
            request = new RegistryRequest($"v2/{repository}/blobs/{blob.Digest}", repository, null, from, end) { Urls = blob.Urls };
            source = answer = await transport.SendAsync(request, attempts, token);
            if (IsAcceptable(answer, from))
            {
                body = RegistryTransport.Body(answer);
                answer = null;
            }
        }
        catch (RegistryException refused) when (from > 0 && end is null && MayBeAboutTheRange(refused.Status))
        {
            rangesFailed = true; // or it is about the blob: then it will be said again
            attempts.Progress(); // another question: what the first one cost is not held against it
        }
        finally
        {
            answer?.Dispose();
        }
    }

    // False: ask again at once, in another way.
    private bool IsAcceptable(Answer answer, long from)
    {
        HttpContentHeaders headers = answer.Response.Content.Headers;
        // of a body in chunks it says nothing (RFC 9112, 6.3)
        long? announced = answer.Response.Headers.TransferEncodingChunked == true ? null : headers.ContentLength;
        bool hasOtherLength = announced is { } length && length != stop - from;
        if (end is not null && (answer.Status != HttpStatusCode.PartialContent || !IsTheRest(headers.ContentRange, from) || hasOtherLength))
        {
            IsRefused = true;
            return false;
        }

        if (answer.Status == HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            rangesFailed = true;
            return false;
        }

        if (answer.Status == HttpStatusCode.PartialContent)
        {
            if (!IsTheRest(headers.ContentRange, from))
            {
                rangesFailed = !IsOfMirror; // the next place may know better
                throw new RegistryException(PullError.Unavailable, $"asked for bytes {from}-{blob.Size - 1} of {blob.Size}, got \"{headers.ContentRange}\"") { IsTransient = true };
            }

            skip = 0;
            CheckLength(announced, stop - from, from);
        }
        else
        {
            skip = Position;
            SendsWhole = Position > 0;
            CheckLength(announced, blob.Size, from);
        }

        lengthIsKnown = announced is not null;
        return true;
    }

    // The end must be the end: a shorter range may be a cache's misunderstanding. The total may be left open ("*").
    private bool IsTheRest(ContentRangeHeaderValue? range, long from) =>
        range is { Unit: "bytes" } && range.From == from && range.To == stop - 1 && (range.Length is null || range.Length == blob.Size);

    private void CheckLength(long? actual, long expected, long from)
    {
        if (actual is null || actual == expected)
        {
            return;
        }

        string message = $"expected {expected} bytes, the registry announces {actual}";
        if (from == 0 || IsOfMirror)
        {
            throw Mismatch(message);
        }

        rangesFailed = true; // of a part of a blob a server may have odd ideas
        throw new RegistryException(PullError.Unavailable, message) { IsTransient = true };
    }

    // Servers that know no ranges say so in many ways besides 416; a 500 is one when it has come as often as is borne. That a link has run out, or that
    // we are to sign in, was seen to before.
    internal static bool MayBeAboutTheRange(HttpStatusCode? status) =>
        status is HttpStatusCode.BadRequest or HttpStatusCode.Forbidden or HttpStatusCode.NotFound or HttpStatusCode.MethodNotAllowed or HttpStatusCode.NotAcceptable
            or HttpStatusCode.PreconditionFailed or HttpStatusCode.InternalServerError or HttpStatusCode.NotImplemented;

    // All bytes are there. Where the answer did not tell its length, there may be more: then it is not the blob described.
    private async Task EndAsync(CancellationToken token)
    {
        if (body is null || lengthIsKnown)
        {
            return;
        }

        try
        {
            if (await body.ReadAsync(new byte[1], token) > 0)
            {
                throw Mismatch($"expected {blob.Size} bytes, the registry sends more");
            }
        }
        catch (RegistryException failure) when (failure.IsTransient)
        {
            // a connection that breaks after the last byte takes nothing away
        }

        await CloseAsync();
    }

    private bool IsOfMirror => source?.Place is { Place.IsMirror: true };

    // What a mirror has may be another blob; what the registry has is the answer.
    private RegistryException Mismatch(string message) => IsOfMirror
        ? new RegistryException(PullError.SizeMismatch, message) { IsTransient = true }
        : new RegistryException(PullError.SizeMismatch, message).Final(attempts.What);

    private async ValueTask CloseAsync()
    {
        if (body is not null)
        {
            await body.DisposeAsync();
            body = null;
        }
    }
}
