using System.Buffers.Binary;
using System.Security.Cryptography;
using NativePull.Oci;

namespace NativePull.Tests.Fakes;

/// <summary>Bytes that can be read at any offset, held in memory or made on the way: a blob of any size costs nothing.</summary>
internal sealed class FakeContent(long length, Action<long, Span<byte>> fill)
{
    private Digest? digest;

    internal long Length { get; } = length;

    /// <summary>sha256; computed when first asked for.</summary>
    internal Digest Digest => digest ??= Compute();

    internal static FakeContent Of(byte[] bytes) => new(bytes.Length, (offset, into) => bytes.AsSpan((int)offset, into.Length).CopyTo(into));

    /// <summary>The same bytes for the same seed, without a pattern that a compressor or a shifted copy would not disturb.</summary>
    internal static FakeContent Generated(int seed, long length) => new(length, (offset, into) =>
    {
        Span<byte> block = stackalloc byte[8];
        int filled = 0;
        while (filled < into.Length)
        {
            long at = offset + filled;
            BinaryPrimitives.WriteUInt64LittleEndian(block, Mixed(seed, (ulong)(at >> 3)));
            int inside = (int)(at & 7);
            int count = Math.Min(8 - inside, into.Length - filled);
            block.Slice(inside, count).CopyTo(into[filled..]);
            filled += count;
        }
    });

    internal void Read(long offset, Span<byte> into) => fill(offset, into);

    internal byte[] ToArray()
    {
        byte[] all = new byte[Length];
        fill(0, all);
        return all;
    }

    // splitmix64
    private static ulong Mixed(int seed, ulong index)
    {
        ulong z = ((ulong)seed << 40) + ((index + 1) * 0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    private Digest Compute()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[64 * 1024];
        for (long at = 0; at < Length; at += buffer.Length)
        {
            Span<byte> part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, Length - at));
            fill(at, part);
            hash.AppendData(part);
        }

        return Digest.FromBytes(hash.GetHashAndReset());
    }
}
