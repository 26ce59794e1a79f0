using NativePull.Native;

namespace NativePull.Store;

/// <summary>The part of an ingest that takes bytes at any place: what is hashed, and shown to followers, is still the part from its first byte on.</summary>
internal sealed partial class BlobIngest
{
    private ByteRanges held = new(); // under the gate; beyond the hashed bytes only where there is a record
    private PartRecord? record;
    private long checkedTo; // of the beginning, how much the checksum covers
    private uint checksum;

    /// <summary>Bytes held, in whatever places; <see cref="Offset"/> of them are hashed.</summary>
    internal long Held
    {
        get
        {
            lock (gate)
            {
                return record is null ? offset : held.Total;
            }
        }
    }

    /// <summary>What is held is more than the beginning: then bytes are written through <see cref="BeginRange"/> alone.</summary>
    internal bool HasRanges => record is not null;

    /// <summary>What is missing, in order.</summary>
    internal List<ByteRange> Gaps()
    {
        lock (gate)
        {
            if (record is not null)
            {
                return held.Gaps(blob.Size);
            }

            return offset < blob.Size ? [new ByteRange(offset, blob.Size)] : [];
        }
    }

    /// <summary>From now on bytes may come at any place, and <see cref="HashBehind"/> hashes them instead of <see cref="Append"/>.</summary>
    internal async Task AllowRangesAsync(CancellationToken token)
    {
        if (record is not null)
        {
            return;
        }

        ByteRange appended = new(checkedTo, offset);
        // what this run appended has no checksum yet; mostly it is the first second of a download and in memory
        uint sum = await Task.Factory.StartNew(() => PartRecord.TryChecksum(part, appended, token, checksum), token, TaskCreationOptions.LongRunning, TaskScheduler.Default)
            ?? throw new PullException(PullError.Machine, $"{path}: the part became shorter while it was written");
        PartRecord made = MakeRecord(sum);
        if (options.Sync)
        {
            // before the part's length stops meaning what it holds
            Libc.FlushDirectory(layout.Parts);
        }

        lock (gate)
        {
            held.Add(new ByteRange(0, offset));
            record = made;
        }
    }

    private PartRecord MakeRecord(uint sum)
    {
        try
        {
            return PartRecord.Create(layout.PartRecord(blob.Digest), blob.Size, offset, sum, options.Sync);
        }
        catch (IOException full) when (IsFull(full))
        {
            throw Full();
        }
    }

    /// <summary>A place to write to; nobody else may hold or be writing what comes after <paramref name="start"/>.</summary>
    internal RangeWriter BeginRange(long start) => new(this, record ?? throw new InvalidOperationException("ranges were not allowed"), start);

    /// <summary>Gives up what is held from <paramref name="start"/> on, the start of a gap: it will be written again.</summary>
    internal void ForgetFrom(long start)
    {
        lock (gate)
        {
            held.RemoveFrom(start);
            record?.ForgetFrom(start, blob.Size);
        }
    }

    /// <summary>Hashes what is written without a hole, on a thread that may block, until all of the blob is hashed.</summary>
    internal void HashBehind(CancellationToken token)
    {
        using CancellationTokenRegistration wakeUp = token.Register(() =>
        {
            lock (gate)
            {
                Monitor.PulseAll(gate);
            }
        });
        byte[] buffer = new byte[BufferSize]; // one for all: at this size each would be collected with everything else
        while (offset < blob.Size)
        {
            HashTo(WaitForPrefix(token), buffer, token);
        }
    }

    private long WaitForPrefix(CancellationToken token)
    {
        lock (gate)
        {
            while (held.Prefix <= offset)
            {
                token.ThrowIfCancellationRequested();
                Monitor.Wait(gate);
            }

            return held.Prefix;
        }
    }

    private void Hold(ByteRange range)
    {
        lock (gate)
        {
            long before = held.Prefix;
            held.Add(range);
            if (held.Prefix != before)
            {
                Monitor.PulseAll(gate);
            }
        }
    }

    // What an earlier run noted; the length of the beginning that is held.
    private long LoadRecord(CancellationToken token)
    {
        long length = RandomAccess.GetLength(part);
        if (PartRecord.TryOpen(layout.PartRecord(blob.Digest), blob.Size) is not { } found)
        {
            return length;
        }

        ByteRanges verified = found.Verify(part, blob.Size, token);
        if (verified.Total == verified.Prefix)
        {
            // no hole: the length alone says it again
            RandomAccess.SetLength(part, verified.Prefix);
            found.Delete();
            return verified.Prefix;
        }

        held = verified;
        record = found;
        return verified.Prefix;
    }

    private void DropRecord()
    {
        (checkedTo, checksum) = (0, 0);
        held.RemoveFrom(0);
        record?.Delete();
        record = null;
    }

    /// <summary>One connection's stretch: each write is in the part before it is noted, and noted before it is hashed.</summary>
    internal sealed class RangeWriter
    {
        private readonly BlobIngest ingest;
        private readonly PartRecord record;
        private readonly int entry;
        private ByteRange written;
        private uint checksum;

        internal RangeWriter(BlobIngest ingest, PartRecord record, long start)
        {
            this.ingest = ingest;
            this.record = record;
            entry = record.Begin();
            written = new ByteRange(start, start);
        }

        /// <exception cref="PullException">NoSpace: what was written before is kept.</exception>
        internal void Write(ReadOnlySpan<byte> bytes)
        {
            ingest.Write(bytes, written.End);
            checksum = Crc32.Append(checksum, bytes);
            written = written with { End = written.End + bytes.Length };
            try
            {
                record.Note(entry, written, checksum);
            }
            catch (IOException full) when (IsFull(full))
            {
                throw ingest.Full();
            }

            ingest.Hold(written);
        }
    }
}
