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

    /// <summary>The directory part of a long ustar name; GNU's own format keeps times there, star's cuts it short.</summary>
    internal ReadOnlySpan<byte> Prefix => !block.Slice(257, 6).SequenceEqual("ustar\0"u8) ? default
        : block.Slice(508, 4).SequenceEqual("tar\0"u8) ? Text(345, 131)
        : Text(345, 155);

    internal bool IsZero => !block.ContainsAnyExcept((byte)0);

    /// <exception cref="PullException">Malformed.</exception>
    internal long Mode => Number(100, 8, "mode");

    internal long Uid => Number(108, 8, "uid");

    internal long Gid => Number(116, 8, "gid");

    internal long Size => Number(124, 12, "size");

    internal long Modified => Number(136, 12, "mtime");

    internal long DeviceMajor => Number(329, 8, "devmajor");

    internal long DeviceMinor => Number(337, 8, "devminor");

    /// <summary>The sum of all bytes with the checksum field as spaces; some old tars added signed bytes.</summary>
    /// <exception cref="PullException">Malformed.</exception>
    internal void Verify()
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

        long stored = Number(148, 8, "checksum");
        if (stored != unsigned && stored != signed)
        {
            throw new PullException(
                PullError.Malformed,
                $"archive: header checksum: expected {Octal(stored)}, got {Octal(unsigned)}");
        }
    }

    private ReadOnlySpan<byte> Text(int start, int length)
    {
        ReadOnlySpan<byte> field = block.Slice(start, length);
        int end = field.IndexOf((byte)0);
        return end < 0 ? field : field[..end];
    }

    // Octal digits between spaces and NULs, or GNU's big-endian two's complement, marked by the first bit.
    private long Number(int start, int length, string what)
    {
        ReadOnlySpan<byte> field = block.Slice(start, length);
        if ((field[0] & 0x80) != 0)
        {
            return Binary(field, what);
        }

        ReadOnlySpan<byte> digits = field.TrimStart(" \0"u8);
        int end = digits.IndexOfAny((byte)' ', (byte)0);
        digits = end < 0 ? digits : digits[..end];
        long value = 0;
        foreach (byte digit in digits)
        {
            if (digit is < (byte)'0' or > (byte)'7')
            {
                throw new PullException(PullError.Malformed, $"archive: {what} field is \"{TarText.Show(field)}\", expected octal digits");
            }

            value = (value << 3) | (uint)(digit - '0');
        }

        return value;
    }

    private static long Binary(ReadOnlySpan<byte> field, string what)
    {
        // the mark is not part of the number; with the sign bit (0x40) the rest is negative
        Span<byte> wide = stackalloc byte[16];
        wide.Fill((field[0] & 0x40) != 0 ? (byte)0xff : (byte)0);
        field.CopyTo(wide[(16 - field.Length)..]);
        wide[16 - field.Length] = (byte)((field[0] & 0x40) != 0 ? field[0] | 0x80 : field[0] & 0x7f);
        Int128 value = BinaryPrimitives.ReadInt128BigEndian(wide);
        return value >= long.MinValue && value <= long.MaxValue
            ? (long)value
            : throw new PullException(PullError.Malformed, $"archive: {what} field is out of range");
    }

    private static string Octal(long number) => "0" + Convert.ToString(number, 8).ToString(CultureInfo.InvariantCulture);
}
