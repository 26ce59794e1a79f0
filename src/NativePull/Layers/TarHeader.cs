using System.Buffers.Binary;
using System.Globalization;

namespace NativePull.Layers;

/// <summary>
/// One 512-byte header block: where its fields are and how its numbers are written (POSIX pax, "ustar Interchange Format"; GNU tar manual,
/// "Basic Tar Format").
/// </summary>
internal readonly ref struct TarHeader(ReadOnlySpan<byte> block)
{
    internal const int BlockSize = 512;

    private readonly ReadOnlySpan<byte> block = block;

    internal ReadOnlySpan<byte> Name => Text(0, 100);

    internal ReadOnlySpan<byte> LinkName => Text(157, 100);

    internal byte TypeFlag => block[156];

    /// <summary>Prefix and name.</summary>
    internal byte[] FullName => Prefix.Length == 0 ? Name.ToArray() : [.. Prefix, (byte)'/', .. Name];

    // The directory part of a long ustar name; GNU's own format keeps times there, star's cuts it short.
    private ReadOnlySpan<byte> Prefix => !block.Slice(257, 6).SequenceEqual("ustar\0"u8) ? default
        : block.Slice(508, 4).SequenceEqual("tar\0"u8) ? Text(345, 131)
        : Text(345, 155);

    internal bool IsZero => !block.ContainsAnyExcept((byte)0);

    /// <exception cref="PullException">Malformed.</exception>
    internal long Mode => Number(100, 8, "mode");

    internal long Uid => Number(108, 8, "uid");

    internal long Gid => Number(116, 8, "gid");

    internal long Size => Length(124, "size");

    /// <summary>Length with holes of GNU's sparse file.</summary>
    internal long RealSize => Length(483, "real size");

    internal long Modified => Number(136, 12, "mtime");

    internal long DeviceMajor => Number(329, 8, "devmajor");

    internal long DeviceMinor => Number(337, 8, "devminor");

    /// <summary>Whether the checksum is right.</summary>
    internal bool IsValid => TryNumber(block.Slice(148, 8), out long stored) && Sums() is var (unsigned, signed) && (stored == unsigned || stored == signed);

    /// <param name="where">For the message; the name in a header that is none would be anything.</param>
    /// <exception cref="PullException">Malformed: the checksum is wrong.</exception>
    internal void Verify(string where)
    {
        if (!IsValid)
        {
            ReadOnlySpan<byte> field = block.Slice(148, 8);
            throw new PullException(
                PullError.Malformed,
                $"archive: checksum of the header {where}: expected {(TryNumber(field, out long stored) ? Octal(stored) : $"\"{TarText.Show(field)}\"")}, got {Octal(Sums().Unsigned)}");
        }
    }

    /// <summary>The runs of GNU's sparse file that stand in its header; true where blocks with more follow.</summary>
    /// <exception cref="PullException">Malformed, LimitPassed.</exception>
    internal bool AddSparseRuns(SparseMap map, ReadOnlySpan<byte> name)
    {
        AddRuns(block.Slice(386, 4 * 24), map, name);
        return block[482] != 0;
    }

    /// <summary>The runs in a block after such a header; true where one more follows.</summary>
    /// <exception cref="PullException">Malformed, LimitPassed.</exception>
    internal static bool AddExtendedRuns(ReadOnlySpan<byte> extension, SparseMap map, ReadOnlySpan<byte> name)
    {
        AddRuns(extension[..(21 * 24)], map, name);
        return extension[21 * 24] != 0;
    }

    private static void AddRuns(ReadOnlySpan<byte> runs, SparseMap map, ReadOnlySpan<byte> name)
    {
        for (; runs.Length > 0 && runs[0] != 0; runs = runs[24..])
        {
            map.Add(Number(runs[..12], name, "sparse map: offset"), Number(runs[12..24], name, "sparse map: length"));
        }
    }

    // The sum of all bytes with the checksum field as spaces; some old tars added signed bytes.
    private (long Unsigned, long Signed) Sums()
    {
        long unsigned = 8 * ' ';
        long signed = unsigned;
        for (int i = 0; i < BlockSize; i++)
        {
            if (i is < 148 or >= 156)
            {
                unsigned += block[i];
                signed += (sbyte)block[i];
            }
        }

        return (unsigned, signed);
    }

    private ReadOnlySpan<byte> Text(int start, int length)
    {
        ReadOnlySpan<byte> field = block.Slice(start, length);
        int end = field.IndexOf((byte)0);
        return end < 0 ? field : field[..end];
    }

    private long Length(int start, string what)
    {
        long length = Number(start, 12, what);
        return length >= 0
            ? length
            : throw new PullException(PullError.Malformed, $"archive: {TarText.Show(Name)}: {what} field is {length.ToString(CultureInfo.InvariantCulture)}, expected 0 or more");
    }

    private long Number(int start, int length, string what) => Number(block.Slice(start, length), Name, what);

    private static long Number(ReadOnlySpan<byte> field, ReadOnlySpan<byte> name, string what) => TryNumber(field, out long value)
        ? value
        : throw new PullException(
            PullError.Malformed, $"archive: {TarText.Show(name)}: {what} field is \"{TarText.Show(field)}\", expected octal digits or a number of 63 bits");

    // Octal digits between spaces and NULs, or GNU's big-endian two's complement, marked by the first bit.
    private static bool TryNumber(ReadOnlySpan<byte> field, out long value)
    {
        value = 0;
        if ((field[0] & 0x80) != 0)
        {
            return TryBinary(field, out value);
        }

        ReadOnlySpan<byte> digits = field.TrimStart(" \0"u8);
        int end = digits.IndexOfAny((byte)' ', (byte)0);
        digits = end < 0 ? digits : digits[..end];
        foreach (byte digit in digits)
        {
            if (digit is < (byte)'0' or > (byte)'7')
            {
                return false;
            }

            value = (value << 3) | (uint)(digit - '0');
        }

        return true;
    }

    private static bool TryBinary(ReadOnlySpan<byte> field, out long value)
    {
        // the mark is not part of the number; with the sign bit (0x40) the rest is negative
        Span<byte> wide = stackalloc byte[16];
        wide.Fill((field[0] & 0x40) != 0 ? (byte)0xff : (byte)0);
        field.CopyTo(wide[(16 - field.Length)..]);
        wide[16 - field.Length] = (byte)((field[0] & 0x40) != 0 ? field[0] | 0x80 : field[0] & 0x7f);
        Int128 number = BinaryPrimitives.ReadInt128BigEndian(wide);
        value = unchecked((long)number);
        return value == number;
    }

    private static string Octal(long number) => "0" + Convert.ToString(number, 8).ToString(CultureInfo.InvariantCulture);
}
