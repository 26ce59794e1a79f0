using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// The part of an ingest that notes what is held, and takes bytes at any place: what is hashed, and shown to followers, is still the part from its
/// first byte on.
/// </summary>
internal sealed partial class BlobIngest
{
    // Bytes. Of a smaller blob the length of the part says what is held, and after a power cut, when it may have lost bytes before its end, all of it is
    // fetched anew; making a record costs two flushes.
    private const long RecordedFrom = 8 * 1024 * 1024;

    private readonly ByteRanges held = new(); // under the gate; nothing where there is no record
    private PartRecord? record;
    private RangeWriter? appending;
    private long flushed; // when, by the options' clock; under the gate like the next two
    private bool isFlushing;
    private IOException? flushFailure;
    private volatile int flushes;

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

    /// <summary>What is held may be more than the beginning: then bytes are written through <see cref="BeginRange"/> alone.</summary>
    internal bool HasRanges { get; private set; }

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
    internal void AllowRanges()
    {
        if (record is null)
        {
            BeginRecord();
        }

        appending = null;
        HasRanges = true;
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

    // Before the part's length stops meaning what it holds.
    private void BeginRecord()
    {
        // kept by an earlier run or appended by this one; mostly nothing yet
        uint checksum = PartRecord.TryChecksum(part, new ByteRange(0, offset), CancellationToken.None)
            ?? throw BecameShorter();
        PartRecord made;
        try
        {
            made = PartRecord.Create(layout.PartRecord(blob.Digest), blob.Size, offset, checksum);
            if (options.Sync)
            {
                made.Flush();
                Libc.FlushDirectory(layout.Parts);
            }
        }
        catch (IOException full) when (IsFull(full))
        {
            throw Full();
        }

        lock (gate)
        {
            held.Add(new ByteRange(0, offset));
            record = made;
            flushed = options.Clock.GetTimestamp();
        }
    }

    // Left alone, some file systems keep for half a minute what a part is longer by (xfs, btrfs).
    private void FlushInTime(PartRecord noted)
    {
        lock (gate)
        {
            if (!options.Sync || isFlushing || options.Clock.GetElapsedTime(flushed) < options.FlushInterval)
            {
                return;
            }

            isFlushing = true;
            // writers end their entries, so that what these vouch for is on the disk when they are
            flushes++;
        }

        _ = Task.Factory.StartNew(() => FlushMeanwhile(noted), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    private void FlushMeanwhile(PartRecord noted)
    {
        IOException? failure = null;
        try
        {
            Libc.Flush(part, path);
            noted.Flush();
        }
        catch (ObjectDisposedException)
        {
            // the ingest has ended, or begun anew
        }
        catch (IOException failed)
        {
            failure = failed;
        }

        lock (gate)
        {
            flushFailure ??= failure;
            flushed = options.Clock.GetTimestamp();
            isFlushing = false;
            Monitor.PulseAll(gate);
        }
    }

    private bool FlushHasFailed
    {
        get
        {
            lock (gate)
            {
                return flushFailure is not null;
            }
        }
    }

    // The kernel tells a failure once: should a flush on the side have heard of it, the last one would not. It is told of here alone.
    private void FlushAll()
    {
        IOException? failure = null;
        try
        {
            // where a file system finds room when it writes out, and not before
            Libc.Flush(part, path);
        }
        catch (IOException failed)
        {
            failure = failed;
        }

        lock (gate)
        {
            while (isFlushing)
            {
                Monitor.Wait(gate);
            }

            (failure, flushFailure) = (flushFailure ?? failure, null);
        }

        if (failure is not null)
        {
            throw Lost(failure);
        }
    }

    // Of what an earlier run noted, what is there. Each stretch is hashed when it was found right: then its bytes are still in memory.
    private void HashKept(byte[] buffer, CancellationToken token)
    {
        if (PartRecord.TryOpen(layout.PartRecord(blob.Digest), blob.Size) is not { } found)
        {
            HashTo(RandomAccess.GetLength(part), buffer, token);
            return;
        }

        record = found;
        flushed = options.Clock.GetTimestamp();
        foreach (PartRecord.Entry entry in found.Entries(blob.Size))
        {
            if (PartRecord.TryChecksum(part, entry.Range, token) == entry.Checksum)
            {
                held.Add(entry.Range);
                HashTo(held.Prefix, buffer, token);
            }
            else
            {
                found.CrossOut(entry);
            }
        }

        HasRanges = held.Total > held.Prefix;
        if (!HasRanges)
        {
            RandomAccess.SetLength(part, held.Prefix);
        }
    }

    private void DropRecord()
    {
        held.RemoveFrom(0);
        record?.Delete();
        record = null;
        appending = null;
        HasRanges = false;
    }

    /// <summary>One connection's stretch: each write is in the part before it is noted, and noted before it is hashed.</summary>
    internal sealed class RangeWriter
    {
        // Bytes that one entry of the record vouches for at most: what a power cut costs that took one of them.
        private const long LongestEntry = 4 * 1024 * 1024;

        private readonly BlobIngest ingest;
        private readonly PartRecord record;
        private int entry;
        private int begunBefore;
        private ByteRange written;
        private uint checksum;

        internal RangeWriter(BlobIngest ingest, PartRecord record, long start)
        {
            this.ingest = ingest;
            this.record = record;
            Begin(start);
        }

        /// <exception cref="PullException">NoSpace: what was written before is kept.</exception>
        internal void Write(ReadOnlySpan<byte> bytes)
        {
            if (begunBefore != ingest.flushes && written.Length > 0)
            {
                Begin(written.End);
            }

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
            if (written.Length >= LongestEntry)
            {
                if (ingest.options.Sync)
                {
                    // so that a flush finds little to wait for
                    Libc.BeginWriting(ingest.part, written.Start, written.Length);
                }

                Begin(written.End);
            }

            ingest.FlushInTime(record);
        }

        private void Begin(long start)
        {
            begunBefore = ingest.flushes;
            entry = record.Begin();
            written = new ByteRange(start, start);
            checksum = 0;
        }
    }
}
