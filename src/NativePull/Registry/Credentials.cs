using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace NativePull.Registry;

/// <summary>
/// Who we are to a registry: nobody, one and the same everywhere, or what auth files and credential helpers say. Files are read, and helpers
/// asked, when first needed and once.
/// </summary>
internal sealed class Credentials
{
    private readonly Account? everywhere;
    private readonly Lazy<AuthFileContent>[] files;
    private readonly HelperSettings? helpers;
    private readonly IProgress<string>? warnings;
    private readonly ConcurrentDictionary<string, Lazy<Task<Account>>> answers = new();

    private Credentials(Account? everywhere, IEnumerable<AuthFile> files, HelperSettings? helpers, IProgress<string>? warnings)
    {
        this.everywhere = everywhere;
        this.files = [.. files.Select(file => new Lazy<AuthFileContent>(() => AuthFileContent.Read(file)))];
        this.helpers = helpers;
        this.warnings = warnings;
    }

    internal static Credentials Anonymous { get; } = new(Account.Nobody, [], null, null);

    /// <summary>For the one registry that is asked; see <see cref="ForOthers"/>.</summary>
    internal static Credentials Of(Credential credential) => new(new Account(credential, null), [], null, null);

    /// <summary>The first file with an entry wins, and in it the longest key.</summary>
    /// <param name="helpers">Null: no helper is run.</param>
    /// <param name="warnings">Told once a helper that failed.</param>
    internal static Credentials FromFiles(IEnumerable<AuthFile> files, HelperSettings? helpers = null, IProgress<string>? warnings = null) =>
        new(null, files, helpers, warnings);

    /// <summary>For hosts that the reference does not name: what was given for its registry is not theirs.</summary>
    internal Credentials ForOthers => everywhere is null ? this : Anonymous;

    /// <param name="registry">As references name it.</param>
    /// <exception cref="PullException">Usage: a required file is missing; Machine: a file cannot be read or has no such format.</exception>
    internal async Task<Account> FindAsync(string registry, string repository, CancellationToken token)
    {
        if (everywhere is not null)
        {
            return everywhere;
        }

        string? trouble = null;
        foreach (Lazy<AuthFileContent> file in files)
        {
            Account found = await FindInAsync(file.Value, registry, repository, token);
            if (found.Credential is not null)
            {
                return found;
            }

            trouble ??= found.Trouble;
        }

        return new Account(null, trouble);
    }

    // host/namespace/repository, host/namespace, host. An entry of the file's own comes before a helper: docker empties it when a helper keeps the secret.
    private async Task<Account> FindInAsync(AuthFileContent file, string registry, string repository, CancellationToken token)
    {
        string? trouble = null;
        string host = AuthFileContent.Key(registry); // a mirror may have one of Docker Hub's other names
        string key = repository.Length == 0 ? host : $"{host}/{repository}";
        while (true)
        {
            if (file.Entries.TryGetValue(key, out Credential? entry))
            {
                return new Account(entry, null);
            }

            if (file.Broken.TryGetValue(key, out PullException? useless))
            {
                throw useless;
            }

            int slash = key.LastIndexOf('/');
            string? helper = file.Helpers.TryGetValue(key, out string? own) ? own : slash < 0 ? file.Store : null;
            if (helper is { Length: > 0 })
            {
                Account answer = await AskAsync(helper, key, token);
                if (answer.Credential is not null)
                {
                    return answer;
                }

                trouble ??= answer.Trouble;
            }

            if (slash < 0)
            {
                return new Account(null, trouble);
            }

            key = key[..slash];
        }
    }

    // A question that its asker gave up is nobody's answer.
    private async Task<Account> AskAsync(string helper, string key, CancellationToken token)
    {
        while (true)
        {
            Lazy<Task<Account>> asked = Ask(helper, key, token);
            try
            {
                return await asked.Value;
            }
            catch (OperationCanceledException) when (!token.IsCancellationRequested)
            {
                answers.TryRemove(KeyValuePair.Create(AnswerKey(helper, key), asked));
            }
        }
    }

    private static string AnswerKey(string helper, string key) => $"{helper}\n{key}";

    // Docker Hub's secrets are kept under the address that docker login has always used
    private Lazy<Task<Account>> Ask(string helper, string key, CancellationToken token) => answers.GetOrAdd(
        AnswerKey(helper, key),
        _ => new Lazy<Task<Account>>(() => Task.Run(
            () =>
            {
                Account answer = CredentialHelper.Ask(helper, key == "docker.io" ? "https://index.docker.io/v1/" : key, helpers, token);
                if (answer.Trouble is { } trouble)
                {
                    warnings?.Report($"{trouble}; going on without credentials for {key}");
                }

                return answer;
            },
            token)));
}

internal sealed record TokenDocument(
    string? Token,
    [property: JsonPropertyName("access_token")] string? AccessToken,
    [property: JsonPropertyName("refresh_token")] string? RefreshToken,
    [property: JsonPropertyName("expires_in")] JsonElement? ExpiresIn,
    [property: JsonPropertyName("issued_at")] JsonElement? IssuedAt)
{
    public override string ToString() => "an answer";
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, PropertyNameCaseInsensitive = true)]
[JsonSerializable(typeof(AuthFileDocument))]
[JsonSerializable(typeof(HelperDocument))]
[JsonSerializable(typeof(TokenDocument))]
internal sealed partial class RegistryJsonContext : JsonSerializerContext;
