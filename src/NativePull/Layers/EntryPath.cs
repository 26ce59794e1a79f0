using System.Globalization;
using System.Text;

namespace NativePull.Layers;

/// <summary>
/// A member's name as a path inside the root: components joined by "/", without "" and ".", and ".." taken back as far as the root and no
/// further. The root itself is empty.
/// </summary>
internal readonly ref struct EntryPath
{
    /// <summary>Bytes of one component; NAME_MAX of Linux, more than which no file system there holds.</summary>
    private const int LongestName = 255;

    /// <summary>Bytes of what a whiteout has before the name that it removes: <c>.wh.</c>.</summary>
    internal const int WhiteoutPrefix = 4;

    private EntryPath(byte[] full)
    {
        Full = full;
        int slash = Array.LastIndexOf(full, (byte)'/');
        Parent = slash < 0 ? default : full.AsSpan(0, slash);
        Base = full.AsSpan(slash + 1);
    }

    internal byte[] Full { get; }

    internal ReadOnlySpan<byte> Parent { get; }

    internal ReadOnlySpan<byte> Base { get; }

    internal bool IsRoot => Full.Length == 0;

    /// <exception cref="PullException">UnsafeEntry: a NUL inside.</exception>
    internal static EntryPath Of(ReadOnlySpan<byte> name)
    {
        if (name.Contains((byte)0))
        {
            throw new PullException(PullError.UnsafeEntry, $"archive: the name {TarText.Show(name)} has a NUL inside");
        }

        byte[] joined = new byte[name.Length];
        int length = 0;
        foreach (Range range in name.Split((byte)'/'))
        {
            ReadOnlySpan<byte> component = name[range];
            if (component.Length == 0 || component.SequenceEqual("."u8))
            {
                continue;
            }

            if (component.SequenceEqual(".."u8))
            {
                length = Math.Max(0, joined.AsSpan(0, length).LastIndexOf((byte)'/'));
                continue;
            }

            if (length > 0)
            {
                joined[length++] = (byte)'/';
            }

            component.CopyTo(joined.AsSpan(length));
            length += component.Length;
        }

        return new EntryPath(joined[..length]);
    }

    /// <summary>Refuses a component that is longer than any name can be.</summary>
    /// <param name="path">What it is a part of, for the message.</param>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal static void CheckLength(ReadOnlySpan<byte> component, ReadOnlySpan<byte> path)
    {
        int length = component.Length - (component.StartsWith(".wh."u8) ? WhiteoutPrefix : 0);
        if (length > LongestName)
        {
            throw new PullException(
                PullError.LimitPassed,
                $"archive: {TarText.Show(path)} has a name of {length.ToString(CultureInfo.InvariantCulture)} bytes, more than the {LongestName.ToString(CultureInfo.InvariantCulture)} that Linux takes");
        }
    }

    /// <summary>As a dictionary's key: one character a byte.</summary>
    internal static string Key(ReadOnlySpan<byte> path) => Encoding.Latin1.GetString(path);

    /// <summary>With the NUL that a system call wants; "." for the root.</summary>
    internal static byte[] Terminated(ReadOnlySpan<byte> path) => path.Length == 0 ? [(byte)'.', 0] : [.. path, 0];
}
