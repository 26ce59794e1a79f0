using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Text;
using NativePull.Layers;
using NativePull.Registry;

namespace NativePull.Cli;

/// <summary>The spellings of durations and sizes on the command line and in the environment.</summary>
internal static class Values
{
    private static readonly (string Unit, double Seconds)[] DurationUnits = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];

    private static readonly (string Unit, double Bytes)[] SizeUnits =
    [
        ("KiB", 1L << 10), ("MiB", 1L << 20), ("GiB", 1L << 30), ("TiB", 1L << 40),
        ("kB", 1e3), ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12),
        ("K", 1L << 10), ("M", 1L << 20), ("G", 1L << 30), ("T", 1L << 40), ("B", 1),
    ];

    /// <summary><c>500ms</c>, <c>30s</c>, <c>10m</c>, <c>2h</c>; a bare number is seconds.</summary>
    internal static bool TryParseDuration(string text, out TimeSpan duration)
    {
        bool parsed = TryParse(text, DurationUnits, out double seconds) && seconds < 1e9;
        duration = parsed ? TimeSpan.FromSeconds(seconds) : default;
        return parsed;
    }

    /// <summary><c>64MiB</c>, <c>2GB</c>; a bare number is bytes; K, M, G and T alone are the binary ones.</summary>
    internal static bool TryParseSize(string text, out long size)
    {
        bool parsed = TryParse(text, SizeUnits, out double bytes) && bytes < long.MaxValue;
        size = parsed ? (long)bytes : 0;
        return parsed;
    }

    /// <summary><c>0:100000:65536</c> each: as in uid_map(5) and for newuidmap(1), neither side may overlap.</summary>
    internal static bool TryParseRanges(IEnumerable<string> texts, out IReadOnlyList<IdRange> ranges, [NotNullWhen(false)] out string? problem)
    {
        List<IdRange> found = [];
        ranges = found;
        foreach (string text in texts)
        {
            if (!TryParseRange(text, out IdRange range))
            {
                problem = $"\"{text}\" is not CONTAINER:HOST:COUNT, such as 0:100000:65536";
                return false;
            }

            foreach (IdRange other in found)
            {
                if (Overlap(range.Container, other.Container) || Overlap(range.Host, other.Host))
                {
                    problem = $"\"{text}\" overlaps a range before it";
                    return false;
                }

                bool Overlap(uint one, uint two) => one < (ulong)two + other.Count && two < (ulong)one + range.Count;
            }

            found.Add(range);
        }

        problem = null;
        return true;
    }

    /// <summary>OverlayUser → overlay-user.</summary>
    internal static string Kebab(string name)
    {
        StringBuilder kebab = new();
        foreach (char c in name)
        {
            if (char.IsAsciiLetterUpper(c) && kebab.Length > 0)
            {
                kebab.Append('-');
            }

            kebab.Append(char.ToLowerInvariant(c));
        }

        return kebab.ToString();
    }

    /// <summary><c>registry.example:443:10.0.0.7</c>; the host and the address may be IPv6, with or without brackets (the host only with).</summary>
    internal static bool TryParseFixedAddress(string text, [NotNullWhen(true)] out FixedAddress? value)
    {
        value = null;
        int bracket = text.StartsWith('[') ? text.IndexOf(']', StringComparison.Ordinal) : 0;
        int first = bracket < 0 ? -1 : text.IndexOf(':', bracket);
        int second = first < 1 ? -1 : text.IndexOf(':', first + 1);
        if (second < 0
            || !ushort.TryParse(text.AsSpan(first + 1, second - first - 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port)
            || !IPAddress.TryParse(text.AsSpan(second + 1), out IPAddress? address))
        {
            return false;
        }

        value = new FixedAddress(text[..first].Trim('[', ']'), port, address);
        return true;
    }

    /// <summary>1536000 → "1.5 MB".</summary>
    internal static string Size(long bytes)
    {
        double value = bytes;
        string[] units = ["B", "kB", "MB", "GB", "TB"];
        int unit = 0;
        while (value >= 999.5 && unit < units.Length - 1)
        {
            value /= 1000;
            unit++;
        }

        return value.ToString(unit == 0 || value >= 99.95 ? "0" : "0.0", CultureInfo.InvariantCulture) + " " + units[unit];
    }

    private static bool TryParse(string text, (string Unit, double Factor)[] units, out double value)
    {
        double factor = 1;
        foreach ((string unit, double of) in units)
        {
            if (text.EndsWith(unit, StringComparison.Ordinal))
            {
                (text, factor) = (text[..^unit.Length], of);
                break;
            }
        }

        bool parsed = double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out value) && double.IsFinite(value);
        value *= factor;
        return parsed;
    }

    // the highest number, 2^32 - 1, is nobody: to chown(2) it means "leave as it is"
    private static bool TryParseRange(string text, out IdRange range)
    {
        string[] parts = text.Split(':');
        uint?[] numbers = [.. parts.Select(part => uint.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out uint number) ? number : (uint?)null)];
        if (numbers is not [{ } container, { } host, { } count and > 0] || (ulong)container + count > uint.MaxValue || (ulong)host + count > uint.MaxValue)
        {
            range = default;
            return false;
        }

        range = new IdRange(container, host, count);
        return true;
    }
}
