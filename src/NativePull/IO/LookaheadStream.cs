using System.Buffers;

namespace NativePull.IO;

/// <summary>Reads its inner stream through one buffer whose next bytes can be looked at before they are taken.</summary>
/// <param name="inner">Disposed with this stream.</param>
internal sealed class LookaheadStream(Stream inner) : ReadOnlyStream
{
    // Bytes; as much as a download hands over at a time.
    private const int BufferSize = 128 * 1024;

    private byte[] buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
    private int start;
    private int end;

    /// <summary>Bytes taken so far.</summary>
    internal long Taken { get; private set; }

    /// <summary>What comes next: at least <paramref name="count"/> bytes, less only at the end. Valid until the next call.</summary>
    internal ReadOnlySpan<byte> Peek(int count)
    {
        if (end - start < count)
        {
            buffer.AsSpan(start, end - start).CopyTo(buffer);
            end -= start;
            start = 0;
            end += inner.ReadAtLeast(buffer.AsSpan(end), count - end, throwOnEndOfStream: false);
        }

        return buffer.AsSpan(start, end - start);
    }

    internal void Take(int count)
    {
        start += count;
        Taken += count;
    }

    public override int Read(Span<byte> into)
    {
        ReadOnlySpan<byte> next = Peek(1);
        int count = Math.Min(next.Length, into.Length);
        next[..count].CopyTo(into);
        Take(count);
        return count;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(buffer);
            buffer = [];
            start = end = 0;
            inner.Dispose();
        }

        base.Dispose(disposing);
    }
}
