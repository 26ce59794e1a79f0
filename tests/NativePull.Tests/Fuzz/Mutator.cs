using System.Buffers.Binary;
using System.Text;

namespace NativePull.Tests.Fuzz;

/// <summary>
/// Damages archives, the same way for the same seed. Tar headers get their checksum back most of the time, because a reader that stops there
/// shows nothing of what is behind.
/// </summary>
internal sealed class Mutator(int seed)
{
    private static readonly (int Offset, int Length)[] Fields =
        [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (329, 8), (337, 8), (345, 155), (386, 24), (482, 1), (483, 12)];

    private static readonly string[] Texts =
    [
        "", "0", "-1", "00000000000", "77777777777", "00000000777", "0000000001", "99999999999", "..", "../x", "/", "/x", "./", ".", "a/../../b", ".wh.", ".wh..", ".wh.a", ".wh..wh..opq",
        "\u0080\0\0\0\u007f\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff", "\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00fe", "\u0080\0\0\0\0\0\0\0\0\u0010\0\0", "0123456789", "a\0b", "d/d/d/d/d",
        "GNU.sparse.map", "GNU.sparse.major=1\n", "999999999999999999", "9223372036854775807", "18446744073709551615", "path=", "size=", "1.5", "-0.000000001", "e9",
    ];

    private static readonly byte[] Types = "0123456789xgXLKSDVMNAEI\0Z"u8.ToArray();

    private readonly Random random = new(seed);

    internal byte[] Mutate(byte[] original)
    {
        List<byte> bytes = [.. original];
        for (int i = random.Next(1, 6); i > 0 && bytes.Count > 0; i--)
        {
            Change(bytes);
        }

        byte[] changed = [.. bytes];
        if (random.Next(8) > 0)
        {
            MendChecksums(changed);
        }

        return changed;
    }

    internal T Pick<T>(IReadOnlyList<T> from) => from[random.Next(from.Count)];

    internal byte[] Join(byte[] first, byte[] second) => random.Next(4) == 0 ? [.. first, .. second] : first;

    private void Change(List<byte> bytes)
    {
        int block = random.Next(Math.Max(1, bytes.Count / 512)) * 512;
        switch (random.Next(11))
        {
            case 0:
                bytes[random.Next(bytes.Count)] ^= (byte)(1 << random.Next(8));
                break;
            case 1:
                bytes[random.Next(bytes.Count)] = (byte)random.Next(256);
                break;
            case 2:
                int kept = random.Next(bytes.Count);
                bytes.RemoveRange(kept, bytes.Count - kept);
                break;
            case 3:
                int length = Math.Min(512, bytes.Count - block);
                bytes.InsertRange(random.Next((bytes.Count / 512) + 1) * 512, bytes.GetRange(block, length));
                break;
            case 4:
                bytes.RemoveRange(block, Math.Min(512, bytes.Count - block));
                break;
            case 5:
                Write(bytes, random.Next(bytes.Count), Pick(Texts));
                break;
            case 6:
                Write(bytes, block + 156, Encoding.Latin1.GetString([Pick(Types)]));
                break;
            case 7:
                Digit(bytes);
                break;
            default:
                (int offset, int size) = Pick(Fields);
                string text = Pick(Texts);
                Write(bytes, block + offset, text[..Math.Min(size, text.Length)]);
                break;
        }
    }

    // Numbers in pax records and maps are where lies are told.
    private void Digit(List<byte> bytes)
    {
        int from = random.Next(bytes.Count);
        int found = bytes.FindIndex(from, b => b is >= (byte)'0' and <= (byte)'9');
        if (found >= 0)
        {
            bytes[found] = (byte)('0' + random.Next(10));
        }
    }

    private static void Write(List<byte> bytes, int offset, string text)
    {
        for (int i = 0; i < text.Length && offset + i < bytes.Count; i++)
        {
            bytes[offset + i] = (byte)text[i];
        }
    }

    private static void MendChecksums(byte[] bytes)
    {
        for (int start = 0; start + 512 <= bytes.Length; start += 512)
        {
            Span<byte> block = bytes.AsSpan(start, 512);
            // only what was a header: a magic, or a checksum field of the usual form
            if (BinaryPrimitives.ReadUInt32BigEndian(block[257..]) == 0x75737461 || (block[154] == 0 && block[155] == ' '))
            {
                block.Slice(148, 8).Fill((byte)' ');
                int sum = 0;
                foreach (byte b in block)
                {
                    sum += b;
                }

                Encoding.ASCII.GetBytes(Convert.ToString(sum, 8).PadLeft(6, '0') + "\0 ").CopyTo(block[148..]);
            }
        }
    }
}
