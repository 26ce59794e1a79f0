using System.Buffers;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// Makes one layer's entries into files below one root, in the archive's order, touching nothing outside. <see cref="Apply"/> once, then
/// <see cref="Settle"/> once; what the layers below decide, and directories' times, are done there. In between nobody else may enter the root.
/// </summary>
internal sealed class LayerApplier : IDisposable
{
    // Bytes; most files are written by one call.
    private const int BufferSize = 128 * 1024;

    private readonly RootDirectory root;
    private readonly ExtractOptions options;
    private readonly bool overlay;
    private readonly Allowance allowance;
    private readonly SpillPool pool;
    private readonly LayerDirectories directories;
    private readonly EntryMetadata metadata;
    private readonly HardLinks hardLinks;
    private readonly SpecialFiles specialFiles;
    private readonly LowerRemoval removal;
    private readonly LayerSettling settling;

    /// <param name="allowance">Shared by the layers of one image; without it the layer has one of its own.</param>
    internal LayerApplier(RootDirectory root, ExtractOptions options, Allowance? allowance = null)
    {
        this.root = root;
        this.options = options;
        this.allowance = allowance ?? new Allowance(options.Limits);
        overlay = options.Format == LayerFormat.Overlay;
        pool = new SpillPool(this.allowance.Memory, () => NewFile.Nameless(root.Handle));
        directories = new LayerDirectories(root, options, pool, TakeEntry, TakeSteps);
        LowerLinks lowerLinks = new(directories, Hold);
        metadata = new EntryMetadata(options, Report, this.allowance);
        specialFiles = new SpecialFiles(directories, options, metadata, Report);
        hardLinks = new HardLinks(directories, lowerLinks, overlay, specialFiles.LeaveOut, Hold);
        removal = new LowerRemoval(directories, overlay, pool);
        settling = new LayerSettling(directories, lowerLinks, metadata, options, pool, TakeEntry, TakeContent, TakeLookups);
    }

    internal ExtractReport Report { get; } = new();

    internal LayerLimits Limits => options.Limits;

    /// <summary>All entries of a plain tar.</summary>
    /// <exception cref="PullException">Malformed, UnsafeEntry, LimitPassed, Unsupported.</exception>
    /// <exception cref="IOException">The file system's refusals; HResult is errno.</exception>
    internal void Apply(Stream tar, CancellationToken token)
    {
        TarReader reader = new(tar, options.Limits.Tar);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
        try
        {
            CloseToOthers();
            while (reader.MoveNext())
            {
                token.ThrowIfCancellationRequested();
                TakeEntry();
                ApplyEntry(reader, buffer, token);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }

        // many layers may wait for those below them to be settled
        directories.Close();
    }

    /// <inheritdoc cref="LayerSettling.Settle"/>
    internal void Settle(IReadOnlyList<RootDirectory> lowersTopFirst, CancellationToken token) => settling.Settle(lowersTopFirst, token);

    public void Dispose()
    {
        directories.Dispose();
        pool.Dispose();
    }

    // The root as it is until all is done: whoever could enter it might change what we are about to open, or use a setuid file before its time.
    private void CloseToOthers()
    {
        if (overlay)
        {
            EntryMetadata.ForgetAcl(root.Handle);
        }

        directories.Root.TakeDefaultAcl(root.Handle);
        FileStatus status = Libc.Status(root.Handle, root.Path);
        directories.Root.FinalMode = status.Permissions;
        directories.Root.Modified = overlay ? default : new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds);
        Failure.ThrowIf(Libc.ChangeMode(root.Handle, Permission.Owner), "fchmod", root.Path);
        directories.FoldsCase = FoldedNames.AreIn(root.Handle);
    }

    private void TakeEntry()
    {
        Report.Entries++;
        allowance.TakeEntry();
    }

    private void TakeSteps(int count)
    {
        Report.Steps += count;
        allowance.TakeSteps(count);
    }

    private void TakeLookups(int count)
    {
        Report.Lookups += count;
        allowance.TakeLookups(count);
    }

    private void TakeContent(ReadOnlySpan<byte> name, long size)
    {
        Report.Bytes += size;
        allowance.TakeContent(root.Handle, name, size);
    }

    private void Hold(long count)
    {
        Report.Held += count;
        allowance.Hold(count);
    }

    private void ApplyEntry(TarReader reader, byte[] buffer, CancellationToken token)
    {
        TarEntry entry = reader.Current;
        LayerEntry read = LayerEntry.Of(entry);
        switch (read.Rule)
        {
            case LayerRule.DescribeRoot:
                settling.RootEntry = entry;
                directories.Root.IsImplied = false;
                break;
            case LayerRule.HideLower when directories.GetForRemoval(read.Path.Parent) is { } hidden:
                removal.Hide(hidden);
                break;
            case LayerRule.RemoveLower when directories.GetForRemoval(read.Path.Parent) is { } directory:
                removal.Remove(directory, EntryPath.Terminated(read.Removed));
                break;
            case LayerRule.Make:
                Make(reader, read.Path, buffer, token);
                break;
        }
    }

    private void Make(TarReader reader, EntryPath path, byte[] buffer, CancellationToken token)
    {
        TarEntry entry = reader.Current;
        TouchedDirectory parent = directories.Get(path.Parent);
        byte[] name = EntryPath.Terminated(path.Base);
        switch (entry.Kind)
        {
            case TarEntryKind.Directory:
                MakeDirectory(parent, name, entry);
                return;
            case TarEntryKind.File:
                MakeFile(parent, name, reader, path.Full, buffer, token);
                break;
            case TarEntryKind.HardLink:
                hardLinks.Make(parent, name, entry, path.Full);
                break;
            default:
                specialFiles.Make(parent, name, entry, path.Full);
                break;
        }

        directories.MarkWritten(parent, name);
    }

    private void MakeDirectory(TouchedDirectory parent, byte[] name, TarEntry entry)
    {
        TouchedDirectory directory = directories.MakeIn(parent, name, out bool existed);
        directory.Holds = true;
        settling.Describe(directory, entry, existed);
    }

    private void MakeFile(TouchedDirectory parent, byte[] name, TarReader reader, byte[] path, byte[] buffer, CancellationToken token)
    {
        TakeContent(reader.Current.Name, reader.Current.Room);
        int errno = NewFile.Create(directories.Open(parent), name, out SafeFileHandle? created);
        if (errno == Errno.Exists)
        {
            directories.Remove(parent, name);
            errno = NewFile.Create(directories.Open(parent), name, out created);
        }

        Failure.ThrowIf(errno, "open", path);
        using SafeFileHandle file = created!;
        WriteContent(file, reader, path, buffer, token);
        TarEntry entry = reader.Current;
        metadata.Apply(file, entry, path);
        metadata.SetTimes(file, entry.Modified, path);
    }

    // Holes of a sparse file are never written, so they stay holes.
    private static void WriteContent(SafeFileHandle file, TarReader reader, byte[] path, byte[] buffer, CancellationToken token)
    {
        long end = 0;
        int read;
        while ((read = reader.ReadContent(buffer, out long position)) > 0)
        {
            token.ThrowIfCancellationRequested();
            Failure.ThrowIf(Libc.WriteAll(file, buffer.AsSpan(0, read), position), "write", path);
            end = position + read;
        }

        if (reader.Current.Size > end)
        {
            Failure.ThrowIf(Libc.SetLength(file, reader.Current.Size), "ftruncate", path);
        }
    }
}
