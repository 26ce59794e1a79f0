using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using NativePull.IO;
using NativePull.Oci;
using ZstdSharp;
using ZstdSharp.Unsafe;

namespace NativePull.Layers;

/// <summary>
/// A layer blob as plain tar bytes, with the diff ID compared at their end. Magic bytes decide the compression: media types are mislabelled in
/// the wild.
/// </summary>
internal static class LayerStream
{
    // log2 of bytes: 128 MiB, what zstd --ultra --long=27 needs; above it a decoder's memory is the archive's choice
    private const int MaximumZstdWindow = 27;

    // Bytes that tell compressions apart.
    private const int MagicLength = 10;

    // Bytes of the longest header of a frame of zstd, and of LZMA's header and the least that follows it.
    private const int HeaderLength = 18;

    private static ReadOnlySpan<byte> ZstdMagic => [0x28, 0xb5, 0x2f, 0xfd];

    private static ReadOnlySpan<byte> LzmaStart => [0x5d, 0x00, 0x00];

    // What is not read, by its first bytes. They could be a name too, so a block that is a tar's header is one.
    private static readonly (string Name, byte[] Magic)[] Others =
    [
        ("xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]),
        ("lz4", [0x04, 0x22, 0x4d, 0x18]),
        ("lz4", [0x02, 0x21, 0x4c, 0x18]), // its old format
        ("lzip", [0x4c, 0x5a, 0x49, 0x50, 0x01]),
        ("lzop", [0x89, 0x4c, 0x5a, 0x4f, 0x00]),
        ("compress", [0x1f, 0x9d]),
        ("7z", [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]),
        ("zip", [0x50, 0x4b, 0x03, 0x04]),
        ("zip", [0x50, 0x4b, 0x05, 0x06]), // with nothing in it
    ];

    /// <param name="blob">Disposed with the result.</param>
    /// <param name="what">Names the layer in messages.</param>
    /// <exception cref="PullException">
    /// Unsupported here; while reading Malformed (the compression breaks or is cut short), LimitPassed (zstd window, ratio), DiffIdMismatch (at the end).
    /// </exception>
    internal static VerifyingStream Open(Stream blob, Digest diffId, string what, LayerLimits limits) =>
        new(Decompress(blob, what, limits), diffId, $"{what}: diff ID", PullError.DiffIdMismatch);

    /// <inheritdoc cref="Open"/>
    internal static Stream Decompress(Stream blob, string what, LayerLimits limits)
    {
        LookaheadStream input = new(blob);
        try
        {
            // no more than is needed is waited for: it may still be on its way
            UInt128 window = input.Peek(MagicLength).StartsWith(ZstdMagic) ? WindowOf(input.Peek(HeaderLength)) : 0;
            return Decoder(input, what) is { } decoder ? new Guard(input, decoder, limits, what, window) : input;
        }
        catch
        {
            input.Dispose();
            throw;
        }
    }

    /// <summary>Whether <see cref="Decompress"/> would give other bytes; for a file at its beginning, which comes back there.</summary>
    /// <exception cref="PullException">Unsupported.</exception>
    internal static bool IsCompressed(Stream file, string what)
    {
        byte[] magic = new byte[TarHeader.BlockSize];
        int length = file.ReadAtLeast(magic, magic.Length, throwOnEndOfStream: false);
        file.Position = 0;
        using LookaheadStream first = new(new MemoryStream(magic, 0, length));
        using Stream? decoder = Decoder(first, what);
        return decoder is not null;
    }

    // Null: not compressed.
    private static Stream? Decoder(LookaheadStream input, string what)
    {
        ReadOnlySpan<byte> first = input.Peek(MagicLength);
        // RFC 1952; RFC 8878 (frames and skippable frames)
        if (first.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b]))
        {
            return new GZipStreamOfMembers(input, what);
        }

        if (first.StartsWith(ZstdMagic)
            || (first.Length >= 4 && (first[0] & 0xf0) == 0x50 && first[1..4].SequenceEqual((ReadOnlySpan<byte>)[0x2a, 0x4d, 0x18])))
        {
            DecompressionStream zstd = new(input, leaveOpen: false);
            zstd.SetParameter(ZSTD_dParameter.ZSTD_d_windowLogMax, MaximumZstdWindow);
            return zstd;
        }

        if ((NameOf(first) ?? (first.StartsWith(LzmaStart) && IsLzma(input.Peek(HeaderLength)) ? "lzma" : null)) is not { } name)
        {
            return null;
        }

        ReadOnlySpan<byte> block = input.Peek(TarHeader.BlockSize);
        return block.Length >= TarHeader.BlockSize && new TarHeader(block[..TarHeader.BlockSize]).IsValid
            ? null
            : throw new PullException(PullError.Unsupported, $"{what}: compressed with {name}, which is not supported (gzip, zstd and none are)");
    }

    // The window that a first frame of zstd asks for, in bytes; 0 where there is none, or nothing to be told (RFC 8878, 3.1.1.1).
    private static UInt128 WindowOf(ReadOnlySpan<byte> first)
    {
        const int singleSegment = 0x20;
        if (first.Length < HeaderLength)
        {
            return 0;
        }

        int descriptor = first[4];
        if ((descriptor & singleSegment) == 0)
        {
            UInt128 size = (UInt128)1 << (10 + (first[5] >> 3));
            return size + (size / 8 * (uint)(first[5] & 7));
        }

        // the frame's whole content, whose length stands behind the dictionary's number
        ReadOnlySpan<byte> length = first[(5 + ((descriptor & 3) switch { 3 => 4, var short_ => short_ }))..];
        return (descriptor >> 6) switch
        {
            2 => BinaryPrimitives.ReadUInt32LittleEndian(length),
            3 => BinaryPrimitives.ReadUInt64LittleEndian(length),
            _ => 0,
        };
    }

    // What else the first bytes say they are compressed with; null: nothing known.
    private static string? NameOf(ReadOnlySpan<byte> first)
    {
        foreach ((string name, byte[] magic) in Others)
        {
            if (first.StartsWith(magic))
            {
                return name;
            }
        }

        // the digit is the block size; then comes a block (the digits of pi) or, where there is nothing, the end (those of its root)
        if (first.Length >= 10 && first.StartsWith("BZh"u8) && first[3] is >= (byte)'1' and <= (byte)'9'
            && (first[4..10].SequenceEqual((ReadOnlySpan<byte>)[0x31, 0x41, 0x59, 0x26, 0x53, 0x59])
                || first[4..10].SequenceEqual((ReadOnlySpan<byte>)[0x17, 0x72, 0x45, 0x38, 0x50, 0x90])))
        {
            return "bzip2";
        }

        return null;
    }

    // LZMA alone has no magic bytes (LZMA SDK, lzma-specification.txt): the properties that everybody writes, a dictionary of whole 64 KiB of a size that
    // encoders choose, a length that is unknown or not absurd (liblzma guesses by the same 256 GiB), and the first byte of every range coder.
    private static bool IsLzma(ReadOnlySpan<byte> first)
    {
        if (first.Length < HeaderLength || first[13] != 0)
        {
            return false;
        }

        const uint mebibyte = 1 << 20;
        uint dictionary = BinaryPrimitives.ReadUInt32LittleEndian(first[1..]);
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(first[5..]);
        bool usual = BitOperations.IsPow2(dictionary) || (dictionary % 3 == 0 && BitOperations.IsPow2(dictionary / 3)) || (dictionary > 0 && dictionary % mebibyte == 0);
        return usual && (length == ulong.MaxValue || length < 1UL << 38);
    }

    /// <summary>Stops a stream that unpacks to out of all proportion, and says in our own words what a decoder says of its input.</summary>
    /// <param name="window">What the first frame of zstd asks for.</param>
    private sealed class Guard(LookaheadStream input, Stream decoder, LayerLimits limits, string what, UInt128 window) : ReadOnlyStream
    {
        private readonly long free = Math.Max(limits.RatioFrom, limits.MaximumUnpacked ?? 0);
        private long made;

        public override int Read(Span<byte> buffer)
        {
            int read = Decode(buffer);
            made += read;
            if (made > free && made / limits.MaximumRatio > input.Taken)
            {
                throw new PullException(
                    PullError.LimitPassed,
                    $"{what}: {Text(input.Taken)} bytes unpack to more than {Text(made)}, over {Text(limits.MaximumRatio)} times as much");
            }

            return read;
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                decoder.Dispose();
            }

            base.Dispose(disposing);
        }

        private int Decode(Span<byte> buffer)
        {
            try
            {
                return decoder.Read(buffer);
            }
            catch (ZstdException large) when (large.Code == ZSTD_ErrorCode.ZSTD_error_frameParameter_windowTooLarge)
            {
                const long most = 1L << MaximumZstdWindow;
                string size = window > most ? $"has {window.ToString(CultureInfo.InvariantCulture)} bytes, more" : "of a later frame has more bytes";
                throw new PullException(PullError.LimitPassed, $"{what}: its zstd window {size} than the {Text(most)} allowed", large);
            }
            catch (EndOfStreamException cut)
            {
                throw new PullException(PullError.Malformed, $"{what}: its zstd data ends inside a frame", cut);
            }
            catch (ZstdException broken)
            {
                throw new PullException(PullError.Malformed, $"{what}: its zstd data {Why(broken.Code)}", broken);
            }
        }

        // which checksum it came to instead no public member of the library tells
        private static string Why(ZSTD_ErrorCode code) => code switch
        {
            ZSTD_ErrorCode.ZSTD_error_checksum_wrong => "has another checksum than a frame says",
            ZSTD_ErrorCode.ZSTD_error_prefix_unknown => "is followed by something else",
            ZSTD_ErrorCode.ZSTD_error_dictionary_wrong => "wants a dictionary",
            _ => "is broken",
        };

        private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
    }
}
