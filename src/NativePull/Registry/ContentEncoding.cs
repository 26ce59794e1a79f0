using System.IO.Compression;
using NativePull.IO;

namespace NativePull.Registry;

/// <summary>
/// Documents that a server or a proxy compresses although nobody asked for it. Clients written in Go take them, because they always ask. Blobs stay as they are:
/// their digest is that of what is sent.
/// </summary>
internal static class ContentEncoding
{
    private static readonly byte[] GZipMagic = [0x1f, 0x8b]; // RFC 1952, 2.3.1

    /// <param name="limit">Bytes, of the document itself.</param>
    /// <exception cref="PullException">Malformed: it does not decompress; LimitPassed.</exception>
    internal static byte[] Decode(byte[] content, HttpResponseMessage response, long limit, string what)
    {
        // the header alone proves nothing
        if (!response.Content.Headers.ContentEncoding.Any(coding => coding is "gzip" or "x-gzip") || !content.AsSpan().StartsWith(GZipMagic))
        {
            return content;
        }

        try
        {
            using var plain = new GZipStream(new MemoryStream(content), CompressionMode.Decompress);
            return BoundedRead.All(plain, limit, what);
        }
        catch (InvalidDataException malformed)
        {
            throw new PullException(PullError.Malformed, $"{what}: it came as gzip, and does not decompress", malformed);
        }
    }
}
