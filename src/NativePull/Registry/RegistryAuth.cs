using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Headers;

namespace NativePull.Registry;

/// <summary>
/// Signs in to one registry: challenge → Authorization (distribution, "Token Authentication Specification"; RFC 7617). One token per
/// realm, service and scope is shared by all requests; whoever needs it first fetches it while the others wait.
/// </summary>
internal sealed class RegistryAuth(string registry, TokenSource source, RegistryOptions options) : IDisposable
{
    private const int MostOffered = 8; // kinds of challenges that a message names

    private readonly ConcurrentDictionary<string, TokenSlot> slots = new();

    /// <summary>What got into a repository, or was about to: sent with the next request at once.</summary>
    private readonly ConcurrentDictionary<string, Func<CancellationToken, Task<AuthenticationHeaderValue>>> known = new();

    private readonly ConcurrentDictionary<string, Account> used = new();

    /// <summary>The Authorization to begin with; null before the first challenge. A token past its time is renewed.</summary>
    /// <exception cref="PullException">As <see cref="AnswerAsync"/>.</exception>
    internal async Task<AuthenticationHeaderValue?> KnownAsync(string repository, CancellationToken token) =>
        known.TryGetValue(repository, out Func<CancellationToken, Task<AuthenticationHeaderValue>>? get) ? await get(token) : null;

    /// <summary>Who we were to this repository so far.</summary>
    internal Account UsedFor(string repository) => used.GetValueOrDefault(repository, Account.Nobody);

    internal bool WasAsked(string repository) => used.ContainsKey(repository);

    /// <summary>The Authorization that answers a challenge.</summary>
    /// <param name="repository">"": none; the registry itself is asked for.</param>
    /// <param name="refused">What the challenge came in spite of.</param>
    /// <param name="asked">Who challenged.</param>
    /// <returns>And whether it was made for this challenge, so that a second refusal is final.</returns>
    /// <exception cref="PullException">Unauthorized or Denied: there is no way in; else what stopped the token request.</exception>
    internal async Task<(AuthenticationHeaderValue Authorization, bool IsNew)> AnswerAsync(
        string repository, IReadOnlyList<Challenge> challenges, AuthenticationHeaderValue? refused, Uri asked, CancellationToken token)
    {
        Account account = await options.Credentials.FindAsync(registry, repository, token);
        Credential? credential = account.Credential;
        used[repository] = account;
        if (credential?.RegistryToken is { } own)
        {
            var given = new AuthenticationHeaderValue("Bearer", own);
            known[repository] = _ => Task.FromResult(given);
            return (given, true);
        }

        if (challenges.FirstOrDefault(challenge => challenge.Is("Bearer") && challenge["realm"] is not null) is { } bearer)
        {
            return await BearerAsync(repository, bearer, account, refused, asked, token);
        }

        if (!challenges.Any(challenge => challenge.Is("Basic")))
        {
            string offered = challenges.Count == 0 ? "none" : string.Join(", ", challenges.Select(challenge => challenge.Scheme).Distinct().Take(MostOffered));
            throw Unauthorized(asked, $" and offers no way to sign in that is known here (offered: {offered}; known: Bearer, Basic)");
        }

        if (credential is null or { Username: "" })
        {
            throw Unauthorized(asked, $": it wants a user and password, and there are none for {registry} ({account.Sent})");
        }

        var basic = new AuthenticationHeaderValue("Basic", credential.Encoded);
        known[repository] = _ => Task.FromResult(basic);
        return (basic, true);
    }

    public void Dispose()
    {
        foreach (TokenSlot slot in slots.Values)
        {
            slot.Dispose();
        }
    }

    private async Task<(AuthenticationHeaderValue Authorization, bool IsNew)> BearerAsync(
        string repository, Challenge bearer, Account account, AuthenticationHeaderValue? refused, Uri asked, CancellationToken token)
    {
        if (!Uri.TryCreate(asked, bearer["realm"], out Uri? realm) || (realm.Scheme != Uri.UriSchemeHttps && realm.Scheme != Uri.UriSchemeHttp))
        {
            throw Unauthorized(asked, $" with a realm that is no address: \"{bearer["realm"]}\"");
        }

        string scope = bearer["scope"] ?? (repository.Length == 0 ? "" : $"repository:{repository}:pull");
        string? service = bearer["service"];
        TokenSlot slot = slots.GetOrAdd(
            $"{realm.AbsoluteUri}\n{service}\n{scope}",
            _ => new TokenSlot(stop => source.FetchAsync(realm, service, scope, account, stop), options.Clock));
        (Token got, bool isNew) = await slot.GetAsync(refused?.Parameter, token);
        known[repository] = async stop => (await slot.GetAsync(null, stop)).Token.Header;
        return (got.Header, isNew);
    }

    private static RegistryException Unauthorized(Uri asked, string why) =>
        new(PullError.Unauthorized, $"{RegistryAddress.Shown(asked)} answered 401{why}") { Status = HttpStatusCode.Unauthorized };

    /// <summary>The place of one token, with room for one at a time to fetch it.</summary>
    private sealed class TokenSlot(Func<CancellationToken, Task<Token>> fetch, TimeProvider clock) : IDisposable
    {
        private readonly SemaphoreSlim turn = new(1);
        private Token? current;

        internal async Task<(Token Token, bool IsNew)> GetAsync(string? refused, CancellationToken token)
        {
            await turn.WaitAsync(token);
            try
            {
                if (current is not null && current.Header.Parameter != refused && !current.IsOver(clock))
                {
                    return (current, false);
                }

                current = null; // should the fetch fail, the next one asks again
                current = await fetch(token);
                return (current, true);
            }
            finally
            {
                turn.Release();
            }
        }

        public void Dispose() => turn.Dispose();
    }
}
