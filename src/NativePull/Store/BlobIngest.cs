using System.Globalization;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using NativePull.IO;
using NativePull.Native;
using NativePull.Oci;

namespace NativePull.Store;

/// <summary>A part is thrown away and fetched again: what was read from it so far were not the blob's bytes.</summary>
internal sealed class PartRestartedException() : IOException("the part was begun anew while it was read");

/// <summary>
/// A blob being written. Bytes are appended, hashed, and only then shown to followers; disposing without <see cref="Commit"/> keeps the part for
/// the next run. The part's lock is held until the end.
/// </summary>
internal sealed partial class BlobIngest : IDisposable
{
    private const int BufferSize = 256 * 1024;

    // far below what those who wait have patience for
    private static readonly TimeSpan SignOfLife = TimeSpan.FromSeconds(5);

    private readonly object gate = new();
    private readonly SafeFileHandle part;
    private readonly string path;
    private readonly Descriptor blob;
    private readonly StoreLayout layout;
    private readonly StoreOptions options;
    private readonly IncrementalHash hash;
    private PartState state = PartState.Growing;
    private int generation;
    private long offset;

    internal BlobIngest(SafeFileHandle part, string path, Descriptor blob, StoreLayout layout, StoreOptions options)
    {
        this.part = part;
        this.path = path;
        this.blob = blob;
        this.layout = layout;
        this.options = options;
        hash = blob.Digest.CreateHash();
    }

    private enum PartState
    {
        Growing,
        Committed,
        Abandoned,
    }

    /// <summary>Bytes held and hashed; appending goes on here.</summary>
    internal long Offset => Volatile.Read(ref offset);

    /// <exception cref="PullException">SizeMismatch where that would be more than the blob has; NoSpace.</exception>
    internal void Append(ReadOnlySpan<byte> bytes)
    {
        if (offset + bytes.Length > blob.Size)
        {
            throw new PullException(PullError.SizeMismatch, $"blob {blob.Digest}: expected {Text(blob.Size)} bytes, got more");
        }

        if (record is null && blob.Size >= RecordedFrom)
        {
            BeginRecord();
        }

        if (record is null)
        {
            Write(bytes, offset);
        }
        else
        {
            appending ??= new RangeWriter(this, record, offset);
            appending.Write(bytes);
        }

        hash.AppendData(bytes);
        Advance(offset + bytes.Length);
    }

    /// <summary>Shows those who wait for the part, and take a holder without a sign of life for stuck, that this one lives while it works or waits.</summary>
    internal async Task StayingAliveAsync(Task work)
    {
        while (!work.IsCompleted && await Task.WhenAny(work, Task.Delay(SignOfLife)) != work)
        {
            Touch();
        }

        await work;
    }

    /// <summary>One sign of life, though nothing is written.</summary>
    internal void Touch()
    {
        try
        {
            File.SetLastWriteTimeUtc(part, options.Clock.GetUtcNow().UtcDateTime);
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            // only a file's owner may set its time, and another user's part can be written to all the same
        }
    }

    /// <summary>Throws away what is held; followers are told to begin again.</summary>
    internal void Restart()
    {
        lock (gate)
        {
            if (offset == 0 && record is null)
            {
                return;
            }

            DropRecord();
            RandomAccess.SetLength(part, 0);
            _ = hash.GetHashAndReset();
            generation++;
            offset = 0;
            Monitor.PulseAll(gate);
        }
    }

    /// <summary>Publishes: compares size and digest, flushes, renames.</summary>
    /// <exception cref="PullException">
    /// SizeMismatch or DigestMismatch. The bytes are gone then, so that no later run builds on them; the lock is still held and
    /// <see cref="Restart"/> and another try are possible.
    /// </exception>
    internal void Commit()
    {
        Digest actual = blob.Digest.Finish(hash);
        if (offset != blob.Size)
        {
            throw Reject(PullError.SizeMismatch, $"blob {blob.Digest}: expected {Text(blob.Size)} bytes, got {Text(offset)}");
        }

        if (actual != blob.Digest)
        {
            throw Reject(PullError.DigestMismatch, $"blob: expected {blob.Digest}, got {actual}");
        }

        string directory = layout.Blobs(blob.Digest.Algorithm);
        bool isFirstOfAlgorithm = !Directory.Exists(directory);
        Directory.CreateDirectory(directory);
        if (options.Sync)
        {
            FlushAll();
        }

        // it is all there and hashed: without the record the length says so, which holds for a crash between the two as well
        DropRecord();
        Libc.Rename(path, layout.Blob(blob.Digest));
        if (options.Sync)
        {
            Libc.FlushDirectory(directory);
            if (isFirstOfAlgorithm)
            {
                Libc.FlushDirectory(layout.AllBlobs);
            }
        }

        End(PartState.Committed);
    }

    /// <summary>
    /// The blob's bytes from the first on, for a blocking reader on another thread: waits where nothing is appended yet, ends at the commit.
    /// It outlives this ingest. Reading throws <see cref="PartRestartedException"/> after a <see cref="Restart"/>, and
    /// <see cref="OperationCanceledException"/> where the ingest was given up or the token says so.
    /// </summary>
    internal Follower Follow(CancellationToken token) => new(this, Libc.Duplicate(part, path), token);

    public void Dispose()
    {
        if (state == PartState.Growing && FlushHasFailed)
        {
            Restart();
        }

        // the file's own length counts: a cancelled start may not have hashed any of what an earlier run kept
        bool isEmpty = state == PartState.Growing && RandomAccess.GetLength(part) == 0;
        End(PartState.Abandoned);
        if (isEmpty)
        {
            // an empty part is worth nothing; still under its lock, so nobody else can have begun with it
            DropRecord();
            File.Delete(path);
        }

        record?.Dispose();
        // closing gives the lock back, though followers may still have the file open
        part.Dispose();
        hash.Dispose();
    }

    /// <summary>Hashes what an earlier run left; more than the blob can have is thrown away.</summary>
    internal async Task HashKeptAsync(CancellationToken token)
    {
        if (RandomAccess.GetLength(part) > blob.Size)
        {
            RandomAccess.SetLength(part, 0);
        }

        if (RandomAccess.GetLength(part) == 0)
        {
            // a record without its part: somebody removed that one alone
            File.Delete(layout.PartRecord(blob.Digest));
        }
        else
        {
            await Task.Factory.StartNew(() => HashKept(new byte[BufferSize], token), token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }
    }

    private void HashTo(long end, byte[] buffer, CancellationToken token)
    {
        while (offset < end)
        {
            token.ThrowIfCancellationRequested();
            int read = RandomAccess.Read(part, buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - offset)), offset);
            if (read == 0)
            {
                throw BecameShorter();
            }

            hash.AppendData(buffer, 0, read);
            Advance(offset + read);
        }
    }

    private void Write(ReadOnlySpan<byte> bytes, long at)
    {
        try
        {
            RandomAccess.Write(part, bytes, at);
        }
        catch (IOException full) when (IsFull(full))
        {
            throw Full();
        }
    }

    // What the kernel could not write out it takes for written, and says so once: the next run would find it in memory, and trust what no disk has.
    private PullException Lost(IOException failure)
    {
        Restart();
        return new PullException(
            IsFull(failure) ? PullError.NoSpace : PullError.Machine, $"blob {blob.Digest} did not get to the disk, and is to be fetched anew: {failure.Message}");
    }

    // HResult of an I/O error is errno.
    private static bool IsFull(IOException failure) => failure.HResult is Errno.NoSpace or Errno.QuotaPassed;

    private PullException Full()
    {
        string free = Libc.FreeBytes(part) is { } bytes ? $", and {Text(bytes)} are free" : "";
        return new PullException(
            PullError.NoSpace, $"{layout.Parts}: no space left on its file system: {Text(blob.Size - Held)} bytes of blob {blob.Digest} are still to come{free}; what is here is kept");
    }

    private PullException BecameShorter() => new(PullError.Machine, $"{path}: the part became shorter while it was written");

    private PullException Reject(PullError reason, string message)
    {
        Restart();
        return new PullException(reason, message);
    }

    private void Advance(long to)
    {
        lock (gate)
        {
            offset = to;
            Monitor.PulseAll(gate);
        }
    }

    private void End(PartState how)
    {
        lock (gate)
        {
            if (state == PartState.Growing)
            {
                state = how;
                Monitor.PulseAll(gate);
            }
        }
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>Reads the part behind what is hashed, from its first byte to the end of the committed blob.</summary>
    internal sealed class Follower : ReadOnlyStream
    {
        private readonly BlobIngest ingest;
        private readonly SafeFileHandle file;
        private readonly CancellationToken token;
        private readonly CancellationTokenRegistration wakeUp;
        private readonly int begunIn;
        private long position;

        internal Follower(BlobIngest ingest, SafeFileHandle file, CancellationToken token)
        {
            this.ingest = ingest;
            this.file = file;
            this.token = token;
            begunIn = Volatile.Read(ref ingest.generation);
            wakeUp = token.Register(() =>
            {
                lock (ingest.gate)
                {
                    Monitor.PulseAll(ingest.gate);
                }
            });
        }

        public override long Position { get => position; set => throw new NotSupportedException(); }

        public override int Read(Span<byte> buffer)
        {
            long available = WaitForBytes();
            if (available == 0 || buffer.Length == 0)
            {
                return 0;
            }

            int read = RandomAccess.Read(file, buffer[..(int)Math.Min(buffer.Length, available)], position);
            // what was read before a restart must not be used after it
            ThrowIfRestarted();

            position += read;
            return read;
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                wakeUp.Dispose();
                file.Dispose();
            }

            base.Dispose(disposing);
        }

        // Bytes that may be read now; 0 at the end of a committed blob.
        private long WaitForBytes()
        {
            lock (ingest.gate)
            {
                while (true)
                {
                    token.ThrowIfCancellationRequested();
                    ThrowIfRestarted();
                    if (ingest.offset > position)
                    {
                        return ingest.offset - position;
                    }

                    if (ingest.state == PartState.Committed)
                    {
                        return 0;
                    }

                    if (ingest.state == PartState.Abandoned)
                    {
                        throw new OperationCanceledException($"blob {ingest.blob.Digest} is no longer being fetched");
                    }

                    Monitor.Wait(ingest.gate);
                }
            }
        }

        /// <summary>For what was made of the bytes read so far; also once this is disposed.</summary>
        /// <exception cref="PartRestartedException">They were not the blob's.</exception>
        internal void ThrowIfRestarted()
        {
            lock (ingest.gate)
            {
                if (ingest.generation != begunIn)
                {
                    throw new PartRestartedException();
                }
            }
        }
    }
}
