using System.Runtime.InteropServices;

namespace NativePull.Native;

/// <summary>
/// CRC-32 of zlib, which finds out at run time what the processor can. The compiler, asked for a small executable, takes none of that for granted
/// and makes tables of BitOperations.Crc32C: measured 2.4 s a GB, more than all else that a pull does with the bytes.
/// </summary>
internal static unsafe partial class Crc32
{
    /// <summary>Of the bytes that gave <paramref name="so"/> (0: none) and these behind them.</summary>
    internal static uint Append(uint so, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* first = bytes)
        {
            // zlib takes a null pointer for "begin"
            return bytes.IsEmpty ? so : CompressionNative_Crc32(so, first, bytes.Length);
        }
    }

    [LibraryImport("libSystem.IO.Compression.Native")]
    private static partial uint CompressionNative_Crc32(uint crc, byte* buffer, int length);
}
