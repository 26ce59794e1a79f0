using System.Buffers.Text;
using System.Text;

namespace NativePull.Layers;

/// <summary>
/// The records of a pax extended header (POSIX pax, "pax Extended Header"): "LENGTH KEY=VALUE\n", values as bytes. Of a key given twice the last
/// wins; an empty value takes an earlier one back.
/// </summary>
internal sealed class PaxRecords
{
    private const string SchilyXattr = "SCHILY.xattr.";
    private const string LibarchiveXattr = "LIBARCHIVE.xattr.";

    private readonly Dictionary<string, byte[]> values = [];
    private readonly Dictionary<string, TarXattr> xattrs = [];

    internal bool IsEmpty => values.Count == 0 && xattrs.Count == 0;

    internal IReadOnlyList<TarXattr> Xattrs => xattrs.Count == 0 ? [] : [.. xattrs.Values];

    /// <summary>Whether any record makes the member a sparse file (GNU.sparse.*).</summary>
    internal bool IsSparse { get; private set; }

    /// <exception cref="PullException">Malformed.</exception>
    internal static PaxRecords Parse(ReadOnlySpan<byte> content)
    {
        PaxRecords records = new();
        ReadOnlySpan<byte> rest = content;
        while (rest.Length > 0 && rest[0] != 0)
        {
            int space = rest.IndexOf((byte)' ');
            if (space <= 0 || !Utf8Parser.TryParse(rest[..space], out int length, out int used) || used != space || length <= space + 1 || length > rest.Length || rest[length - 1] != '\n')
            {
                throw Bad("a record's length", rest);
            }

            ReadOnlySpan<byte> record = rest[(space + 1)..(length - 1)];
            int equals = record.IndexOf((byte)'=');
            if (equals <= 0)
            {
                throw Bad("a record without a key", record);
            }

            records.Add(Encoding.Latin1.GetString(record[..equals]), record[(equals + 1)..]);
            rest = rest[length..];
        }

        return records;
    }

    /// <summary>These records with <paramref name="later"/> ones over them.</summary>
    internal PaxRecords With(PaxRecords later)
    {
        PaxRecords both = new() { IsSparse = IsSparse || later.IsSparse };
        foreach (PaxRecords each in new[] { this, later })
        {
            foreach ((string key, byte[] value) in each.values)
            {
                both.values[key] = value;
            }

            foreach ((string key, TarXattr xattr) in each.xattrs)
            {
                both.xattrs[key] = xattr;
            }
        }

        return both;
    }

    /// <summary>A value as bytes; null where there is none.</summary>
    internal byte[]? Bytes(string key) => values.TryGetValue(key, out byte[]? value) && value.Length > 0 ? value : null;

    /// <exception cref="PullException">Malformed.</exception>
    internal long? Number(string key)
    {
        if (Bytes(key) is not { } value)
        {
            return null;
        }

        return Utf8Parser.TryParse(value, out long number, out int used) && used == value.Length
            ? number
            : throw Bad($"{key}", value);
    }

    /// <summary>Seconds with a fraction, which may be negative: -0.5 is half a second before 1970.</summary>
    /// <exception cref="PullException">Malformed.</exception>
    internal TarTime? Time(string key)
    {
        if (Bytes(key) is not { } value)
        {
            return null;
        }

        ReadOnlySpan<byte> text = value;
        bool negative = text[0] == '-';
        text = negative ? text[1..] : text;
        int point = text.IndexOf((byte)'.');
        ReadOnlySpan<byte> whole = point < 0 ? text : text[..point];
        ReadOnlySpan<byte> fraction = point < 0 ? default : text[(point + 1)..];
        if (whole.Length is 0 or > 18 || whole.ContainsAnyExceptInRange((byte)'0', (byte)'9') || fraction.ContainsAnyExceptInRange((byte)'0', (byte)'9'))
        {
            throw Bad(key, value);
        }

        _ = Utf8Parser.TryParse(whole, out long seconds, out _);
        int nanoseconds = 0;
        for (int i = 0; i < 9; i++)
        {
            nanoseconds = (nanoseconds * 10) + (i < fraction.Length ? fraction[i] - '0' : 0);
        }

        return !negative ? new TarTime(seconds, nanoseconds)
            : nanoseconds == 0 ? new TarTime(-seconds, 0)
            : new TarTime(-seconds - 1, 1_000_000_000 - nanoseconds);
    }

    private void Add(string key, ReadOnlySpan<byte> value)
    {
        if (key.StartsWith(SchilyXattr, StringComparison.Ordinal))
        {
            AddXattr(key[SchilyXattr.Length..], value.ToArray());
        }
        else if (key.StartsWith(LibarchiveXattr, StringComparison.Ordinal))
        {
            string name = key[LibarchiveXattr.Length..];
            byte[] decoded = new byte[value.Length + 4];
            // libarchive writes base64 without padding
            string padded = Encoding.Latin1.GetString(value).PadRight((value.Length + 3) / 4 * 4, '=');
            if (!Convert.TryFromBase64String(padded, decoded, out int length))
            {
                throw Bad(key, value);
            }

            AddXattr(Uri.UnescapeDataString(name), decoded[..length]);
        }
        else
        {
            IsSparse |= key.StartsWith("GNU.sparse.", StringComparison.Ordinal);
            values[key] = value.ToArray();
        }
    }

    private void AddXattr(string name, byte[] value)
    {
        if (name.Length > 0)
        {
            xattrs[name] = new TarXattr(Encoding.Latin1.GetBytes(name), value);
        }
    }

    private static PullException Bad(string what, ReadOnlySpan<byte> value) =>
        new(PullError.Malformed, $"archive: pax header: {what} is \"{TarText.Show(value)}\"");
}
