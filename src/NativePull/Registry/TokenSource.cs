using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using NativePull.IO;
using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>A bearer token and when it ends; null where the server did not say: then a 401 tells.</summary>
internal sealed record Token(AuthenticationHeaderValue Header, DateTimeOffset? End)
{
    internal bool IsOver(TimeProvider clock) => clock.GetUtcNow() >= End;

    public override string ToString() => "a token";
}

/// <summary>
/// Fetches bearer tokens from the realms that registries name: with a password by GET (distribution, "Token Authentication"), with an identity
/// token by POST ("OAuth 2"). Where a realm does not know the one way (404, 405), the other is tried.
/// </summary>
internal sealed class TokenSource(Exchange exchange, RegistryOptions options, IProgress<RetryNotice>? retries)
{
    private const int MaximumAnswer = 1024 * 1024; // bytes; real tokens have up to some 16 KiB
    private const string ClientId = "nativepull";

    /// <summary>Identity token → the one that a realm gave in its place.</summary>
    private readonly ConcurrentDictionary<string, string> renewed = new();

    /// <param name="scope">"": none; for a request that is about no repository.</param>
    /// <exception cref="PullException">
    /// Unauthorized or Denied: the realm refuses; Denied: it would see a secret in the clear; else as <see cref="Exchange.SendAsync"/>.
    /// </exception>
    internal async Task<Token> FetchAsync(Uri realm, string? service, string scope, Account account, CancellationToken token)
    {
        Credential? credential = account.Credential;
        if (credential is not null && realm.Scheme != Uri.UriSchemeHttps && !RegistryAddress.IsLoopback(realm.Host))
        {
            throw new RegistryException(PullError.Denied, $"{RegistryAddress.Shown(realm)} asks for {credential.Shown} without TLS, which is refused");
        }

        var ways = new Queue<Func<Asked>>();
        ways.Enqueue(credential?.IdentityToken is null ? () => ByGet(realm, service, scope, credential) : () => ByPost(realm, service, scope, credential));
        if (credential is not null)
        {
            ways.Enqueue(credential.IdentityToken is null ? () => ByPost(realm, service, scope, credential) : () => ByGet(realm, service, scope, credential));
        }

        var attempts = new Attempts(scope.Length == 0 ? "token" : $"token for {scope}", options, retries);
        while (true)
        {
            try
            {
                using Answer answer = await exchange.SendAsync(ways.Peek()(), token);
                await using var body = new ResponseBody(answer.Response, answer.Address, options);
                if (answer.Status == HttpStatusCode.OK)
                {
                    byte[] sent = await BoundedRead.AllAsync(body, MaximumAnswer, RegistryAddress.Shown(realm), token);
                    return Read(answer, ContentEncoding.Decode(sent, answer.Response, MaximumAnswer, RegistryAddress.Shown(realm)), realm, credential);
                }

                if (answer.Status is HttpStatusCode.NotFound or HttpStatusCode.MethodNotAllowed && ways.Count > 1)
                {
                    ways.Dequeue();
                    continue;
                }

                throw Refusal(await Refused.OfAsync(answer, body, account, options.Clock, token));
            }
            catch (RegistryException failure)
            {
                await attempts.WaitAfterAsync(failure, token);
            }
        }
    }

    private static Asked ByGet(Uri realm, string? service, string scope, Credential? credential)
    {
        Credential? basic = credential is { IdentityToken: { } identity, Password.Length: 0 }
            ? new Credential(credential.Username.Length > 0 ? credential.Username : Credential.IdentityTokenUser, identity)
            : credential;
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
        Uri address = new UriBuilder(realm) { Query = string.Join('&', query) }.Uri;
        return new Asked(address, null, 0, basic is null ? null : new AuthenticationHeaderValue("Basic", basic.Encoded));
    }

    private Asked ByPost(Uri realm, string? service, string scope, Credential credential)
    {
        var form = new Dictionary<string, string> { ["client_id"] = ClientId };
        if (service is not null)
        {
            form["service"] = service;
        }

        if (scope.Length > 0)
        {
            form["scope"] = scope;
        }

        if (credential.IdentityToken is { } identity)
        {
            form["grant_type"] = "refresh_token";
            form["refresh_token"] = renewed.GetValueOrDefault(identity, identity);
        }
        else
        {
            form["grant_type"] = "password";
            form["username"] = credential.Username;
            form["password"] = credential.Password;
        }

        return new Asked(realm, null, 0, null) { Form = form };
    }

    private Token Read(Answer answer, byte[] content, Uri realm, Credential? credential)
    {
        TokenDocument? document;
        try
        {
            document = JsonSerializer.Deserialize(content, RegistryJsonContext.Default.TokenDocument);
        }
        catch (JsonException malformed)
        {
            // that of a page to sign in to a hotel's network, say
            throw new RegistryException(PullError.Unavailable, $"{RegistryAddress.Shown(realm)} answered without a usable token: malformed JSON: {JsonFault.Describe(content, malformed)}");
        }

        string? value = document?.Token is { Length: > 0 } token ? token : document?.AccessToken;
        if (document is null || string.IsNullOrEmpty(value) || value.Any(c => c is <= ' ' or > '~'))
        {
            throw new RegistryException(PullError.Unavailable, $"{RegistryAddress.Shown(realm)} answered without a usable token");
        }

        if (credential?.IdentityToken is { } identity && document.RefreshToken is { Length: > 0 } next)
        {
            renewed[identity] = next;
        }

        return new Token(new AuthenticationHeaderValue("Bearer", value), End(answer, document));
    }

    // By our own clock, for the server's may differ; its own two times tell how old the token was when it came. Renewed a little early, so that it
    // does not end under way.
    private DateTimeOffset? End(Answer answer, TokenDocument document)
    {
        double seconds = Seconds(document.ExpiresIn);
        if (seconds is not (> 0 and < 1e9))
        {
            return null;
        }

        if (document.IssuedAt is { ValueKind: JsonValueKind.String } issuedAt
            && issuedAt.TryGetDateTimeOffset(out DateTimeOffset issued)
            && answer.Response.Headers.Date - issued is { } age && age > TimeSpan.Zero && age.TotalSeconds < seconds)
        {
            seconds -= age.TotalSeconds;
        }

        return options.Clock.GetUtcNow() + TimeSpan.FromSeconds(seconds - Math.Min(10, seconds / 10));
    }

    // Some servers write it as text. What has no reading says nothing, and the token is good all the same.
    private static double Seconds(JsonElement? said) => said switch
    {
        { ValueKind: JsonValueKind.Number } number when number.TryGetDouble(out double seconds) => seconds,
        { ValueKind: JsonValueKind.String } text when double.TryParse(text.GetString(), CultureInfo.InvariantCulture, out double seconds) => seconds,
        _ => 0,
    };

    // To a puller any refusal here means: not with these credentials. Only what passes keeps its own meaning.
    private static RegistryException Refusal(RegistryException refused) => refused.IsTransient
        ? refused
        : new RegistryException(refused.Status == HttpStatusCode.Forbidden ? PullError.Denied : PullError.Unauthorized, refused.Message) { Status = refused.Status };
}
