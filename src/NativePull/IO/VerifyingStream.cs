using System.Security.Cryptography;
using NativePull.Oci;

namespace NativePull.IO;

/// <summary>
/// Passes bytes on and hashes them; at their end it throws unless they are the ones the digest names. A reader that stops early has
/// verified nothing: call <see cref="Drain"/> before trusting what was read.
/// </summary>
/// <param name="inner">Disposed with this stream.</param>
/// <param name="mismatch">The reason thrown on another digest: DigestMismatch for blobs, DiffIdMismatch for plain tars.</param>
internal sealed class VerifyingStream(Stream inner, Digest expected, string what, PullError mismatch) : ReadOnlyStream
{
    private readonly IncrementalHash hash = expected.CreateHash();
    private bool verified;

    /// <summary>Bytes passed on so far.</summary>
    internal long Count { get; private set; }

    /// <exception cref="PullException">The reason given at construction, at the end of the bytes.</exception>
    public override int Read(Span<byte> buffer)
    {
        int read = inner.Read(buffer);
        if (read > 0)
        {
            hash.AppendData(buffer[..read]);
            Count += read;
        }
        else if (buffer.Length > 0 && !verified)
        {
            Digest actual = expected.Finish(hash);
            if (actual != expected)
            {
                throw new PullException(mismatch, $"{what}: expected {expected}, got {actual}");
            }

            verified = true;
        }

        return read;
    }

    /// <summary>Reads to the end, so that every byte is hashed and the digest compared.</summary>
    /// <exception cref="PullException">The reason given at construction.</exception>
    internal void Drain(CancellationToken token)
    {
        byte[] rest = new byte[64 * 1024];
        int read;
        do
        {
            token.ThrowIfCancellationRequested();
            read = Read(rest);
        }
        while (read > 0);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            hash.Dispose();
            inner.Dispose();
        }

        base.Dispose(disposing);
    }
}
