using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>One page of a tag list, and where the next one is (distribution-spec, "Listing Tags"; RFC 8288).</summary>
/// <param name="Lines">The tags in printable ASCII, each with a line's end: no more than the page itself took, however many they are.</param>
internal sealed record TagPage(ReadOnlyMemory<byte> Lines, int Count)
{
    private const int MaximumTag = 256; // bytes; the grammar allows 128
    private const int MaximumShown = 60; // characters

    /// <exception cref="PullException">Malformed.</exception>
    internal static TagPage Read(byte[] content, string what)
    {
        what += ": tag list";
        try
        {
            return new Reader(content, what).Read();
        }
        catch (JsonException malformed)
        {
            throw new PullException(PullError.Malformed, $"{what}: malformed JSON: {JsonFault.Describe(content, malformed)}");
        }
    }

    /// <summary>What the Link headers name as "next", below the same origin; null: this was the last page.</summary>
    /// <exception cref="PullException">Malformed: it leads elsewhere.</exception>
    internal static string? Next(IEnumerable<string> links, Uri asked, string what)
    {
        foreach (List<string> link in links.SelectMany(header => Split(header, ',')).Select(link => Split(link, ';').ToList()).Where(link => link.Skip(1).Any(IsNext)))
        {
            // some registries send their own address with another scheme or host than they are known by: only a path is followed
            string address = link[0].TrimStart('<').TrimEnd('>').Trim();
            if (address.Length == 0 || !Uri.TryCreate(asked, address, out Uri? next) || !next.AbsolutePath.StartsWith('/') || next.Scheme is not ("http" or "https"))
            {
                throw new PullException(PullError.Malformed, $"{what}: the next page of the tag list has no usable address");
            }

            return next.PathAndQuery;
        }

        return null;
    }

    // Neither within an address's angle brackets nor within quotes does a separator part anything.
    private static IEnumerable<string> Split(string text, char separator)
    {
        int start = 0;
        char inside = '\0';
        for (int i = 0; i <= text.Length; i++)
        {
            if (i == text.Length || (inside == '\0' && text[i] == separator))
            {
                yield return text[start..i].Trim();
                start = i + 1;
            }
            else if (inside == '\0' && text[i] is '<' or '"' or '\'')
            {
                inside = text[i] == '<' ? '>' : text[i];
            }
            else if (text[i] == inside)
            {
                inside = '\0';
            }
        }
    }

    private static bool IsNext(string parameter) => parameter.StartsWith("rel", StringComparison.OrdinalIgnoreCase)
        && parameter[3..].Trim() is ['=', .. var value]
        && value.Trim().Trim('"', '\'').Split(' ').Contains("next", StringComparer.OrdinalIgnoreCase);

    // By hand rather than into a document: a list of a million tags would be as many objects, and some registries put a description of every image
    // beside it.
    private ref struct Reader(byte[] content, string what)
    {
        private Utf8JsonReader json = new(content);
        private ArrayBufferWriter<byte> lines = new();
        private int count;

        internal TagPage Read()
        {
            json.Read();
            if (json.TokenType != JsonTokenType.StartObject)
            {
                throw Unexpected("");
            }

            while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
            {
                bool isTags = json.GetString()!.Equals("tags", StringComparison.OrdinalIgnoreCase);
                json.Read();
                if (isTags)
                {
                    ReadTags();
                }
                else
                {
                    json.Skip();
                }
            }

            json.Read(); // nothing may follow
            return new TagPage(lines.WrittenMemory, count);
        }

        private void ReadTags()
        {
            (lines, count) = (new ArrayBufferWriter<byte>(), 0); // of two members of one name the last counts
            if (json.TokenType == JsonTokenType.Null)
            {
                return; // what Go makes of an empty list
            }

            if (json.TokenType != JsonTokenType.StartArray)
            {
                throw Unexpected(" at tags");
            }

            while (json.Read() && json.TokenType != JsonTokenType.EndArray)
            {
                if (json.TokenType != JsonTokenType.String)
                {
                    throw Unexpected($" at tags[{Text(count)}]");
                }

                Add();
                count++;
            }
        }

        private readonly void Add()
        {
            Span<byte> tag = lines.GetSpan(MaximumTag + 1);
            int length = 0;
            // an escape stands for at least a sixth of its bytes
            bool isTag = json.ValueSpan.Length <= MaximumTag * 6 && (length = json.ValueIsEscaped ? Unescape(tag) : Copy(tag)) is > 0 and <= MaximumTag;
            if (!isTag || tag[..length].ContainsAnyExceptInRange((byte)'!', (byte)'~'))
            {
                throw new PullException(PullError.Malformed, $"{what}: tags[{Text(count)}] is \"{Shown(json.ValueSpan)}\", which is no tag");
            }

            tag[length] = (byte)'\n';
            lines.Advance(length + 1);
        }

        private readonly int Copy(Span<byte> to)
        {
            json.ValueSpan[..Math.Min(json.ValueSpan.Length, MaximumTag)].CopyTo(to);
            return json.ValueSpan.Length;
        }

        // 0: it has no meaning.
        private readonly int Unescape(Span<byte> to)
        {
            Span<byte> room = stackalloc byte[MaximumTag * 6];
            try
            {
                int length = json.CopyString(room);
                room[..Math.Min(length, MaximumTag)].CopyTo(to);
                return length;
            }
            catch (InvalidOperationException)
            {
                return 0; // half of a surrogate pair
            }
        }

        private readonly PullException Unexpected(string where) =>
            new(PullError.Malformed, $"{what}: malformed JSON: unexpected {JsonFault.NameOf(json.TokenType)}{where} (byte {Text(json.TokenStartIndex)})");

        // as it was sent, with its escapes
        private static string Shown(ReadOnlySpan<byte> text) => Encoding.UTF8.GetString(text[..Math.Min(text.Length, MaximumShown)]) + (text.Length > MaximumShown ? "…" : "");

        private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
    }
}
