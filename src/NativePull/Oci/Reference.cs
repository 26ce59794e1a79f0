using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Text.RegularExpressions;

namespace NativePull.Oci;

/// <summary>
/// What the user typed, resolved by the distribution grammar (distribution/reference): registry, repository, tag and/or digest.
/// Docker Hub's short forms are completed (<c>alpine</c> → <c>docker.io/library/alpine:latest</c>); <c>library/</c> is added for Docker Hub alone.
/// </summary>
internal sealed partial record Reference
{
    private const int MaximumRepositoryLength = 255;
    private const string DockerHub = "docker.io";

    private Reference(string registry, string repository, string? tag, Digest? digest)
    {
        Registry = registry;
        Repository = repository;
        Tag = tag;
        Digest = digest;
    }

    /// <summary>Host, with ":port" where one was given; IPv6 in brackets; lower case.</summary>
    internal string Registry { get; }

    internal string Repository { get; }

    /// <summary>The tag typed; "latest" where neither tag nor digest was; null where only a digest was.</summary>
    internal string? Tag { get; }

    internal Digest? Digest { get; }

    /// <summary>registry/repository.</summary>
    internal string Name => $"{Registry}/{Repository}";

    /// <summary>What to ask the registry for: the digest where one was given, for it decides, else the tag.</summary>
    internal string Selector => Digest?.ToString() ?? Tag!;

    /// <summary>The canonical text: every part in full.</summary>
    public override string ToString() => Name + (Tag is null ? "" : ":" + Tag) + (Digest is { } digest ? "@" + digest : "");

    /// <summary>Parses, or says in one clause what is wrong.</summary>
    internal static bool TryParse(string text, [NotNullWhen(true)] out Reference? reference, [NotNullWhen(false)] out string? problem)
    {
        reference = null;
        problem = TakeDigest(ref text, out Digest? digest);
        if (problem is not null)
        {
            return false;
        }

        (string registry, string path) = SplitRegistry(text);
        problem = TakeTag(ref path, out string? tag)
            ?? (RegistryGrammar().IsMatch(registry) && HasUsablePort(registry) && HasUsableHost(registry) ? null : $"\"{registry}\" is not a registry (host or host:port)")
            ?? CompleteRepository(registry, ref path);
        if (problem is not null)
        {
            return false;
        }

        reference = new Reference(registry, path, tag ?? (digest is null ? "latest" : null), digest);
        return true;
    }

    /// <summary>The same repository and tag, pinned to what it resolved to.</summary>
    internal string NameAt(Digest resolved) => $"{Name}@{resolved}";

    // These take their part off the end of the text, and give what is wrong with it.
    private static string? TakeDigest(ref string text, out Digest? digest)
    {
        digest = null;
        int at = text.IndexOf('@', StringComparison.Ordinal);
        if (at < 0)
        {
            return null;
        }

        string name = text[(at + 1)..];
        text = text[..at];
        if (!Oci.Digest.TryParse(name, out Digest parsed))
        {
            return $"\"{name}\" is not a digest (sha256: and 64, or sha512: and 128, lower-case hex digits)";
        }

        digest = parsed;
        return null;
    }

    private static string? TakeTag(ref string path, out string? tag)
    {
        tag = null;
        int colon = path.LastIndexOf(':');
        if (colon < 0)
        {
            return null;
        }

        tag = path[(colon + 1)..];
        path = path[..colon];
        return TagGrammar().IsMatch(tag) ? null : $"\"{tag}\" is not a tag (at most 128 of A-Z a-z 0-9 _ . -, not beginning with . or -)";
    }

    private static string? CompleteRepository(string registry, ref string path)
    {
        if (registry == DockerHub && !path.Contains('/', StringComparison.Ordinal))
        {
            if (IdentifierGrammar().IsMatch(path))
            {
                return $"\"{path}\" is an image ID, not a reference";
            }

            path = "library/" + path;
        }

        return path.Length > MaximumRepositoryLength ? $"the repository has {path.Length} characters, more than {MaximumRepositoryLength}"
            : RepositoryGrammar().IsMatch(path) ? null
            : path.Any(char.IsAsciiLetterUpper) ? $"the repository \"{path}\" must be lower case"
            : $"\"{path}\" is not a repository (lower-case letters, digits, and between them . _ __ or -, in parts separated by /)";
    }

    // The first component is a registry if it has a dot or a colon or is localhost (distribution/reference, splitDockerDomain). There, an
    // upper-case letter makes it one too; not here, for in lower case, as hosts are kept, the same text would mean Docker Hub.
    private static (string Registry, string Path) SplitRegistry(string text)
    {
        int slash = text.IndexOf('/', StringComparison.Ordinal);
        if (slash > 0)
        {
            string first = text[..slash];
            if (first.AsSpan().ContainsAny('.', ':', '[') || first.Equals("localhost", StringComparison.OrdinalIgnoreCase))
            {
                string host = first.ToLowerInvariant();
                return (host is "index.docker.io" or "registry-1.docker.io" ? DockerHub : host, text[(slash + 1)..]);
            }
        }

        return (DockerHub, text);
    }

    private static bool HasUsablePort(string registry)
    {
        int colon = registry.LastIndexOf(':');
        return colon < 0 || registry.EndsWith(']') || (int.TryParse(registry.AsSpan(colon + 1), out int port) && port is > 0 and <= 65535);
    }

    // What the grammar lets through and no address can hold: labels of more than 63 characters (RFC 1035, 2.3.4), broken IPv6.
    private static bool HasUsableHost(string registry)
    {
        int end = registry.LastIndexOf(']');
        return end > 0
            ? IPAddress.TryParse(registry.AsSpan(1, end - 1), out _)
            : registry.Length <= 255 && registry.Split('.', ':').All(label => label.Length <= 63);
    }

    // Docker takes 64 hex digits for an image ID, and so refuses them as a name (distribution/reference, ParseNormalizedNamed).
    [GeneratedRegex(@"\A[a-f0-9]{64}\z")]
    private static partial Regex IdentifierGrammar();

    [GeneratedRegex(@"\A(?:(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\z")]
    private static partial Regex RegistryGrammar();

    [GeneratedRegex(@"\A[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\z")]
    private static partial Regex RepositoryGrammar();

    [GeneratedRegex(@"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\z")]
    private static partial Regex TagGrammar();
}
