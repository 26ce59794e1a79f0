using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>One page of a tag list, and where the next one is (distribution-spec, "Listing Tags"; RFC 8288).</summary>
internal static class TagPage
{
    private const int MaximumTag = 256; // characters; the grammar allows 128

    /// <exception cref="PullException">Malformed.</exception>
    internal static IReadOnlyList<string> Tags(byte[] content, string what)
    {
        TagsDocument document = JsonFault.Read(content, RegistryJsonContext.Default.TagsDocument, $"{what}: tag list");
        string?[] tags = document.Tags ?? []; // null: what Go makes of an empty list
        if (tags.Any(tag => tag is null or "" || tag.Length > MaximumTag || tag.Any(c => c is <= ' ' or > '~')))
        {
            throw new PullException(PullError.Malformed, $"{what}: the tag list names something that is no tag");
        }

        return tags!; // none is null, as just seen
    }

    /// <summary>What the Link headers name as "next", below the same origin; null: this was the last page.</summary>
    /// <exception cref="PullException">Malformed: it leads elsewhere.</exception>
    internal static string? Next(IEnumerable<string> links, Uri asked, string what)
    {
        foreach (string link in links.SelectMany(Links))
        {
            int close = link.IndexOf('>', StringComparison.Ordinal);
            if (!link.StartsWith('<') || close < 0 || !IsNext(link[(close + 1)..]))
            {
                continue;
            }

            // some registries send their own address with another scheme or host than they are known by: only a path is followed
            if (!Uri.TryCreate(asked, link[1..close], out Uri? next) || !next.AbsolutePath.StartsWith('/') || next.Scheme is not ("http" or "https"))
            {
                throw new PullException(PullError.Malformed, $"{what}: the next page of the tag list has no usable address");
            }

            return next.PathAndQuery;
        }

        return null;
    }

    // Several links may share a header; a comma inside an address's angle brackets does not part them.
    private static IEnumerable<string> Links(string header)
    {
        int start = 0;
        bool inside = false;
        for (int i = 0; i <= header.Length; i++)
        {
            if (i == header.Length || (header[i] == ',' && !inside))
            {
                yield return header[start..i].Trim();
                start = i + 1;
            }
            else
            {
                inside = header[i] == '<' || (inside && header[i] != '>');
            }
        }
    }

    private static bool IsNext(string parameters) => parameters.Split(';').Select(parameter => parameter.Trim()).Any(parameter =>
        parameter.StartsWith("rel", StringComparison.OrdinalIgnoreCase)
        && parameter[3..].Trim() is ['=', .. var value]
        && value.Trim().Trim('"').Split(' ').Contains("next", StringComparer.OrdinalIgnoreCase));
}

internal sealed record TagsDocument(string?[]? Tags);
