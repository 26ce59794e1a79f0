using System.Net;
using System.Net.Http.Headers;

namespace NativePull.Registry;

/// <summary>One GET of the registry's API as a value.</summary>
/// <param name="Path">Below the base address.</param>
/// <param name="Repository">What the request is about, for signing in.</param>
/// <param name="Accept">Media types; null: any.</param>
/// <param name="Offset">Bytes to leave out.</param>
/// <param name="End">The offset of the first byte not wanted; null: to the end.</param>
internal sealed record RegistryRequest(string Path, string Repository, IReadOnlyList<string>? Accept, long Offset, long? End = null)
{
    /// <summary>Only the headers are wanted.</summary>
    internal bool IsHead { get; init; }
}

/// <summary>
/// Asks one registry until it answered: signs in on 401, waits on what passes, makes the message anew each time. All requests of
/// a registry go through one of these, so that they share connections and tokens.
/// </summary>
internal sealed class RegistryTransport : IDisposable
{
    private readonly RegistryOptions options;
    private readonly Connections connections;
    private readonly Exchange exchange;
    private readonly Endpoint endpoint;
    private readonly RegistryAuth auth;

    internal RegistryTransport(string registry, RegistryOptions options, IProgress<RetryNotice>? retries)
    {
        this.options = options;
        connections = new Connections(RegistryAddress.Of(registry, options.PlainHttp).Base, options);
        exchange = new Exchange(connections, options);
        endpoint = new Endpoint(registry, connections.Dialer, options);
        auth = new RegistryAuth(registry, new TokenSource(exchange, options, retries), options);
    }

    internal bool UsedEmbeddedRoots => connections.UsedEmbeddedRoots;

    /// <summary>The registry has asked for a sign of who we are.</summary>
    internal bool WasAskedWho(string repository) => auth.WasAsked(repository);

    /// <summary>An answer with 200, or to a request with an offset or an end also 206 or 416. Its body has not been read yet.</summary>
    /// <exception cref="PullException">
    /// NotFound, Unauthorized, Denied; Unavailable, RateLimited or Stalled when <paramref name="attempts"/> has enough; Unsupported; a Tls reason.
    /// </exception>
    internal async Task<Answer> SendAsync(RegistryRequest request, Attempts attempts, CancellationToken token)
    {
        bool linkRenewed = false;
        while (true)
        {
            try
            {
                Answer answer = await SignedInAsync(request, token);
                if (IsUsable(answer.Status, request))
                {
                    return answer;
                }

                RegistryException failure = await FailureOfAsync(answer, request.Repository, token);
                if (!answer.IsOwn && !failure.IsTransient && !linkRenewed)
                {
                    linkRenewed = true; // a signed link of the storage may have run out: the registry gives a new one
                    continue;
                }

                throw failure;
            }
            catch (RegistryException failure)
            {
                await attempts.WaitAfterAsync(failure, token);
            }
        }
    }

    /// <summary>The body of an answer of <see cref="SendAsync"/>; disposing it disposes the answer.</summary>
    internal ResponseBody Body(Answer answer) => new(answer.Response, answer.Address, options);

    public void Dispose()
    {
        auth.Dispose();
        endpoint.Dispose();
        connections.Dispose();
    }

    private static bool IsUsable(HttpStatusCode status, RegistryRequest request) => status == HttpStatusCode.OK
        || ((request.Offset > 0 || request.End is not null) && status is HttpStatusCode.PartialContent or HttpStatusCode.RequestedRangeNotSatisfiable);

    // One try: with what is known to open the door, and where that is refused, once more with what the challenge asks for.
    private async Task<Answer> SignedInAsync(RegistryRequest request, CancellationToken token)
    {
        Uri address = new(await BaseAsync(token), request.Path);
        AuthenticationHeaderValue? authorization = await auth.KnownAsync(request.Repository, token);
        bool isNew = false;
        while (true)
        {
            Answer answer = await exchange.SendAsync(new Asked(address, request.Accept, request.Offset, authorization, request.End) { IsHead = request.IsHead }, token);
            if (answer.Status != HttpStatusCode.Unauthorized || !answer.IsOwn || isNew)
            {
                return answer;
            }

            using (answer)
            {
                (authorization, isNew) = await auth.AnswerAsync(request.Repository, Challenges(answer.Response), authorization, address, token);
            }
        }
    }

    // As it was sent: the library's own reading of this header drops what it does not understand.
    private static IReadOnlyList<Challenge> Challenges(HttpResponseMessage response) =>
        response.Headers.NonValidated.TryGetValues("WWW-Authenticate", out HeaderStringValues headers) ? Challenge.Parse(headers) : [];

    private async Task<RegistryException> FailureOfAsync(Answer answer, string repository, CancellationToken token)
    {
        await using ResponseBody body = Body(answer);
        return await Refused.OfAsync(answer, body, auth.UsedFor(repository), options.Clock, token);
    }

    private async Task<Uri> BaseAsync(CancellationToken token)
    {
        try
        {
            return await endpoint.FindAsync(token);
        }
        catch (Exception failure) when (NetworkFailure.Is(failure))
        {
            token.ThrowIfCancellationRequested();
            throw NetworkFailure.Of(failure, endpoint.Presumed, false, options);
        }
    }
}
