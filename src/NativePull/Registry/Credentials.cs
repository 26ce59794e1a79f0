using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace NativePull.Registry;

internal sealed record BasicCredential(string Username, string Password)
{
    /// <summary>The parameter of "Authorization: Basic" (RFC 7617, in UTF-8).</summary>
    internal string Encoded => Convert.ToBase64String(Encoding.UTF8.GetBytes($"{Username}:{Password}"));

    /// <summary>Without the password: this may end in a log.</summary>
    public override string ToString() => $"user {Username}";
}

/// <summary>A file of credentials: docker's config.json or containers' auth.json.</summary>
/// <param name="IsRequired">It was named explicitly: that it is missing is a failure.</param>
internal sealed record AuthFile(string Path, bool IsRequired);

/// <summary>
/// Who we are to a registry: nobody, one user for every registry, or what auth files say. Files are read when first asked, and
/// only as far as needed.
/// </summary>
internal sealed class Credentials
{
    private readonly BasicCredential? everywhere;
    private readonly Lazy<Dictionary<string, BasicCredential>>[] files;

    private Credentials(BasicCredential? everywhere, IEnumerable<AuthFile> files)
    {
        this.everywhere = everywhere;
        this.files = [.. files.Select(file => new Lazy<Dictionary<string, BasicCredential>>(() => Read(file)))];
    }

    internal static Credentials Anonymous { get; } = new(null, []);

    /// <summary>The same for every registry asked.</summary>
    internal static Credentials Of(BasicCredential credential) => new(credential, []);

    /// <summary>The first file with an entry wins.</summary>
    internal static Credentials FromFiles(IEnumerable<AuthFile> files) => new(null, files);

    /// <summary>
    /// The longest key wins: host/namespace/repository, host/namespace, host (containers-auth.json(5)). Null: nobody.
    /// </summary>
    /// <param name="registry">As references name it.</param>
    /// <exception cref="PullException">Usage: a required file is missing; Machine: a file cannot be read or has no such format.</exception>
    internal BasicCredential? Find(string registry, string repository)
    {
        if (everywhere is not null)
        {
            return everywhere;
        }

        foreach (Lazy<Dictionary<string, BasicCredential>> file in files)
        {
            string key = $"{registry}/{repository}";
            while (true)
            {
                if (file.Value.TryGetValue(key, out BasicCredential? found))
                {
                    return found;
                }

                int slash = key.LastIndexOf('/');
                if (slash < 0)
                {
                    break;
                }

                key = key[..slash];
            }
        }

        return null;
    }

    private static Dictionary<string, BasicCredential> Read(AuthFile file)
    {
        byte[] content;
        try
        {
            content = File.ReadAllBytes(file.Path);
        }
        catch (Exception missing) when (missing is FileNotFoundException or DirectoryNotFoundException)
        {
            return file.IsRequired ? throw new PullException(PullError.Usage, $"{file.Path}: no such auth file") : [];
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
        {
            throw new PullException(PullError.Machine, $"{file.Path}: the auth file cannot be read", unreadable);
        }

        try
        {
            return Parse(content);
        }
        catch (Exception malformed) when (malformed is JsonException or FormatException)
        {
            // the cause may quote the content, which is secret
            throw new PullException(PullError.Machine, $"{file.Path}: malformed auth file ({(malformed is JsonException ? "not the JSON expected" : malformed.Message)})");
        }
    }

    private static Dictionary<string, BasicCredential> Parse(byte[] content)
    {
        var found = new Dictionary<string, BasicCredential>(StringComparer.OrdinalIgnoreCase);
        AuthFileDocument document = JsonSerializer.Deserialize(content, RegistryJsonContext.Default.AuthFileDocument) ?? throw new JsonException();
        foreach ((string key, AuthEntryDocument? entry) in document.Auths ?? [])
        {
            if (entry is not null && Credential(key, entry) is { } credential)
            {
                found.TryAdd(Key(key), credential);
            }
        }

        return found;
    }

    // An entry may be empty: docker keeps such a one for registries whose secret is with a helper.
    private static BasicCredential? Credential(string key, AuthEntryDocument entry)
    {
        if (entry.Auth is not { Length: > 0 } auth)
        {
            return entry is { Username.Length: > 0, Password: not null } ? new BasicCredential(entry.Username, entry.Password) : null;
        }

        byte[] bytes = new byte[auth.Length];
        if (!Convert.TryFromBase64String(auth.PadRight((auth.Length + 3) / 4 * 4, '='), bytes, out int length))
        {
            throw new FormatException($"the auth of \"{key}\" is not base64");
        }

        string text = Encoding.UTF8.GetString(bytes, 0, length).Trim('\0');
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon switch
        {
            < 0 => throw new FormatException($"the auth of \"{key}\" is not user:password"),
            0 => null,
            _ => new BasicCredential(text[..colon], text[(colon + 1)..]),
        };
    }

    // docker wrote addresses once, "https://index.docker.io/v1/" to this day; containers writes host/path.
    private static string Key(string key)
    {
        int scheme = key.IndexOf("://", StringComparison.Ordinal);
        string name = scheme < 0 ? key : key[(scheme + 3)..];
        name = name.TrimEnd('/');
        if (scheme >= 0 && name.IndexOf('/', StringComparison.Ordinal) is > 0 and var slash)
        {
            name = name[..slash];
        }
        else if (name.EndsWith("/v1", StringComparison.Ordinal) || name.EndsWith("/v2", StringComparison.Ordinal))
        {
            name = name[..^3];
        }

        int first = name.IndexOf('/', StringComparison.Ordinal);
        string host = first < 0 ? name : name[..first];
        return host.ToLowerInvariant() is "index.docker.io" or "registry-1.docker.io" ? string.Concat("docker.io", name.AsSpan(host.Length)) : name;
    }
}

internal sealed record AuthFileDocument(Dictionary<string, AuthEntryDocument?>? Auths);

internal sealed record AuthEntryDocument(string? Auth, string? Username, string? Password);

internal sealed record TokenDocument(string? Token, [property: JsonPropertyName("access_token")] string? AccessToken, [property: JsonPropertyName("expires_in")] double? ExpiresIn);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, NumberHandling = JsonNumberHandling.AllowReadingFromString)]
[JsonSerializable(typeof(AuthFileDocument))]
[JsonSerializable(typeof(TokenDocument))]
internal sealed partial class RegistryJsonContext : JsonSerializerContext;
