using System.Buffers.Binary;
using ZstdSharp;
using ZstdSharp.Unsafe;

namespace NativePull.Tests.Fakes;

/// <summary>Frames of zstd (RFC 8878) as a compressor would not make them, and some that it would.</summary>
internal static class ZstdFrames
{
    // RFC 8878, 3.1.1.2: bytes of one block at most
    private const int LargestBlock = 128 * 1024;

    internal static byte[] Checked(byte[] content)
    {
        using Compressor compressor = new(3);
        compressor.SetParameter(ZSTD_cParameter.ZSTD_c_checksumFlag, 1);
        return compressor.Wrap(content).ToArray();
    }

    /// <summary>A frame that a reader passes over; one of 16 kinds.</summary>
    internal static byte[] Skippable(int kind, int length = 20)
    {
        byte[] frame = new byte[8 + length];
        BinaryPrimitives.WriteUInt32LittleEndian(frame, 0x184D2A50 + (uint)kind);
        BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(4), (uint)length);
        return frame;
    }

    /// <summary>The content as it is, and then zeros by the 128 KiB, four bytes each.</summary>
    /// <param name="windowLog">Of the window that the frame asks for.</param>
    internal static byte[] Raw(byte[] content, int windowLog, int zeroBlocks = 0)
    {
        // a header with nothing but its window
        List<byte> frame = [0x28, 0xb5, 0x2f, 0xfd, 0, (byte)((windowLog - 10) << 3)];
        for (int at = 0; at < content.Length; at += LargestBlock)
        {
            byte[] part = content[at..Math.Min(at + LargestBlock, content.Length)];
            Block(type: 0, part.Length);
            frame.AddRange(part);
        }

        for (int i = 0; i < zeroBlocks; i++)
        {
            Block(type: 1, LargestBlock);
            frame.Add(0);
        }

        // the last one, of nothing
        frame.AddRange([1, 0, 0]);
        return [.. frame];

        void Block(int type, int length)
        {
            int header = (length << 3) | (type << 1);
            frame.AddRange([(byte)header, (byte)(header >> 8), (byte)(header >> 16)]);
        }
    }
}
