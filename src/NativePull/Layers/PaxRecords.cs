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

    // What is expected, in messages.
    private const string Digits = "decimal digits, of a number of 63 bits";

    private readonly Dictionary<string, byte[]> values = [];
    private readonly Dictionary<string, TarXattr> xattrs;
    private readonly TarLimits limits;
    private Func<PaxRecords, string> subject;
    private IReadOnlyList<TarXattr>? listed;
    private long? pendingOffset;

    private PaxRecords(TarLimits limits, Func<PaxRecords, string> subject, Dictionary<string, TarXattr>? xattrs = null)
    {
        this.limits = limits;
        this.subject = subject;
        this.xattrs = xattrs is null ? [] : new(xattrs);
    }

    /// <summary>Whether any record makes the member a sparse file (GNU.sparse.*).</summary>
    internal bool IsSparse { get; private set; }

    /// <summary>The runs of formats 0.0 and 0.1, which are in the header; format 1.0 has them before the data.</summary>
    internal SparseMap? Map { get; private set; }

    // a global header's are asked for by every member
    internal IReadOnlyList<TarXattr> Xattrs => xattrs.Count == 0 ? [] : listed ??= [.. xattrs.Values];

    /// <summary>Of one member.</summary>
    /// <param name="name">What its other headers call it; for messages, until a record says better.</param>
    /// <exception cref="PullException">Malformed, LimitPassed, Unsupported.</exception>
    internal static PaxRecords OfMember(ReadOnlySpan<byte> content, byte[] name, TarLimits limits)
    {
        PaxRecords records = new(limits, read => $"pax header of {TarText.Show(read.Bytes("GNU.sparse.name") ?? read.Bytes("path") ?? name)}");
        records.Read(content);
        return records;
    }

    /// <summary>Of all members after it.</summary>
    /// <param name="where">It stands, for messages.</param>
    /// <exception cref="PullException">Malformed, LimitPassed.</exception>
    internal static PaxRecords OfAll(ReadOnlySpan<byte> content, string where, TarLimits limits)
    {
        PaxRecords records = new(limits, _ => $"global pax header {where}");
        records.Read(content);
        return records;
    }

    /// <summary>Puts the records of a later global header over these: in place, for a header costs an archive little, and these may be many.</summary>
    /// <exception cref="PullException">Malformed (a sparse map, which is one file's), LimitPassed.</exception>
    internal void Take(PaxRecords later)
    {
        if (later.IsSparse)
        {
            throw new PullException(PullError.Malformed, $"archive: {later.Subject}: a sparse map for all members");
        }

        subject = later.subject;
        listed = null;
        foreach ((string key, byte[] value) in later.values)
        {
            values[key] = value;
        }

        foreach ((string name, TarXattr xattr) in later.xattrs)
        {
            Put(name, xattr);
        }
    }

    /// <summary>Extended attributes of a member under a global header.</summary>
    internal IReadOnlyList<TarXattr> XattrsOver(PaxRecords global)
    {
        if (global.xattrs.Count == 0 || xattrs.Count == 0)
        {
            return xattrs.Count == 0 ? global.Xattrs : Xattrs;
        }

        PaxRecords both = new(limits, subject, global.xattrs);
        foreach ((string name, TarXattr xattr) in xattrs)
        {
            both.Put(name, xattr);
        }

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
        : throw Bad(key, value, Digits);

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
            throw Bad(key, value, "seconds, a point and digits");
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

    private string Subject => subject(this);

    private void Read(ReadOnlySpan<byte> rest)
    {
        while (rest.Length > 0 && rest[0] != 0)
        {
            ReadOnlySpan<byte> record = NextRecord(rest, out int length);
            int equals = record.IndexOf((byte)'=');
            if (equals <= 0)
            {
                throw Bad("a record", record, "a key, \"=\" and its value");
            }

            Add(Encoding.Latin1.GetString(record[..equals]), record[(equals + 1)..]);
            rest = rest[length..];
        }

        if (pendingOffset is { } offset)
        {
            throw new PullException(PullError.Malformed, string.Create(CultureInfo.InvariantCulture, $"archive: {Subject}: sparse map ends after the offset {offset}, before its length"));
        }
    }

    // Without its length, which counts itself, and its newline.
    private ReadOnlySpan<byte> NextRecord(ReadOnlySpan<byte> rest, out int length)
    {
        int space = rest.IndexOf((byte)' ');
        if (space <= 0 || !TryDigits(rest[..space], out long said))
        {
            throw Bad("the length of a record", space <= 0 ? rest : rest[..space], Digits);
        }

        if (said <= space + 1 || said > rest.Length)
        {
            throw new PullException(
                PullError.Malformed,
                string.Create(CultureInfo.InvariantCulture, $"archive: {Subject}: the length of a record is {said}, expected {space + 2} to the {rest.Length} that are left"));
        }

        length = (int)said;
        return rest[length - 1] == '\n' ? rest[(space + 1)..(length - 1)] : throw Bad("the end of a record", rest[(length - 1)..length], "a newline");
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
            values[key] = value.Contains((byte)0) ? throw Bad($"a {key}", value, "no NUL in it") : value.ToArray();
        }
        else if (key == "SUN.holesdata")
        {
            // the holes are not in the content, so that passing the key over would give another file
            throw new PullException(PullError.Unsupported, $"archive: {Subject}: {key} says that it is a sparse file of Solaris, which is not supported");
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
            throw Bad(key, value, "base64");
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
            throw Bad("the name of an extended attribute", Encoding.Latin1.GetBytes(name), "some bytes without a NUL");
        }

        if (name.Length > LongestXattrName)
        {
            throw Passed($"the name of an extended attribute, {TarText.Show(Encoding.Latin1.GetBytes(name))},", name.Length, LongestXattrName);
        }

        if (value.Length > limits.MaximumXattr)
        {
            throw Passed($"the attribute {TarText.Show(Encoding.Latin1.GetBytes(name))}", value.Length, limits.MaximumXattr);
        }

        Put(name, new TarXattr(Encoding.Latin1.GetBytes(name), value));
    }

    private void Put(string name, TarXattr xattr)
    {
        xattrs[name] = xattr;
        if (xattrs.Count > limits.MaximumXattrs)
        {
            throw new PullException(PullError.LimitPassed, string.Create(CultureInfo.InvariantCulture, $"archive: {Subject}: more than {limits.MaximumXattrs} extended attributes"));
        }
    }

    private void AddSparse(string key, ReadOnlySpan<byte> value)
    {
        switch (key[Sparse.Length..])
        {
            case "name":
                values[key] = value.Contains((byte)0) ? throw Bad($"a {key}", value, "no NUL in it") : value.ToArray();
                break;
            case "major" or "minor" or "size" or "realsize":
                values[key] = value.ToArray();
                break;
            case "offset":
                pendingOffset = pendingOffset is null ? Count(key, value) : throw Bad(key, value, "a length first, of the run before");
                break;
            case "numbytes":
                Map ??= NewMap();
                Map.Add(pendingOffset ?? throw Bad(key, value, "an offset before it"), Count(key, value));
                pendingOffset = null;
                break;
            case "map":
                AddMap(key, value);
                break;
        }
    }

    private SparseMap NewMap() => new(limits.MaximumSparseRuns, $"in the {Subject}");

    private long Count(string key, ReadOnlySpan<byte> value) => TryDigits(value, out long number) ? number : throw Bad(key, value, Digits);

    // "offset,length,offset,length,…"
    private void AddMap(string key, ReadOnlySpan<byte> value)
    {
        Map = NewMap();
        ReadOnlySpan<byte> rest = value;
        while (rest.Length > 0)
        {
            if (!TryNext(ref rest, out long offset) || !TryNext(ref rest, out long length))
            {
                throw Bad(key, value, "an even number of numbers between commas");
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

    private PullException Passed(string what, int bytes, int limit) =>
        new(PullError.LimitPassed, string.Create(CultureInfo.InvariantCulture, $"archive: {Subject}: {what} has {bytes} bytes, more than {limit}"));

    private PullException Bad(string what, ReadOnlySpan<byte> value, string expected) =>
        new(PullError.Malformed, $"archive: {Subject}: {what} is \"{TarText.Show(value)}\", expected {expected}");
}
