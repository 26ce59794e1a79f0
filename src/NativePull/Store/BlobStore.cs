using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;
using NativePull.Oci;

namespace NativePull.Store;

/// <summary>Blobs by digest. One that is here was hashed, flushed and renamed; afterwards name and length are trusted.</summary>
internal sealed class BlobStore(StoreLayout layout, StoreOptions options)
{
    internal const int SharingViolation = 11; // EAGAIN, what flock answers through the BCL

    internal bool Contains(Descriptor blob)
    {
        FileInfo file = new(layout.Blob(blob.Digest));
        return file.Exists && file.Length == blob.Size;
    }

    /// <summary>Of a blob whose size is not known.</summary>
    internal bool Has(Digest digest) => File.Exists(layout.Blob(digest));

    /// <summary>Its bytes; the caller disposes.</summary>
    /// <exception cref="PullException">NotInStore.</exception>
    internal Stream Open(Digest digest) => new FileStream(
        Libc.TryOpenForReading(layout.Blob(digest)) ?? throw new PullException(PullError.NotInStore, $"blob {digest} is not in the store"), FileAccess.Read, 0);

    /// <summary>A small blob whole, hashed again; null where it is not here.</summary>
    /// <param name="limit">Bytes; a larger one is a LimitPassed.</param>
    /// <exception cref="PullException">StoreDamaged where the bytes are not the ones the name promises.</exception>
    internal byte[]? TryRead(Digest digest, long limit)
    {
        string path = layout.Blob(digest);
        if (ReadWhole(path, limit) is not { } content)
        {
            return null;
        }

        return digest.Matches(content)
            ? content
            : throw new PullException(PullError.StoreDamaged, $"{path}: expected {digest}, got {Digest.Of(content)}");
    }

    /// <summary>Puts a small blob, if it is not here yet. Being small it is looked at, not trusted: one that was damaged is replaced.</summary>
    /// <exception cref="PullException">DigestMismatch, SizeMismatch, Locked.</exception>
    internal async Task PutAsync(Descriptor blob, byte[] content, CancellationToken token)
    {
        string path = layout.Blob(blob.Digest);
        if (Contains(blob) && ReadWhole(path, content.Length) is { } present && !present.AsSpan().SequenceEqual(content))
        {
            File.Delete(path);
        }

        using BlobIngest? ingest = await BeginAsync(blob, token);
        if (ingest is not null)
        {
            ingest.Restart();
            ingest.Append(content);
            ingest.Commit();
        }
    }

    /// <summary>
    /// Takes the blob's part under its lock and hashes what it holds. Waits for a process that has it; null: the blob is here, now or after
    /// that wait.
    /// </summary>
    /// <param name="waits">Called before it waits.</param>
    /// <exception cref="PullException">Locked where the other process made no progress for the lock time-out.</exception>
    internal async Task<BlobIngest?> BeginAsync(Descriptor blob, CancellationToken token, Action? waits = null)
    {
        string path = layout.Part(blob.Digest);
        LockWait wait = new(options, $"the part of {blob.Digest}", () => ProgressOf(path));
        while (!Contains(blob))
        {
            SafeFileHandle? part = TryOpenPart(path);
            if (part is null)
            {
                waits?.Invoke();
                await wait.OnceMoreAsync(token);
                continue;
            }

            // the process that held the lock may have renamed this very inode into the blob, or deleted it: then it is not ours to write
            if (Libc.TryIdentityOf(path) != Libc.IdentityOf(part, path))
            {
                part.Dispose();
                continue;
            }

            BlobIngest ingest = new(part, path, blob, layout, options);
            try
            {
                await ingest.StayingAliveAsync(ingest.HashKeptAsync(token));
                return ingest;
            }
            catch
            {
                ingest.Dispose();
                throw;
            }
        }

        return null;
    }

    private static SafeFileHandle? TryOpenPart(string path)
    {
        try
        {
            // FileShare.None is an exclusive flock, seen by every process and every other open in this one
            return File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException held) when (held.HResult == SharingViolation)
        {
            return null;
        }
    }

    private static byte[]? ReadWhole(string path, long limit)
    {
        using SafeFileHandle? file = Libc.TryOpenForReading(path);
        if (file is null)
        {
            return null;
        }

        long length = RandomAccess.GetLength(file);
        if (length > limit)
        {
            throw new PullException(PullError.LimitPassed, $"{path} has {Text(length)} bytes, more than {Text(limit)}");
        }

        byte[] content = new byte[length];
        using FileStream stream = new(file, FileAccess.Read, 0);
        stream.ReadExactly(content);
        return content;
    }

    // A part with holes grows inside: its length need not change, its time does.
    private static long ProgressOf(string path)
    {
        FileInfo file = new(path);
        return file.Exists ? file.Length + file.LastWriteTimeUtc.Ticks : -1;
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
