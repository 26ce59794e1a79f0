using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace NativePull.Tests.Conformance;

/// <summary>One way to write down what is at a path, for the model and for file systems alike, so that trees are compared as text.</summary>
internal static class TreeText
{
    internal static string Octal(int mode) => "0" + Convert.ToString(mode & 0xFFF, 8);

    internal static string Time(long seconds, uint nanoseconds) => string.Create(CultureInfo.InvariantCulture, $"{seconds}.{nanoseconds:D9}");

    internal static string Content(byte[] content) => string.Create(
        CultureInfo.InvariantCulture, $"{content.Length}:{Convert.ToHexStringLower(SHA256.HashData(content).AsSpan(0, 6))}");

    internal static string Xattrs(IEnumerable<(string Name, byte[] Value)> xattrs)
    {
        StringBuilder text = new();
        foreach ((string name, byte[] value) in xattrs.OrderBy(xattr => xattr.Name, StringComparer.Ordinal))
        {
            text.Append(CultureInfo.InvariantCulture, $" {name}={Convert.ToHexStringLower(value)}");
        }

        return text.ToString();
    }

    /// <summary>Latin-1 text with everything unprintable as \xNN.</summary>
    internal static string Show(string name)
    {
        StringBuilder text = new();
        foreach (char c in name)
        {
            if (c is > ' ' and < '\x7F' and not '\\')
            {
                text.Append(c);
            }
            else
            {
                text.Append(CultureInfo.InvariantCulture, $"\\x{(int)c:x2}");
            }
        }

        return name.Length > 120 ? string.Create(CultureInfo.InvariantCulture, $"{text.ToString(0, 20)}…({name.Length} bytes)") : text.ToString();
    }

    /// <summary>What differs, one line a path; empty: nothing.</summary>
    internal static IReadOnlyList<string> Differences(
        string expectedName, IReadOnlyDictionary<string, string> expected, string actualName, IReadOnlyDictionary<string, string> actual)
    {
        List<string> differences = [];
        foreach (string path in expected.Keys.Union(actual.Keys).Order(StringComparer.Ordinal))
        {
            string first = expected.GetValueOrDefault(path, "absent");
            string second = actual.GetValueOrDefault(path, "absent");
            if (first != second)
            {
                differences.Add($"/{Show(path)}\n      {expectedName}: {first}\n      {actualName}: {second}");
            }
        }

        return differences;
    }
}
