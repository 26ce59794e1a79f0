using System.Text;
using System.Text.Json;
using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>A file of credentials: docker's config.json or containers' auth.json.</summary>
/// <param name="IsRequired">It was named explicitly: that it is missing is a failure.</param>
internal sealed record AuthFile(string Path, bool IsRequired);

/// <summary>What one auth file says, by normalised keys: host/namespace/repository, host/namespace, host (containers-auth.json(5)).</summary>
/// <param name="Broken">Key → why its entry is of no use, as a failure of whoever needs that one.</param>
/// <param name="Helpers">Key → the name of the helper that keeps its secret; "": none, not even the store.</param>
/// <param name="Store">The helper for every host without one of its own; null: none.</param>
internal sealed record AuthFileContent(
    IReadOnlyDictionary<string, Credential> Entries, IReadOnlyDictionary<string, PullException> Broken, IReadOnlyDictionary<string, string> Helpers, string? Store)
{
    private static readonly AuthFileContent Empty =
        new(new Dictionary<string, Credential>(), new Dictionary<string, PullException>(), new Dictionary<string, string>(), null);

    /// <exception cref="PullException">Usage: a required file is missing; Machine: it cannot be read or has no such format.</exception>
    internal static AuthFileContent Read(AuthFile file)
    {
        byte[] content;
        try
        {
            content = WithoutMark(File.ReadAllBytes(file.Path));
        }
        catch (Exception missing) when (missing is FileNotFoundException or DirectoryNotFoundException)
        {
            return file.IsRequired ? throw new PullException(PullError.Usage, $"{file.Path}: no such auth file") : Empty;
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
        {
            throw new PullException(PullError.Machine, $"{file.Path}: the auth file cannot be read", unreadable);
        }

        try
        {
            return content.Length == 0 ? Empty : Parse(file.Path, content); // docker takes an empty file, and people name /dev/null, for none
        }
        catch (JsonException malformed)
        {
            throw Malformed(file.Path, JsonFault.Describe(content, malformed));
        }
    }

    /// <summary>Without the mark that some editors, and shells of another system, put before UTF-8.</summary>
    internal static byte[] WithoutMark(byte[] content) => content.AsSpan().StartsWith("\uFEFF"u8) ? content[3..] : content;

    /// <summary>
    /// A key of the file as host or host/path. docker wrote addresses once, "https://index.docker.io/v1/" to this day; containers writes host/path.
    /// </summary>
    internal static string Key(string key)
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
        return host.ToLowerInvariant() is "index.docker.io" or RegistryAddress.DockerHubHost ? string.Concat(RegistryAddress.DockerHub, name.AsSpan(host.Length)) : name;
    }

    private static AuthFileContent Parse(string file, byte[] content)
    {
        AuthFileDocument document = JsonSerializer.Deserialize(content, RegistryJsonContext.Default.AuthFileDocument) ?? throw Malformed(file, "it is null");
        var entries = new Dictionary<string, Credential>(StringComparer.OrdinalIgnoreCase);
        var broken = new Dictionary<string, PullException>(StringComparer.OrdinalIgnoreCase);
        foreach ((string key, AuthEntryDocument? entry) in document.Auths ?? [])
        {
            try
            {
                if (entry is not null && ToCredential(key, entry) is { } credential)
                {
                    entries.TryAdd(Key(key), credential);
                }
            }
            catch (FormatException useless)
            {
                broken.TryAdd(Key(key), Malformed(file, useless.Message));
            }
        }

        var helpers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach ((string key, string? helper) in document.CredHelpers ?? [])
        {
            helpers.TryAdd(Key(key), helper ?? "");
        }

        return new AuthFileContent(entries, broken, helpers, document.CredsStore is { Length: > 0 } store ? store : null);
    }

    private static PullException Malformed(string file, string how) => new(PullError.Machine, $"{file}: malformed auth file: {how}");

    // An entry may be empty: docker keeps such a one for registries whose secret is with a helper.
    private static Credential? ToCredential(string key, AuthEntryDocument entry)
    {
        Credential? user = UserOf(key, entry);
        if (entry.RegistryToken?.AsSpan().ContainsAnyExceptInRange('!', '~') == true)
        {
            throw new FormatException($"the registrytoken of \"{key}\" is not one token"); // it goes into a header as it is
        }

        return entry is { IdentityToken.Length: > 0 } or { RegistryToken.Length: > 0 }
            ? (user ?? new Credential("", "")) with { IdentityToken = NullIfEmpty(entry.IdentityToken), RegistryToken = NullIfEmpty(entry.RegistryToken) }
            : user;
    }

    private static Credential? UserOf(string key, AuthEntryDocument entry)
    {
        if (entry.Auth is not { Length: > 0 } auth)
        {
            return entry is { Username.Length: > 0, Password: not null } ? Credential.OfUser(entry.Username, entry.Password) : null;
        }

        auth = string.Concat(auth.Where(c => !char.IsWhiteSpace(c))); // base64(1) breaks long lines
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
            _ => Credential.OfUser(text[..colon], text[(colon + 1)..]),
        };
    }

    private static string? NullIfEmpty(string? text) => string.IsNullOrEmpty(text) ? null : text;
}

internal sealed record AuthFileDocument(Dictionary<string, AuthEntryDocument?>? Auths, Dictionary<string, string?>? CredHelpers, string? CredsStore);

internal sealed record AuthEntryDocument(string? Auth, string? Username, string? Password, string? IdentityToken, string? RegistryToken)
{
    public override string ToString() => "an entry";
}
