using System.Globalization;

namespace NativePull.Pull;

/// <summary>The kinds of images that lie about in files (the transports of containers/image).</summary>
internal enum SourceKind
{
    /// <summary><c>oci:DIR</c>: an OCI image layout.</summary>
    OciLayout,

    /// <summary><c>oci-archive:FILE</c>: the same in a tar.</summary>
    OciArchive,

    /// <summary><c>docker-archive:FILE</c>: what <c>docker save</c> writes.</summary>
    DockerArchive,
}

/// <summary>What <c>extract</c> was told, where it is no reference: a kind, a path, and which image in it.</summary>
/// <param name="Text">As typed.</param>
/// <param name="Path">Directory or file; "-" is stdin.</param>
/// <param name="Selector">A tag or reference; null: none given.</param>
/// <param name="Position">The N of <c>:@N</c>, from 0; null: none given.</param>
internal sealed record SourceName(string Text, SourceKind Kind, string Path, string? Selector, int? Position)
{
    internal const string Stdin = "-";

    private static readonly (string Prefix, SourceKind Kind)[] Prefixes =
        [("oci:", SourceKind.OciLayout), ("oci-archive:", SourceKind.OciArchive), ("docker-archive:", SourceKind.DockerArchive)];

    /// <summary>The text up to the selection: what stands before the "@" of NAME@DIGEST.</summary>
    internal string Name => Text[..Text.IndexOf(':', StringComparison.Ordinal)] + ":" + Path;

    /// <summary>Null: it has none of the prefixes, and is a reference.</summary>
    /// <exception cref="PullException">Usage.</exception>
    internal static SourceName? TryParse(string text)
    {
        foreach ((string prefix, SourceKind kind) in Prefixes)
        {
            if (text.StartsWith(prefix, StringComparison.Ordinal))
            {
                return Split(text, kind, text[prefix.Length..]);
            }
        }

        return null;
    }

    private static SourceName Split(string text, SourceKind kind, string rest)
    {
        // a path may have colons: what is there as a whole is a path, and so is the longest part before a colon that is there
        string path = rest;
        while (!IsThere(path) && path.LastIndexOf(':') is var colon and > 0)
        {
            path = path[..colon];
        }

        // nothing of it is there: the first colon ends the path, so that the message names it
        path = IsThere(path) || !rest.Contains(':', StringComparison.Ordinal) ? path : rest[..rest.IndexOf(':', StringComparison.Ordinal)];
        string? selector = path.Length == rest.Length ? null : rest[(path.Length + 1)..];
        if (path.Length == 0)
        {
            throw new PullException(PullError.Usage, $"\"{text}\" names no file");
        }

        if (kind == SourceKind.OciLayout && path == Stdin)
        {
            throw new PullException(PullError.Usage, $"\"{text}\": a layout is a directory; oci-archive:- reads one from stdin");
        }

        if (selector is not { Length: > 0 } || selector[0] != '@')
        {
            return new SourceName(text, kind, path, selector is { Length: > 0 } ? selector : null, null);
        }

        return int.TryParse(selector.AsSpan(1), NumberStyles.None, CultureInfo.InvariantCulture, out int position)
            ? new SourceName(text, kind, path, null, position)
            : throw new PullException(PullError.Usage, $"\"{text}\": \"{selector}\" is not @ and a number");
    }

    private static bool IsThere(string path) => path == Stdin || File.Exists(path) || Directory.Exists(path);
}
