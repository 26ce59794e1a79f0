using System.Globalization;
using System.Text;

namespace NativePull.Layers;

/// <summary>Archive bytes for people: UTF-8 where it is, everything else escaped, so that a message stays one line and a terminal obeys none of it.</summary>
internal static class TarText
{
    // Characters; a name may have many thousands.
    private const int Longest = 200;

    internal static string Show(ReadOnlySpan<byte> bytes)
    {
        StringBuilder text = new();
        ReadOnlySpan<byte> rest = bytes;
        while (rest.Length > 0 && text.Length < Longest)
        {
            bool valid = Rune.DecodeFromUtf8(rest, out Rune rune, out int length) == System.Buffers.OperationStatus.Done;
            if (valid && !IsUnseen(rune))
            {
                text.Append(rune.ToString());
            }
            else
            {
                foreach (byte b in rest[..length])
                {
                    text.Append(CultureInfo.InvariantCulture, $"\\x{b:x2}");
                }
            }

            rest = rest[length..];
        }

        return text.Append(rest.Length > 0 ? "…" : "").ToString();
    }

    // controls, and what turns or breaks a line: U+202E, U+2028 and their like
    private static bool IsUnseen(Rune rune) => Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator;
}
