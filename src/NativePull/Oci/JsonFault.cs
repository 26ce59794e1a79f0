using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace NativePull.Oci;

/// <summary>
/// Where a JSON document breaks its own format, or holds something else than it should, as words for a person: the library's are about types of
/// this program and positions within lines. Nothing of the document is repeated but one character and names of members.
/// </summary>
internal static class JsonFault
{
    private const int MaximumPath = 100; // characters
    private const int MaximumDepth = 64; // the library's own, where nothing else is said

    /// <summary>Read as the document expected, or a failure whose sentence says where that ended.</summary>
    /// <param name="what">The document, for the message.</param>
    /// <exception cref="PullException">Malformed: also where there is nothing but null.</exception>
    internal static T Read<T>(byte[] content, JsonTypeInfo<T> type, string what)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize(content, type) ?? throw new PullException(PullError.Malformed, $"{what}: it is null");
        }
        catch (JsonException failure)
        {
            throw new PullException(PullError.Malformed, $"{what}: malformed JSON: {Describe(content, failure)}");
        }
    }

    /// <param name="failure">What reading the content as a document ended with.</param>
    internal static string Describe(ReadOnlySpan<byte> content, JsonException failure)
    {
        var reader = new Utf8JsonReader(content);
        try
        {
            long end = OffsetOf(content, failure);
            (string found, long at) = ("unexpected value", end);
            while (reader.Read())
            {
                if (reader.BytesConsumed <= end)
                {
                    (found, at) = ($"unexpected {NameOf(reader.TokenType)}", reader.TokenStartIndex);
                }
            }

            if (NoUtf8(content) is { } wrong)
            {
                (found, at) = ("text that is not UTF-8", wrong);
            }

            return $"{found}{(MemberOf(failure.Path) is { Length: > 0 } member ? $" at {member}" : "")} (byte {Text(at)})";
        }
        catch (JsonException broken)
        {
            return OfSyntax(content, broken, reader.CurrentDepth);
        }
    }

    private static string OfSyntax(ReadOnlySpan<byte> content, JsonException broken, int depth)
    {
        int at = OffsetOf(content, broken);
        if (content.Trim(" \t\r\n"u8).IsEmpty)
        {
            return "it is empty";
        }

        if (at >= content.Length)
        {
            return $"it ends too early, after {Text(content.Length)} bytes";
        }

        byte found = content[at];
        if (depth >= MaximumDepth - 1 && found is (byte)'[' or (byte)'{')
        {
            return $"nested deeper than {Text(MaximumDepth)} levels (byte {Text(at)})";
        }

        string shown = found is > (byte)' ' and <= (byte)'~' ? $"'{(char)found}'" : string.Create(CultureInfo.InvariantCulture, $"byte 0x{found:x2}");
        string line = broken.LineNumber > 0 ? $", line {Text(broken.LineNumber.Value + 1)}" : "";
        return $"unexpected {shown} (byte {Text(at)}{line})";
    }

    // Counted from 0, over all lines.
    private static int OffsetOf(ReadOnlySpan<byte> content, JsonException failure)
    {
        int start = 0;
        for (long line = failure.LineNumber ?? 0; line > 0; line--)
        {
            start += content[start..].IndexOf((byte)'\n') + 1;
        }

        return (int)Math.Min(content.Length, start + (failure.BytePositionInLine ?? 0));
    }

    // The offset of the first byte that is none; null: it is all of it. Inside of text the library reads over that until the text is wanted.
    private static int? NoUtf8(ReadOnlySpan<byte> content)
    {
        for (int at = 0; at < content.Length;)
        {
            if (Rune.DecodeFromUtf8(content[at..], out _, out int length) != System.Buffers.OperationStatus.Done)
            {
                return at;
            }

            at += length;
        }

        return null;
    }

    // "$.layers[0].size" is layers[0].size.
    private static string MemberOf(string? path)
    {
        string member = (path ?? "").TrimStart('$').TrimStart('.');
        return member.Length > MaximumPath ? member[..MaximumPath] + "…" : member;
    }

    /// <summary>As messages call it.</summary>
    internal static string NameOf(JsonTokenType token) => token switch
    {
        JsonTokenType.StartObject or JsonTokenType.EndObject => "object",
        JsonTokenType.StartArray or JsonTokenType.EndArray => "list",
        JsonTokenType.String => "text",
        JsonTokenType.Number => "number",
        JsonTokenType.True => "true",
        JsonTokenType.False => "false",
        JsonTokenType.Null => "null",
        _ => "value",
    };

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
