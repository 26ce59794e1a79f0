using System.Buffers;
using System.Runtime.ExceptionServices;

namespace NativePull.IO;

/// <summary>
/// Reads its inner stream on a thread of its own, a few buffers ahead: inflating and hashing go on while the consumer writes files. The ring is
/// bounded, so a slow consumer holds the producer back. What the inner stream throws reaches the consumer where it reads.
/// </summary>
internal sealed class ReadAheadStream : ReadOnlyStream
{
    // Bytes; four of these are what one layer in progress costs.
    private const int BufferSize = 256 * 1024;
    private const int BufferCount = 4;

    private readonly object gate = new();
    private readonly Stream inner;
    private readonly CancellationToken token;
    private readonly Queue<(byte[] Bytes, int Count)> full = [];
    private readonly Stack<byte[]> empty = [];
    private readonly Thread producer;
    private ExceptionDispatchInfo? failure;
    private bool ended;
    private bool abandoned;
    private byte[]? current;
    private int position;
    private int available;

    /// <param name="inner">Read by one other thread until this stream is disposed, and disposed with it.</param>
    internal ReadAheadStream(Stream inner, CancellationToken token)
    {
        this.inner = inner;
        this.token = token;
        for (int i = 0; i < BufferCount; i++)
        {
            empty.Push(ArrayPool<byte>.Shared.Rent(BufferSize));
        }

        producer = new Thread(Produce) { IsBackground = true, Name = "read ahead" };
        producer.Start();
    }

    public override int Read(Span<byte> buffer)
    {
        if (position == available && !Next())
        {
            return 0;
        }

        int count = Math.Min(buffer.Length, available - position);
        current.AsSpan(position, count).CopyTo(buffer);
        position += count;
        return count;
    }

    /// <summary>Reads on to the end, so that what verifies the bytes below sees all of them.</summary>
    internal void Drain()
    {
        do
        {
            position = available;
        }
        while (Next());
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && !abandoned)
        {
            lock (gate)
            {
                abandoned = true;
                Monitor.PulseAll(gate);
            }

            producer.Join();
            inner.Dispose();
            foreach (byte[] bytes in empty.Concat(full.Select(item => item.Bytes)).Concat(current is null ? [] : [current]))
            {
                ArrayPool<byte>.Shared.Return(bytes);
            }
        }

        base.Dispose(disposing);
    }

    // The next full buffer becomes the current one; false at the end.
    private bool Next()
    {
        lock (gate)
        {
            if (current is not null)
            {
                empty.Push(current);
                current = null;
                Monitor.PulseAll(gate);
            }

            while (full.Count == 0 && !ended)
            {
                Monitor.Wait(gate);
            }

            if (full.Count == 0)
            {
                position = available = 0;
                failure?.Throw();
                return false;
            }

            (current, available) = full.Dequeue();
            position = 0;
            return true;
        }
    }

    private void Produce()
    {
        bool more = true;
        while (more && TakeEmpty() is { } bytes)
        {
            more = Fill(bytes, out int count);
            lock (gate)
            {
                if (count > 0)
                {
                    full.Enqueue((bytes, count));
                }
                else
                {
                    empty.Push(bytes);
                }

                ended = !more;
                Monitor.PulseAll(gate);
            }
        }
    }

    // A whole buffer where the inner stream has one, because each hand-over costs a wake-up. False at the end or at a failure.
    private bool Fill(byte[] bytes, out int count)
    {
        count = 0;
        try
        {
            while (count < BufferSize && !Volatile.Read(ref abandoned))
            {
                token.ThrowIfCancellationRequested();
                int read = inner.Read(bytes, count, BufferSize - count);
                if (read == 0)
                {
                    return false;
                }

                count += read;
            }

            return true;
        }
#pragma warning disable CA1031 // carried over to the consumer's thread, whatever it is
        catch (Exception thrown)
#pragma warning restore CA1031
        {
            failure = ExceptionDispatchInfo.Capture(thrown);
            return false;
        }
    }

    private byte[]? TakeEmpty()
    {
        lock (gate)
        {
            while (empty.Count == 0 && !abandoned)
            {
                Monitor.Wait(gate);
            }

            return abandoned ? null : empty.Pop();
        }
    }
}
