using System.Text;

namespace NativePull.Registry;

/// <summary>
/// One way to sign in that a server offers in WWW-Authenticate (RFC 9110, 11.6.1): a scheme with parameters or a token68.
/// Registries write this header in many ways; whatever has one sensible reading is read.
/// </summary>
/// <param name="Scheme">As written; compare without case.</param>
/// <param name="Parameters">Names without case, values unquoted; the first of a name counts.</param>
internal sealed record Challenge(string Scheme, string? Token68, IReadOnlyDictionary<string, string> Parameters)
{
    internal bool Is(string scheme) => Scheme.Equals(scheme, StringComparison.OrdinalIgnoreCase);

    /// <summary>The value of a parameter; null where it is absent or empty.</summary>
    internal string? this[string name] => Parameters.TryGetValue(name, out string? value) && value.Length > 0 ? value : null;

    /// <summary>All challenges of all header lines, in order. Never fails: what has no reading is left out.</summary>
    internal static IReadOnlyList<Challenge> Parse(IEnumerable<string> headers)
    {
        var challenges = new List<Challenge>();
        foreach (string header in headers)
        {
            new Reader(header).ReadInto(challenges);
        }

        return challenges;
    }

    private sealed class Reader(string text)
    {
        private int at;

        internal void ReadInto(List<Challenge> challenges)
        {
            string? scheme = null;
            string? token68 = null;
            Dictionary<string, string> parameters = [];
            while (SkipSeparators())
            {
                string word = Word();
                if (word.Length == 0)
                {
                    at++; // a character that begins nothing
                }
                else if (scheme is not null && token68 is null && parameters.Count == 0 && FollowsScheme(word) && IsToken68(out int padding))
                {
                    token68 = string.Concat(word, text.AsSpan(at, padding));
                    at += padding;
                }
                else if (scheme is not null && SkipEquals())
                {
                    parameters.TryAdd(word, Value());
                }
                else
                {
                    Add(challenges, scheme, token68, parameters);
                    (scheme, token68, parameters) = (word, null, new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase));
                }
            }

            Add(challenges, scheme, token68, parameters);
        }

        private static void Add(List<Challenge> challenges, string? scheme, string? token68, Dictionary<string, string> parameters)
        {
            if (scheme is not null)
            {
                challenges.Add(new Challenge(scheme, token68, parameters));
            }
        }

        // commas and white space; some servers put a semicolon
        private bool SkipSeparators()
        {
            while (at < text.Length && text[at] is ' ' or '\t' or ',' or ';')
            {
                at++;
            }

            return at < text.Length;
        }

        // a token (RFC 9110, 5.6.2) or token68 (11.2) without its padding
        private string Word()
        {
            int start = at;
            while (at < text.Length && (char.IsAsciiLetterOrDigit(text[at]) || "!#$%&'*+-.^_`|~/".Contains(text[at], StringComparison.Ordinal)))
            {
                at++;
            }

            return text[start..at];
        }

        // What opens a parameter's value, white space before it allowed.
        private bool SkipEquals()
        {
            int ahead = at;
            while (ahead < text.Length && text[ahead] is ' ' or '\t')
            {
                ahead++;
            }

            if (ahead == text.Length || text[ahead] != '=')
            {
                return false;
            }

            at = ahead + 1;
            return true;
        }

        // A word is a token68 if nothing but its padding stands before the next comma or the end.
        private bool IsToken68(out int padding)
        {
            int end = at;
            while (end < text.Length && text[end] == '=')
            {
                end++;
            }

            padding = end - at;
            while (end < text.Length && text[end] is ' ' or '\t')
            {
                end++;
            }

            return end == text.Length || text[end] == ',';
        }

        // Whether no comma stands between the scheme and this word.
        private bool FollowsScheme(string word)
        {
            int before = at - word.Length - 1;
            while (before >= 0 && text[before] is ' ' or '\t')
            {
                before--;
            }

            return before >= 0 && text[before] != ',';
        }

        private string Value()
        {
            while (at < text.Length && text[at] is ' ' or '\t')
            {
                at++;
            }

            return at < text.Length && text[at] is '"' or '\'' ? Quoted(text[at]) : Bare();
        }

        // An address is often left unquoted, although it is no token.
        private string Bare()
        {
            int start = at;
            while (at < text.Length && text[at] is not (' ' or '\t' or ',' or ';'))
            {
                at++;
            }

            return text[start..at];
        }

        private string Quoted(char quote)
        {
            var value = new StringBuilder();
            for (at++; at < text.Length && text[at] != quote; at++)
            {
                if (text[at] == '\\' && at + 1 < text.Length)
                {
                    at++;
                }

                value.Append(text[at]);
            }

            at++; // also beyond the end, where the closing quote is missing
            return value.ToString();
        }
    }
}
