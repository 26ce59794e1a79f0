using System.Net.Http.Headers;

namespace NativePull.Registry;

/// <summary>
/// Where a redirect leads (RFC 9110, 10.2.2), to the letter: a signature may be of the address as it was written, and the library's own reading decodes
/// what need not be encoded and encodes what should be.
/// </summary>
internal static class RedirectLink
{
    /// <returns>Null: it leads nowhere.</returns>
    internal static Uri? Target(HttpResponseHeaders headers, Uri from)
    {
        // as long as nobody has asked for its reading
        string? written = headers.NonValidated.TryGetValues("Location", out HeaderStringValues values) ? Literal(values.ToString()) : null;
        // an address to the letter is no base for others
        if (headers.Location is not { } location || !Uri.TryCreate(new Uri(from.AbsoluteUri), location, out Uri? target) || target.Scheme is not ("http" or "https"))
        {
            return headers.Location is { IsAbsoluteUri: true } other ? other : null;
        }

        return written is not null
            && Uri.TryCreate(target.GetLeftPart(UriPartial.Authority) + written, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }, out Uri? literal)
            ? literal
            : target;
    }

    // The path and query as they were written; null where they cannot go into a request like this, or depend on the address before.
    private static string? Literal(string text)
    {
        text = text.Split('#')[0].Trim();
        int authority = text.StartsWith("//", StringComparison.Ordinal) ? 0 : text.IndexOf("://", StringComparison.Ordinal) + 1;
        if (authority > 0 || text.StartsWith("//", StringComparison.Ordinal))
        {
            int end = text.AsSpan(authority + 2).IndexOfAny('/', '?');
            text = end < 0 ? "/" : text[(authority + 2 + end)..];
            text = text[0] == '?' ? "/" + text : text;
        }

        string path = text.Split('?')[0];
        return text.StartsWith('/') && !text.AsSpan().ContainsAnyExceptInRange('!', '~') && !path.Split('/').Any(part => part is "." or "..") ? text : null;
    }
}
