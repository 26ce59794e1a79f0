using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using NativePull.IO;

namespace NativePull.Registry;

/// <summary>A bearer token and when it ends; null where the server did not say: then a 401 tells.</summary>
internal sealed record Token(AuthenticationHeaderValue Header, DateTimeOffset? End)
{
    internal bool IsOver(TimeProvider clock) => clock.GetUtcNow() >= End;

    public override string ToString() => "a token";
}

/// <summary>Fetches bearer tokens from the realms that registries name.</summary>
internal sealed class TokenSource(Exchange exchange, RegistryOptions options, IProgress<RetryNotice>? retries)
{
    private const int MaximumAnswer = 1024 * 1024; // bytes; real tokens have up to some 16 KiB

    /// <exception cref="PullException">
    /// Unauthorized or Denied: the realm refuses; Denied: it would see the password in the clear; else as <see cref="Exchange.GetAsync"/>.
    /// </exception>
    internal async Task<Token> FetchAsync(Uri realm, string? service, string scope, BasicCredential? credential, CancellationToken token)
    {
        if (credential is not null && realm.Scheme != Uri.UriSchemeHttps && !RegistryAddress.IsLoopback(realm.Host))
        {
            throw new RegistryException(PullError.Denied, $"{RegistryAddress.Shown(realm)} asks for the password of {credential} without TLS, which is refused");
        }

        AuthenticationHeaderValue? basic = credential is null ? null : new AuthenticationHeaderValue("Basic", credential.Encoded);
        var asked = new Asked(Address(realm, service, scope), null, 0, basic);
        var attempts = new Attempts($"token for {scope}", options, retries);
        while (true)
        {
            try
            {
                using Answer answer = await exchange.GetAsync(asked, token);
                await using var body = new ResponseBody(answer.Response, answer.Address, options);
                return answer.Status == HttpStatusCode.OK
                    ? Read(await BoundedRead.AllAsync(body, MaximumAnswer, RegistryAddress.Shown(realm), token), realm)
                    : throw Refusal(await Refused.OfAsync(answer, body, credential, options.Clock, token));
            }
            catch (RegistryException failure)
            {
                await attempts.WaitAfterAsync(failure, token);
            }
        }
    }

    private static Uri Address(Uri realm, string? service, string scope)
    {
        var query = new List<string>();
        if (realm.Query.Length > 1)
        {
            query.Add(realm.Query[1..]);
        }

        if (service is not null)
        {
            query.Add($"service={Uri.EscapeDataString(service)}");
        }

        query.AddRange(scope.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(one => $"scope={Uri.EscapeDataString(one)}"));
        return new UriBuilder(realm) { Query = string.Join('&', query) }.Uri;
    }

    private Token Read(byte[] content, Uri realm)
    {
        TokenDocument? document;
        try
        {
            document = JsonSerializer.Deserialize(content, RegistryJsonContext.Default.TokenDocument);
        }
        catch (JsonException)
        {
            document = null; // the cause may quote the token
        }

        string? value = document?.Token is { Length: > 0 } token ? token : document?.AccessToken;
        if (string.IsNullOrEmpty(value) || value.Any(c => c is <= ' ' or > '~'))
        {
            throw new RegistryException(PullError.Unavailable, $"{RegistryAddress.Shown(realm)} answered without a usable token");
        }

        return new Token(new AuthenticationHeaderValue("Bearer", value), document?.ExpiresIn is > 0 and < 1e9 and var seconds ? End(seconds) : null);
    }

    // Renewed a little early, so that it does not end under way; by our own clock, for the server's may differ.
    private DateTimeOffset End(double seconds) => options.Clock.GetUtcNow() + TimeSpan.FromSeconds(seconds - Math.Min(10, seconds / 10));

    // To a puller any refusal here means: not with these credentials. Only what passes keeps its own meaning.
    private static RegistryException Refusal(RegistryException refused) => refused.IsTransient
        ? refused
        : new RegistryException(refused.Status == HttpStatusCode.Forbidden ? PullError.Denied : PullError.Unauthorized, refused.Message) { Status = refused.Status };
}
