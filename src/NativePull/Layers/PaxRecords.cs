using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace NativePull.Layers;

/// <summary>
/// The records of a pax extended header (POSIX pax, "pax Extended Header"): "LENGTH KEY=VALUE\n", values as bytes. Of a key given twice the last
/// wins; an empty value takes back what a global header said. Keys that make no difference to the tree are not kept.
/// </summary>
internal sealed class PaxRecords
{
    private const string SchilyXattr = "SCHILY.xattr.";
    private const string LibarchiveXattr = "LIBARCHIVE.xattr.";
    private const string Sparse = "GNU.sparse.";

    // Bytes, with the namespace; XATTR_NAME_MAX of linux/limits.h.
    private const int LongestXattrName = 255;

    private readonly Dictionary<string, byte[]> values = [];
    private readonly Dictionary<string, TarXattr> xattrs = [];
    private readonly TarLimits limits;
    private long? pendingOffset;

    internal PaxRecords(TarLimits limits) => this.limits = limits;

    /// <summary>Whether any record makes the member a sparse file (GNU.sparse.*).</summary>
    internal bool IsSparse { get; private set; }

    /// <summary>The runs of formats 0.0 and 0.1, which are in the header; format 1.0 has them before the data.</summary>
    internal SparseMap? Map { get; private set; }

    internal IReadOnlyList<TarXattr> Xattrs => xattrs.Count == 0 ? [] : [.. xattrs.Values];

    /// <exception cref="PullException">Malformed, LimitPassed.</exception>
    internal static PaxRecords Parse(ReadOnlySpan<byte> content, TarLimits limits)
    {
        PaxRecords records = new(limits);
        ReadOnlySpan<byte> rest = content;
        while (rest.Length > 0 && rest[0] != 0)
        {
            int space = rest.IndexOf((byte)' ');
            if (space <= 0 || !TryDigits(rest[..space], out long length) || length <= space + 1 || length > rest.Length || rest[(int)length - 1] != '\n')
            {
                throw Bad("the length of a record", rest);
            }

            ReadOnlySpan<byte> record = rest[(space + 1)..((int)length - 1)];
            int equals = record.IndexOf((byte)'=');
            if (equals <= 0)
            {
                throw Bad("a record without a key", record);
            }

            records.Add(Encoding.Latin1.GetString(record[..equals]), record[(equals + 1)..]);
            rest = rest[(int)length..];
        }

        if (records.pendingOffset is not null)
        {
            throw new PullException(PullError.Malformed, "archive: pax header: sparse map ends after an offset");
        }

        return records;
    }

    /// <summary>These global records, with those of a later global header over them.</summary>
    /// <exception cref="PullException">Malformed (a sparse map, which is one file's), LimitPassed.</exception>
    internal PaxRecords With(PaxRecords later)
    {
        if (later.IsSparse)
        {
            throw new PullException(PullError.Malformed, "archive: pax header: a sparse map for all members");
        }

        PaxRecords both = new(limits);
        both.Take(this);
        both.Take(later);
        return both;
    }

    /// <summary>Extended attributes of a member under a global header.</summary>
    internal IReadOnlyList<TarXattr> XattrsOver(PaxRecords global)
    {
        if (global.xattrs.Count == 0)
        {
            return Xattrs;
        }

        PaxRecords both = new(limits);
        both.Take(global);
        both.Take(this);
        return both.Xattrs;
    }

    /// <summary>A value as bytes; null where there is none, or an empty one.</summary>
    internal byte[]? Bytes(string key, PaxRecords? global = null) =>
        values.TryGetValue(key, out byte[]? value) ? value.Length > 0 ? value : null : global?.Bytes(key);

    /// <summary>A number from 0 on.</summary>
    /// <exception cref="PullException">Malformed.</exception>
    internal long? Number(string key, PaxRecords? global = null) =>
        Bytes(key, global) is not { } value ? null
        : TryDigits(value, out long number) ? number
        : throw Bad(key, value);

    /// <summary>Seconds with a fraction, which may be negative: -0.5 is half a second before 1970.</summary>
    /// <exception cref="PullException">Malformed.</exception>
    internal TarTime? Time(string key, PaxRecords? global = null)
    {
        if (Bytes(key, global) is not { } value)
        {
            return null;
        }

        ReadOnlySpan<byte> text = value;
        bool negative = text[0] == '-';
        text = negative ? text[1..] : text;
        int point = text.IndexOf((byte)'.');
        ReadOnlySpan<byte> whole = point < 0 ? text : text[..point];
        ReadOnlySpan<byte> fraction = point < 0 ? default : text[(point + 1)..];
        if (!TryDigits(whole, out long seconds) || seconds == long.MaxValue || fraction.ContainsAnyExceptInRange((byte)'0', (byte)'9'))
        {
            throw Bad(key, value);
        }

        int nanoseconds = 0;
        for (int i = 0; i < 9; i++)
        {
            nanoseconds = (nanoseconds * 10) + (i < fraction.Length ? fraction[i] - '0' : 0);
        }

        return !negative ? new TarTime(seconds, nanoseconds)
            : nanoseconds == 0 ? new TarTime(-seconds, 0)
            : new TarTime(-seconds - 1, 1_000_000_000 - nanoseconds);
    }

    private void Take(PaxRecords other)
    {
        foreach ((string key, byte[] value) in other.values)
        {
            values[key] = value;
        }

        foreach (TarXattr xattr in other.xattrs.Values)
        {
            AddXattr(Encoding.Latin1.GetString(xattr.Name), xattr.Value);
        }
    }

    private void Add(string key, ReadOnlySpan<byte> value)
    {
        if (key.StartsWith(SchilyXattr, StringComparison.Ordinal))
        {
            AddXattr(key[SchilyXattr.Length..], value.ToArray());
        }
        else if (key.StartsWith(LibarchiveXattr, StringComparison.Ordinal))
        {
            AddLibarchive(key, value);
        }
        else if (key.StartsWith(Sparse, StringComparison.Ordinal))
        {
            IsSparse = true;
            AddSparse(key, value);
        }
        else if (key is "path" or "linkpath")
        {
            values[key] = value.Contains((byte)0) ? throw Bad($"a {key} with a NUL", value) : value.ToArray();
        }
        else if (key is "size" or "uid" or "gid" or "mtime")
        {
            values[key] = value.ToArray();
        }
    }

    // libarchive percent-encodes the name and writes the value in base64 without padding.
    private void AddLibarchive(string key, ReadOnlySpan<byte> value)
    {
        byte[] decoded = new byte[value.Length + 4];
        string padded = Encoding.Latin1.GetString(value).PadRight((value.Length + 3) / 4 * 4, '=');
        if (!Convert.TryFromBase64String(padded, decoded, out int length))
        {
            throw Bad(key, value);
        }

        AddXattr(Unescape(key.AsSpan(LibarchiveXattr.Length)), decoded[..length]);
    }

    // Bytes, not characters: Uri's unescaping would make UTF-16 of them.
    private static string Unescape(ReadOnlySpan<char> text)
    {
        StringBuilder name = new(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            bool escaped = text[i] == '%' && i + 2 < text.Length && char.IsAsciiHexDigit(text[i + 1]) && char.IsAsciiHexDigit(text[i + 2]);
            name.Append(escaped ? (char)Convert.FromHexString(text.Slice(i + 1, 2))[0] : text[i]);
            i += escaped ? 2 : 0;
        }

        return name.ToString();
    }

    private void AddXattr(string name, byte[] value)
    {
        if (name.Length == 0 || name.Contains('\0', StringComparison.Ordinal))
        {
            throw Bad("the name of an extended attribute", Encoding.Latin1.GetBytes(name));
        }

        if (name.Length > LongestXattrName)
        {
            throw Passed($"the name of an extended attribute, {TarText.Show(Encoding.Latin1.GetBytes(name))},", name.Length, LongestXattrName);
        }

        if (value.Length > limits.MaximumXattr)
        {
            throw Passed($"the attribute {TarText.Show(Encoding.Latin1.GetBytes(name))}", value.Length, limits.MaximumXattr);
        }

        xattrs[name] = new TarXattr(Encoding.Latin1.GetBytes(name), value);
        if (xattrs.Count > limits.MaximumXattrs)
        {
            throw new PullException(PullError.LimitPassed, $"archive: pax header: more than {limits.MaximumXattrs} extended attributes");
        }
    }

    private void AddSparse(string key, ReadOnlySpan<byte> value)
    {
        switch (key[Sparse.Length..])
        {
            case "name":
                values[key] = value.Contains((byte)0) ? throw Bad($"a {key} with a NUL", value) : value.ToArray();
                break;
            case "major" or "minor" or "size" or "realsize":
                values[key] = value.ToArray();
                break;
            case "offset":
                _ = pendingOffset is null && TryDigits(value, out long offset) ? pendingOffset = offset : throw Bad(key, value);
                break;
            case "numbytes":
                Map ??= new SparseMap(limits.MaximumSparseRuns);
                Map.Add(pendingOffset ?? throw Bad($"{key} without an offset", value), TryDigits(value, out long length) ? length : throw Bad(key, value));
                pendingOffset = null;
                break;
            case "map":
                AddMap(key, value);
                break;
        }
    }

    // "offset,length,offset,length,…"
    private void AddMap(string key, ReadOnlySpan<byte> value)
    {
        Map = new SparseMap(limits.MaximumSparseRuns);
        ReadOnlySpan<byte> rest = value;
        while (rest.Length > 0)
        {
            if (!TryNext(ref rest, out long offset) || !TryNext(ref rest, out long length))
            {
                throw Bad(key, value);
            }

            Map.Add(offset, length);
        }
    }

    private static bool TryNext(ref ReadOnlySpan<byte> rest, out long number)
    {
        int comma = rest.IndexOf((byte)',');
        ReadOnlySpan<byte> digits = comma < 0 ? rest : rest[..comma];
        rest = comma < 0 ? default : rest[(comma + 1)..];
        return TryDigits(digits, out number);
    }

    /// <summary>Decimal digits alone: no sign, no space, no more than a long holds.</summary>
    internal static bool TryDigits(ReadOnlySpan<byte> digits, out long number)
    {
        number = 0;
        return digits.Length > 0
            && !digits.ContainsAnyExceptInRange((byte)'0', (byte)'9')
            && Utf8Parser.TryParse(digits, out number, out int used)
            && used == digits.Length;
    }

    private static PullException Passed(string what, int bytes, int limit) =>
        new(PullError.LimitPassed, string.Create(CultureInfo.InvariantCulture, $"archive: pax header: {what} has {bytes} bytes, more than {limit}"));

    private static PullException Bad(string what, ReadOnlySpan<byte> value) =>
        new(PullError.Malformed, $"archive: pax header: {what} is \"{TarText.Show(value)}\"");
}
