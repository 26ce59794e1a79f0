using System.Globalization;
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

    // What is not read, by its first bytes; none of them can begin a tar that anybody makes, since its first bytes are a name.
    private static readonly (string Name, byte[] Magic)[] Others =
    [
        ("xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]),
        ("bzip2", [0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59]),
        ("lz4", [0x04, 0x22, 0x4d, 0x18]),
        ("lzip", [0x4c, 0x5a, 0x49, 0x50, 0x01]),
        ("lzop", [0x89, 0x4c, 0x5a, 0x4f, 0x00]),
        ("compress", [0x1f, 0x9d]),
        ("7z", [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]),
        ("zip", [0x50, 0x4b, 0x03, 0x04]),
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
            return Decoder(input, what) is { } decoder ? new Guard(input, decoder, limits, what) : input;
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
        byte[] magic = new byte[10];
        int length = file.ReadAtLeast(magic, magic.Length, throwOnEndOfStream: false);
        file.Position = 0;
        using LookaheadStream first = new(new MemoryStream(magic, 0, length));
        using Stream? decoder = Decoder(first, what);
        return decoder is not null;
    }

    // Null: not compressed.
    private static Stream? Decoder(LookaheadStream input, string what)
    {
        ReadOnlySpan<byte> magic = input.Peek(10);
        // RFC 1952; RFC 8878 (frames and skippable frames)
        if (magic.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b]))
        {
            return new GZipStreamOfMembers(input, what);
        }

        if (magic.StartsWith((ReadOnlySpan<byte>)[0x28, 0xb5, 0x2f, 0xfd])
            || (magic.Length >= 4 && (magic[0] & 0xf0) == 0x50 && magic[1..4].SequenceEqual((ReadOnlySpan<byte>)[0x2a, 0x4d, 0x18])))
        {
            DecompressionStream zstd = new(input, leaveOpen: false);
            zstd.SetParameter(ZSTD_dParameter.ZSTD_d_windowLogMax, MaximumZstdWindow);
            return zstd;
        }

        foreach ((string name, byte[] start) in Others)
        {
            // bzip2's fourth byte is its block size, 1 to 9
            if (magic.StartsWith(start) || (name == "bzip2" && magic.StartsWith("BZh"u8) && magic[4..].StartsWith(start.AsSpan(4))))
            {
                throw new PullException(PullError.Unsupported, $"{what}: compressed with {name}, which is not supported (gzip, zstd and none are)");
            }
        }

        return null;
    }

    /// <summary>Stops a stream that unpacks to out of all proportion, and says in our own words what a decoder says of its input.</summary>
    private sealed class Guard(LookaheadStream input, Stream decoder, LayerLimits limits, string what) : ReadOnlyStream
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
            catch (ZstdException window) when (window.Code == ZSTD_ErrorCode.ZSTD_error_frameParameter_windowTooLarge)
            {
                throw new PullException(PullError.LimitPassed, $"{what}: its zstd window is larger than 128 MiB", window);
            }
            catch (EndOfStreamException cut)
            {
                throw new PullException(PullError.Malformed, $"{what}: its zstd data ends inside a frame", cut);
            }
            catch (ZstdException broken)
            {
                throw new PullException(PullError.Malformed, $"{what}: its zstd data is broken", broken);
            }
        }

        private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
    }
}
