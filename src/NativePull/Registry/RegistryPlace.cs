using System.Collections.Concurrent;
using System.Net.Http.Headers;

namespace NativePull.Registry;

/// <summary>One place that answers for a registry, with the connections and tokens that are for it alone.</summary>
internal sealed class RegistryPlace : IDisposable
{
    // As nobody, with a token that others brought meanwhile, with a new one; whoever asks each time for another could go on for ever.
    private const int MostAsked = 4;

    private readonly RegistryOptions options;
    private readonly Connections connections;
    private readonly Exchange exchange;
    private readonly Endpoint endpoint;
    private readonly RegistryAuth auth;

    /// <summary>What it is not asked for again: it had it not, or gave wrong or broken bytes.</summary>
    private readonly ConcurrentDictionary<string, string> distrusted = new();

    private readonly ConcurrentDictionary<string, string> served = new();

    internal RegistryPlace(Place place, RegistryOptions all, IProgress<RetryNotice>? retries)
    {
        Place = place;
        options = all with
        {
            InsecureSkipTlsVerify = all.InsecureSkipTlsVerify || place.SkipsVerification,
            MoreCaFiles = place.CaFiles,
            ClientCertificate = place.Client,
            Headers = place.Headers,
            Credentials = place.IsMirror ? all.Credentials.ForOthers : all.Credentials,
            CertDirectory = place.IsMirror ? null : all.CertDirectory,
            // nobody waits for a mirror, and so not for who gives tokens for it
            Retry = place.IsMirror ? all.Retry with { Tries = 1 } : all.Retry,
            WaitNetwork = place.IsMirror ? TimeSpan.Zero : all.WaitNetwork,
        };
        Uri host = place.Address.Base;
        connections = new Connections(host, options);
        exchange = new Exchange(connections, host, options);
        endpoint = new Endpoint(place.Address, connections.Dialer, options);
        auth = new RegistryAuth(place.Account, new TokenSource(exchange, options, retries), options);
    }

    internal Place Place { get; }

    /// <summary>It did not answer at all, and is left alone for the rest of the run.</summary>
    internal bool IsDead { get; set; }

    /// <summary>It seemed so for want of a network.</summary>
    internal bool IsOutOfReach { get; set; }

    internal bool UsedEmbeddedRoots => connections.UsedEmbeddedRoots;

    internal bool WasAskedWho(string repository) => auth.WasAsked(repository);

    internal bool IsDistrusted(RegistryRequest request) => distrusted.ContainsKey(request.Path);

    /// <returns>Whether it was trusted with this before.</returns>
    internal bool Distrust(string path) => distrusted.TryAdd(path, path);

    /// <returns>Whether it has given this, or a part of it, and was trusted with it.</returns>
    internal bool DistrustIfServed(string path) => served.ContainsKey(path) && Distrust(path);

    internal void NoteServed(RegistryRequest request) => served.TryAdd(request.Path, request.Path);

    /// <summary>Asks once: with what is known to open the door, and where that is refused, once more with what the challenge asks for.</summary>
    /// <param name="repository">As it is called here.</param>
    internal async Task<Answer> AskAsync(RegistryRequest request, string repository, CancellationToken token)
    {
        Uri address = Address(await BaseAsync(token), request, repository);
        AuthenticationHeaderValue? authorization = await auth.KnownAsync(repository, token);
        bool isNew = false;
        for (int asked = 1; ; asked++)
        {
            Answer answer = await exchange.SendAsync(new Asked(address, request.Accept, request.Offset, authorization, request.End) { IsHead = request.IsHead }, token);
            if (answer.Status != System.Net.HttpStatusCode.Unauthorized || !answer.IsOwn || isNew || asked == MostAsked)
            {
                return answer with { Place = this };
            }

            using (answer)
            {
                (authorization, isNew) = await auth.AnswerAsync(repository, Challenges(answer.Response), authorization, address, token);
            }
        }
    }

    /// <summary>Asks another host, as nobody.</summary>
    internal async Task<Answer> AskAtAsync(Uri address, RegistryRequest request, CancellationToken token) =>
        await exchange.SendAsync(new Asked(address, null, request.Offset, null, request.End), token) with { Place = this };

    /// <summary>What a useless answer says; disposes it.</summary>
    internal async Task<RegistryException> FailureOfAsync(Answer answer, string repository, CancellationToken token)
    {
        await using ResponseBody body = Body(answer);
        return await Refused.OfAsync(answer, body, auth.UsedFor(repository), options.Clock, token);
    }

    internal ResponseBody Body(Answer answer) => new(answer.Response, answer.Address, options);

    public void Dispose()
    {
        auth.Dispose();
        endpoint.Dispose();
        connections.Dispose();
    }

    // "v2/REPOSITORY/rest" as this place has it; the address of a next page is complete already.
    private Uri Address(Uri host, RegistryRequest request, string repository)
    {
        string prefix = $"v2/{request.Repository}/";
        string path = request.Path.StartsWith('/') ? request.Path
            : request.Repository.Length > 0 && request.Path.StartsWith(prefix, StringComparison.Ordinal) ? $"{Place.ApiPath}{repository}/{request.Path[prefix.Length..]}"
            : Place.ApiPath + request.Path["v2/".Length..];
        string query = Place.Namespace is null ? "" : $"{(path.Contains('?', StringComparison.Ordinal) ? '&' : '?')}ns={Uri.EscapeDataString(Place.Namespace)}";
        // put together as text: resolved against the host, a path that begins with two slashes would be another host, which would get the token
        return new Uri(host.GetLeftPart(UriPartial.Authority) + (path.StartsWith('/') ? "" : "/") + path + query);
    }

    // As it was sent: the library's own reading of this header drops what it does not understand.
    private static IReadOnlyList<Challenge> Challenges(HttpResponseMessage response) =>
        response.Headers.NonValidated.TryGetValues("WWW-Authenticate", out HeaderStringValues headers) ? Challenge.Parse(headers) : [];

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
