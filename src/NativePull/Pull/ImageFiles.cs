using System.Globalization;
using NativePull.IO;
using NativePull.Layers;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>The files of an image that lies in a directory or in a tar, by name; read in place.</summary>
internal abstract class ImageFiles : IDisposable
{
    /// <summary>The file's bytes and their number; null where there is none of that name. The caller disposes.</summary>
    internal abstract Stream? TryOpen(string name);

    /// <summary>A small file whole; null where there is none of that name.</summary>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal byte[]? TryRead(string name, long limit)
    {
        using Stream? file = TryOpen(name);
        if (file is null)
        {
            return null;
        }

        if (file.Length > limit)
        {
            throw new PullException(
                PullError.LimitPassed,
                $"{name} has {file.Length.ToString(CultureInfo.InvariantCulture)} bytes, more than {limit.ToString(CultureInfo.InvariantCulture)}");
        }

        byte[] content = new byte[file.Length];
        file.ReadExactly(content);
        return content;
    }

    public abstract void Dispose();
}

/// <summary>A directory; only names that this program puts together are opened in it.</summary>
internal sealed class DirectoryFiles(string directory) : ImageFiles
{
    internal override Stream? TryOpen(string name)
    {
        string path = Path.Combine(directory, name);
        // to open a fifo is to wait for somebody who writes
        return Destination.IsFile(path)
            ? new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 0, FileOptions.SequentialScan)
            : null;
    }

    public override void Dispose() { }
}

/// <summary>A plain tar, looked through once; of a name that occurs twice the last counts, as it would after unpacking.</summary>
internal sealed class ArchiveFiles : ImageFiles
{
    // Real archives have some files a layer.
    private const int MaximumEntries = 100_000;

    // Bytes of all names and link targets; what so many digests need.
    private const int MaximumNames = 16 * 1024 * 1024;

    // Links that lead to links.
    private const int MaximumLinks = 8;

    private readonly Dictionary<string, Place> places = [];
    private readonly FileStream archive;

    /// <param name="archive">Disposed with this.</param>
    /// <exception cref="PullException">Malformed, LimitPassed, Unsupported.</exception>
    internal ArchiveFiles(FileStream archive, TarLimits limits, CancellationToken token)
    {
        this.archive = archive;
        archive.Position = 0;
        using BufferedStream buffered = new(new Unowned(archive), 128 * 1024);
        TarReader reader = new(buffered, limits);
        int named = 0;
        while (reader.MoveNext())
        {
            token.ThrowIfCancellationRequested();
            if (places.Count == MaximumEntries)
            {
                throw new PullException(PullError.LimitPassed, $"an archive of more than {MaximumEntries.ToString(CultureInfo.InvariantCulture)} files is no image's");
            }

            TarEntry entry = reader.Current;
            named += entry.Name.Length + entry.LinkName.Length;
            if (named > MaximumNames)
            {
                throw new PullException(PullError.LimitPassed, $"an archive with more than {MaximumNames.ToString(CultureInfo.InvariantCulture)} bytes of names is no image's");
            }

            string name = EntryPath.Key(EntryPath.Of(entry.Name).Full);
            places[name] = entry.Kind switch
            {
                TarEntryKind.File => new Place(buffered.Position, entry.Size, null) { IsSparse = entry.DataSize != entry.Size },
                TarEntryKind.HardLink => new Place(0, 0, EntryPath.Key(EntryPath.Of(entry.LinkName).Full)),
                // relative to where the link lies; one that is absolute begins at the archive's root
                TarEntryKind.Symlink => new Place(0, 0, EntryPath.Key(EntryPath.Of(
                    entry.LinkName.AsSpan().StartsWith("/"u8) ? entry.LinkName : [.. EntryPath.Of(entry.Name).Parent, (byte)'/', .. entry.LinkName]).Full)),
                _ => default,
            };
        }
    }

    internal override Stream? TryOpen(string name)
    {
        // bytes as the archive has them, one character each
        name = EntryPath.Key(EntryPath.Of(System.Text.Encoding.UTF8.GetBytes(name)).Full);
        for (int links = 0; links < MaximumLinks && places.TryGetValue(name, out Place place); links++)
        {
            if (place.Target is null)
            {
                if (place.IsSparse)
                {
                    throw new PullException(PullError.Unsupported, $"{TarText.Show(System.Text.Encoding.Latin1.GetBytes(name))} is in the archive as a sparse file, which is not supported there (tar without -S)");
                }

                return place.Start == 0 ? null : new RegionStream(archive.SafeFileHandle, place.Start, place.Length);
            }

            name = place.Target;
        }

        return null;
    }

    public override void Dispose() => archive.Dispose();

    /// <param name="Start">0: not a file.</param>
    private readonly record struct Place(long Start, long Length, string? Target)
    {
        /// <summary>Its bytes are not all there, and not where a whole file's would be.</summary>
        internal bool IsSparse { get; init; }
    }

    /// <summary>Lets a wrapper be disposed without what it wraps.</summary>
    private sealed class Unowned(FileStream inner) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => true;

        public override bool CanWrite => false;

        public override long Length => inner.Length;

        public override long Position { get => inner.Position; set => inner.Position = value; }

        public override int Read(Span<byte> buffer) => inner.Read(buffer);

        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, count);

        public override void Flush() { }

        public override long Seek(long offset, SeekOrigin origin) => inner.Seek(offset, origin);

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
