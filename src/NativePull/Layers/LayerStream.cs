using System.IO.Compression;
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

    // Bytes; GZipStream itself asks for 8 KiB at a time.
    private const int InputBuffer = 128 * 1024;

    /// <param name="blob">Disposed with the result.</param>
    /// <param name="what">Names the layer in messages.</param>
    /// <exception cref="PullException">
    /// Unsupported here; while reading Malformed (the compression breaks), LimitPassed (zstd window), DiffIdMismatch (at the end).
    /// </exception>
    internal static VerifyingStream Open(Stream blob, Digest diffId, string what)
    {
        BufferedStream buffered = new(new PrefixedStream(blob, out byte[] magic), InputBuffer);
        return new VerifyingStream(new DecodedStream(Decode(buffered, magic, what), what), diffId, $"{what}: diff ID", PullError.DiffIdMismatch);
    }

    private static Stream Decode(Stream input, ReadOnlySpan<byte> magic, string what)
    {
        // RFC 1952; RFC 8878 (frames and skippable frames)
        if (magic.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b]))
        {
            return new GZipStream(input, CompressionMode.Decompress);
        }

        if (magic.StartsWith((ReadOnlySpan<byte>)[0x28, 0xb5, 0x2f, 0xfd])
            || (magic.Length >= 4 && (magic[0] & 0xf0) == 0x50 && magic[1..4].SequenceEqual((ReadOnlySpan<byte>)[0x2a, 0x4d, 0x18])))
        {
            DecompressionStream zstd = new(input, leaveOpen: false);
            zstd.SetParameter(ZSTD_dParameter.ZSTD_d_windowLogMax, MaximumZstdWindow);
            return zstd;
        }

        string? other = magic.StartsWith((ReadOnlySpan<byte>)[0xfd, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0]) ? "xz"
            : magic.StartsWith("BZh"u8) ? "bzip2"
            : null;
        if (other is not null)
        {
            input.Dispose();
            throw new PullException(PullError.Unsupported, $"{what}: compressed with {other}, which is not supported (gzip, zstd and none are)");
        }

        return input;
    }

    /// <summary>Gives back the first bytes that were looked at, then the rest.</summary>
    private sealed class PrefixedStream : Stream
    {
        private const int MagicLength = 6;

        private readonly Stream inner;
        private readonly byte[] prefix;
        private int given;

        internal PrefixedStream(Stream inner, out byte[] magic)
        {
            this.inner = inner;
            byte[] first = new byte[MagicLength];
            int length = inner.ReadAtLeast(first, MagicLength, throwOnEndOfStream: false);
            prefix = magic = first[..length];
        }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(Span<byte> buffer)
        {
            if (given == prefix.Length)
            {
                return inner.Read(buffer);
            }

            int count = Math.Min(buffer.Length, prefix.Length - given);
            prefix.AsSpan(given, count).CopyTo(buffer);
            given += count;
            return count;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush() { }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                inner.Dispose();
            }

            base.Dispose(disposing);
        }
    }

    /// <summary>Says in our own words what a decoder says of its input.</summary>
    private sealed class DecodedStream(Stream inner, string what) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(Span<byte> buffer)
        {
            try
            {
                return inner.Read(buffer);
            }
            catch (ZstdException window) when (window.Code == ZSTD_ErrorCode.ZSTD_error_frameParameter_windowTooLarge)
            {
                throw new PullException(PullError.LimitPassed, $"{what}: its zstd window is larger than 128 MiB", window);
            }
            catch (Exception broken) when (broken is InvalidDataException or ZstdException or EndOfStreamException)
            {
                throw new PullException(PullError.Malformed, $"{what}: its compression is broken", broken);
            }
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush() { }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                inner.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}
