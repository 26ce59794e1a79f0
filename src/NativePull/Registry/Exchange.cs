using System.Net;
using System.Net.Http.Headers;
using System.Text;

namespace NativePull.Registry;

/// <summary>One request as a value: each try makes its message anew, so that a redirect of the last one leaves no trace.</summary>
/// <param name="Authorization">Sent to the origin of <paramref name="Address"/> and to no other.</param>
/// <param name="Offset">Bytes to leave out (RFC 9110, 14.2).</param>
/// <param name="End">The offset of the first byte not wanted; null: to the end, and then with an offset of 0 no Range is asked for.</param>
internal sealed record Asked(Uri Address, IReadOnlyList<string>? Accept, long Offset, AuthenticationHeaderValue? Authorization, long? End = null)
{
    /// <summary>What a POST sends; null: a GET. It holds secrets, so no redirect is followed with it.</summary>
    internal IReadOnlyDictionary<string, string>? Form { get; init; }

    /// <summary>Only the headers are wanted.</summary>
    internal bool IsHead { get; init; }

    /// <summary>Authorization and form as they are sent, and the password inside the former.</summary>
    internal IReadOnlyList<string> Secrets => [.. Form?.Values ?? [], .. Authorization is { Parameter: { } sent } ? Spellings(Authorization.Scheme, sent) : []];

    public override string ToString() => RegistryAddress.Shown(Address);

    private static IEnumerable<string> Spellings(string scheme, string sent)
    {
        yield return sent;
        byte[] decoded = new byte[sent.Length];
        if (scheme == "Basic" && Convert.TryFromBase64String(sent, decoded, out int length))
        {
            string pair = Encoding.UTF8.GetString(decoded, 0, length);
            yield return pair[(pair.IndexOf(':', StringComparison.Ordinal) + 1)..];
        }
    }
}

/// <summary>An answer that is no redirect, and who gave it.</summary>
/// <param name="Address">Where it came from, redirects followed.</param>
/// <param name="Asked">What was asked for, before any redirect.</param>
/// <param name="IsOwn">It came from the origin that was asked.</param>
internal sealed record Answer(HttpResponseMessage Response, Uri Address, Uri Asked, bool IsOwn) : IDisposable
{
    /// <summary>Which of a registry's places gave it; null for one that was asked directly.</summary>
    internal RegistryPlace? Place { get; init; }

    /// <summary>What it was asked with and nobody may read in a message, though the server may have written it into its answer.</summary>
    internal IReadOnlyList<string> Secrets { get; init; } = [];

    internal HttpStatusCode Status => Response.StatusCode;

    public void Dispose() => Response.Dispose();
}

/// <summary>Asks once. Follows redirects itself, because who may see the Authorization is decided here, hop by hop.</summary>
/// <param name="host">Whose own headers the options hold.</param>
internal sealed class Exchange(Connections connections, Uri host, RegistryOptions options)
{
    private const int MaximumRedirects = 10;

    // A peer that is connected may be silent for the stall time-out; connecting has its own limit, which may be longer.
    private readonly TimeSpan longestSilence = options.StallTimeout > options.ConnectTimeout ? options.StallTimeout : options.ConnectTimeout;

    /// <exception cref="PullException">Unavailable, Stalled, Unsupported (a redirect that is refused), or a Tls reason.</exception>
    internal async Task<Answer> SendAsync(Asked asked, CancellationToken token)
    {
        Uri address = asked.Address;
        for (int redirects = 0; redirects <= MaximumRedirects; redirects++)
        {
            bool own = RegistryAddress.IsSameOrigin(address, asked.Address);
            HttpResponseMessage response = await HopAsync(asked, address, own, token);
            if (!IsRedirect(response.StatusCode))
            {
                return new Answer(response, address, asked.Address, own) { Secrets = asked.Secrets };
            }

            using (response)
            {
                Uri target = Target(response, address);
                if (asked.Form is not null)
                {
                    throw new RegistryException(PullError.Unavailable, $"{RegistryAddress.Shown(address)} redirects to {RegistryAddress.Shown(target)}: secrets are not sent after it");
                }

                address = target;
            }
        }

        throw new RegistryException(PullError.Unavailable, $"{RegistryAddress.Shown(asked.Address)}: more than {MaximumRedirects} redirects");
    }

    private async Task<HttpResponseMessage> HopAsync(Asked asked, Uri address, bool own, CancellationToken token)
    {
        using HttpRequestMessage message = Message(asked, address, own);
        using var guard = new StallGuard(options.Clock, longestSilence);
        using StallGuard.Wait wait = guard.Begin(token);
        try
        {
            return await connections.For(address).SendAsync(message, guard.Token);
        }
        catch (Exception failure) when (NetworkFailure.Is(failure))
        {
            token.ThrowIfCancellationRequested();
            throw NetworkFailure.Of(failure, address, guard.Token.IsCancellationRequested, options);
        }
    }

    private HttpRequestMessage Message(Asked asked, Uri address, bool own)
    {
        var message = new HttpRequestMessage(asked.Form is not null ? HttpMethod.Post : asked.IsHead ? HttpMethod.Head : HttpMethod.Get, address)
        {
            Content = asked.Form is null ? null : new FormUrlEncodedContent(asked.Form),
            Version = HttpVersion.Version11,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        HttpRequestHeaders headers = message.Headers;
        headers.TryAddWithoutValidation("User-Agent", options.UserAgent);
        headers.TryAddWithoutValidation("Accept-Encoding", "identity"); // nobody on the way may change the bytes whose digest is known
        if (asked.Accept is { } accept)
        {
            headers.TryAddWithoutValidation("Accept", string.Join(", ", accept));
        }

        if (asked.Offset > 0 || asked.End is not null)
        {
            headers.Range = new RangeHeaderValue(asked.Offset, asked.End - 1);
        }

        foreach ((string name, string value) in RegistryAddress.IsSameOrigin(address, host) ? options.Headers : [])
        {
            headers.TryAddWithoutValidation(name, value);
        }

        if (own && asked.Authorization is not null)
        {
            headers.Authorization = asked.Authorization;
        }

        return message;
    }

    private static bool IsRedirect(HttpStatusCode status) => (int)status is 301 or 302 or 303 or 307 or 308;

    private static Uri Target(HttpResponseMessage response, Uri from)
    {
        if (RedirectLink.Target(response.Headers, from) is not { } target)
        {
            throw new RegistryException(PullError.Unavailable, $"{RegistryAddress.Shown(from)} answered {(int)response.StatusCode} without a usable Location") { IsTransient = true };
        }

        if (target.Scheme != Uri.UriSchemeHttps && (target.Scheme != Uri.UriSchemeHttp || from.Scheme != Uri.UriSchemeHttp))
        {
            throw new RegistryException(PullError.Unsupported, $"{RegistryAddress.Shown(from)} redirects to {RegistryAddress.Shown(target)}: {(target.Scheme == Uri.UriSchemeHttp ? "leaving https is refused" : "only http and https are followed")}");
        }

        return target;
    }
}
