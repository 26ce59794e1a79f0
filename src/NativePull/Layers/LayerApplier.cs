using System.Buffers;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// Makes one layer's entries into files below one root, in the archive's order, touching nothing outside. <see cref="Apply"/> once, then
/// <see cref="Settle"/> once; what the layers below decide, and directories' times, are done there.
/// </summary>
/// <param name="allowance">Shared by the layers of one image; without it the layer has one of its own.</param>
internal sealed class LayerApplier(RootDirectory root, ExtractOptions options, Allowance? allowance = null) : IDisposable
{
    // Bytes; most files are written by one call.
    private const int BufferSize = 128 * 1024;

    private readonly LayerDirectories directories = new(root, options);
    private readonly List<(byte[] Path, byte[] Target)> linksToLower = [];
    private readonly Allowance allowance = allowance ?? new Allowance(options.Limits);

    internal LayerLimits Limits => options.Limits;

    internal ExtractReport Report => directories.Report;

    private EntryMetadata Metadata => directories.Metadata;

    /// <summary>All entries of a plain tar.</summary>
    /// <exception cref="PullException">Malformed, UnsafeEntry, LimitPassed, Unsupported.</exception>
    /// <exception cref="IOException">The file system's refusals; HResult is errno.</exception>
    internal void Apply(Stream tar, CancellationToken token)
    {
        TarReader reader = new(tar, options.Limits.Tar);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
        try
        {
            _ = directories.Get(default);
            while (reader.MoveNext())
            {
                token.ThrowIfCancellationRequested();
                Report.Entries++;
                allowance.TakeEntry();
                ApplyEntry(reader, buffer, token);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>What depends on the layers below, then the times of directories.</summary>
    /// <param name="lowersTopFirst">Overlay: every layer below, settled. Flat: none, they are in the root already.</param>
    /// <exception cref="PullException">Malformed: a hard link to nothing.</exception>
    internal void Settle(IReadOnlyList<RootDirectory> lowersTopFirst, CancellationToken token)
    {
        LowerLayers lowers = new(lowersTopFirst, options.Whiteouts);
        foreach ((byte[] path, byte[] target) in linksToLower)
        {
            token.ThrowIfCancellationRequested();
            LinkToLower(lowers, path, target);
        }

        foreach (TouchedDirectory directory in directories.Touched)
        {
            token.ThrowIfCancellationRequested();
            Finish(directory, lowers);
        }
    }

    public void Dispose() => directories.Dispose();

    private void ApplyEntry(TarReader reader, byte[] buffer, CancellationToken token)
    {
        TarEntry entry = reader.Current;
        EntryPath path = EntryPath.Of(entry.Name);
        if (path.IsRoot)
        {
            if (entry.Kind != TarEntryKind.Directory)
            {
                throw new PullException(PullError.UnsafeEntry, $"archive: {TarText.Show(entry.Name)} would replace the root by a {entry.Kind}");
            }

            Describe(directories.Get(default), entry, [], existed: true);
            return;
        }

        WhiteoutKind whiteout = Whiteout.KindOf(path.Base);
        if (whiteout == WhiteoutKind.Ignored)
        {
            return;
        }

        if (whiteout == WhiteoutKind.Opaque)
        {
            HideLower(directories.Get(path.Parent), path.Parent);
            return;
        }

        if (whiteout == WhiteoutKind.Name)
        {
            ReadOnlySpan<byte> removed = Whiteout.Removed(path.Base, path.Full);
            RemoveLower(directories.Get(path.Parent), EntryPath.Terminated(removed), path.Full);
            return;
        }

        TouchedDirectory parent = directories.Get(path.Parent);
        byte[] name = EntryPath.Terminated(path.Base);
        switch (entry.Kind)
        {
            case TarEntryKind.Directory:
                MakeDirectory(parent, name, entry, path.Full);
                break;
            case TarEntryKind.File:
                MakeFile(parent, name, reader, path.Full, buffer, token);
                break;
            case TarEntryKind.HardLink:
                MakeHardLink(parent, name, entry, path.Full);
                break;
            default:
                MakeSpecial(parent, name, entry, path.Full);
                break;
        }

        directories.MarkWritten(parent, name);
    }

    private void MakeDirectory(TouchedDirectory parent, byte[] name, TarEntry entry, byte[] path)
    {
        bool existed = Libc.TryStatusAt(parent.Handle!, name, out FileStatus before) == 0 && before.IsDirectory;
        TouchedDirectory directory = directories.MakeIn(parent, name, path, out bool hidesLower);
        Describe(directory, entry, path, existed);
        if (hidesLower)
        {
            directories.MakeOpaque(directory, path);
        }
    }

    private void Describe(TouchedDirectory directory, TarEntry entry, byte[] path, bool existed)
    {
        if (existed && options.Format == LayerFormat.Flat)
        {
            EntryMetadata.Forget(directory.Handle!, path);
        }

        directory.FinalMode = Metadata.Apply(directory.Handle!, entry, path);
        directory.Modified = entry.Modified;
        directory.IsImplied = false;
    }

    private void MakeFile(TouchedDirectory parent, byte[] name, TarReader reader, byte[] path, byte[] buffer, CancellationToken token)
    {
        allowance.TakeFile(root.Handle, reader.Current);
        const int flags = OpenFlags.WriteOnly | OpenFlags.Create | OpenFlags.Exclusive;
        int errno = Libc.OpenAt(parent.Handle!, name, flags | OpenFlags.NoFollow, 0x180, out SafeFileHandle? created);
        if (errno == Errno.Exists)
        {
            directories.Remove(parent, name, path);
            errno = Libc.OpenAt(parent.Handle!, name, flags | OpenFlags.NoFollow, 0x180, out created);
        }

        Failure.ThrowIf(errno, "open", path);
        using SafeFileHandle file = created!;
        WriteContent(file, reader, path, buffer, token);
        TarEntry entry = reader.Current;
        Metadata.Apply(file, entry, path);
        Metadata.SetTimes(file, entry.Modified, path);
    }

    // Holes of a sparse file are never written, so they stay holes.
    private void WriteContent(SafeFileHandle file, TarReader reader, byte[] path, byte[] buffer, CancellationToken token)
    {
        long end = 0;
        int read;
        while ((read = reader.ReadContent(buffer, out long position)) > 0)
        {
            token.ThrowIfCancellationRequested();
            Failure.ThrowIf(Libc.WriteAll(file, buffer.AsSpan(0, read), position), "write", path);
            end = position + read;
            Report.Bytes += read;
        }

        if (reader.Current.Size > end)
        {
            Failure.ThrowIf(Libc.SetLength(file, reader.Current.Size), "ftruncate", path);
        }
    }

    private void MakeHardLink(TouchedDirectory parent, byte[] name, TarEntry entry, byte[] path)
    {
        EntryPath target = EntryPath.Of(entry.LinkName);
        if (target.IsRoot)
        {
            throw new PullException(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to the root");
        }

        byte[] targetName = EntryPath.Terminated(target.Base);
        using SafeFileHandle? targetParent = directories.TryOpen(target.Parent);
        FileStatus status = default;
        bool found = targetParent is not null && Libc.TryStatusAt(targetParent, targetName, out status) == 0;
        if (found && status.IsDirectory)
        {
            throw new PullException(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to the directory {TarText.Show(target.Full)}");
        }

        if (found && options.Format == LayerFormat.Overlay && OverlayMarks.IsWhiteout(targetParent!, targetName, status, options.Whiteouts))
        {
            found = false;
        }

        if (!found)
        {
            if (options.Format == LayerFormat.Flat)
            {
                throw NoTarget(path, target.Full);
            }

            directories.Remove(parent, name, path);
            linksToLower.Add((path, target.Full));
            return;
        }

        Link(parent, name, targetParent!, targetName, path);
    }

    private void Link(TouchedDirectory parent, byte[] name, SafeFileHandle targetParent, byte[] targetName, byte[] path)
    {
        int errno = Libc.MakeLink(targetParent, targetName, parent.Handle!, name);
        if (errno == Errno.Exists)
        {
            _ = Libc.TryStatusAt(targetParent, targetName, out FileStatus wanted);
            if (Libc.TryStatusAt(parent.Handle!, name, out FileStatus there) == 0 && DirectoryKey.Of(there) == DirectoryKey.Of(wanted))
            {
                return;
            }

            directories.Remove(parent, name, path);
            errno = Libc.MakeLink(targetParent, targetName, parent.Handle!, name);
        }

        if (Failure.IsRefusal(errno))
        {
            throw Failure.CannotHold("hard links", "link", path, errno);
        }

        Failure.ThrowIf(errno, "link", path);
    }

    private void MakeSpecial(TouchedDirectory parent, byte[] name, TarEntry entry, byte[] path)
    {
        if (entry.Kind is TarEntryKind.CharacterDevice or TarEntryKind.BlockDevice && options.Devices != DevicePolicy.Make)
        {
            if (options.Devices == DevicePolicy.Fail)
            {
                throw new PullException(PullError.Unsupported, $"archive: {TarText.Show(path)} is a device, and --devices fail was given");
            }

            directories.Remove(parent, name, path);
            Report.DevicesSkipped++;
            return;
        }

        SafeFileHandle? standIn = null;
        bool inFile = options.Ownership == OwnershipPolicy.OverrideStat && entry.Kind != TarEntryKind.Symlink;
        int errno = inFile ? CreateFile(parent, name, out standIn) : Create(parent, name, entry);
        if (errno == Errno.Exists)
        {
            directories.Remove(parent, name, path);
            errno = inFile ? CreateFile(parent, name, out standIn) : Create(parent, name, entry);
        }

        if (Failure.IsRefusal(errno))
        {
            throw entry.Kind == TarEntryKind.Symlink
                ? Failure.CannotHold("symbolic links", "symlink", path, errno)
                : Failure.CannotHold("such nodes (--devices skip leaves devices out)", "mknod", path, errno);
        }

        Failure.ThrowIf(errno, entry.Kind == TarEntryKind.Symlink ? "symlink" : "mknod", path);
        if (standIn is null)
        {
            Metadata.ApplyAt(parent.Handle!, name, entry, path);
            return;
        }

        using (standIn)
        {
            Metadata.Apply(standIn, entry, path);
            Metadata.SetTimes(standIn, entry.Modified, path);
        }
    }

    private static int CreateFile(TouchedDirectory parent, byte[] name, out SafeFileHandle? made) =>
        Libc.OpenAt(parent.Handle!, name, OpenFlags.WriteOnly | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow, 0x180, out made);

    private static int Create(TouchedDirectory parent, byte[] name, TarEntry entry) => entry.Kind switch
    {
        TarEntryKind.Symlink => Libc.MakeSymlink([.. entry.LinkName, 0], parent.Handle!, name),
        TarEntryKind.Fifo => Libc.MakeNode(parent.Handle!, name, FileType.Fifo | 0x180, 0, 0),
        TarEntryKind.CharacterDevice => Libc.MakeNode(parent.Handle!, name, FileType.Character | 0x180, entry.DeviceMajor, entry.DeviceMinor),
        _ => Libc.MakeNode(parent.Handle!, name, FileType.Block | 0x180, entry.DeviceMajor, entry.DeviceMinor),
    };

    // ".wh.NAME": what lower layers have under the name goes; what this layer has put there stays.
    private void RemoveLower(TouchedDirectory parent, byte[] name, byte[] path)
    {
        bool there = Libc.TryStatusAt(parent.Handle!, name, out FileStatus status) == 0;
        TouchedDirectory? ours = there ? directories.Find(status) : null;
        if (ours is not null)
        {
            byte[] inside = ours.Path;
            HideLower(directories.Get(inside), inside);
        }
        else if (options.Format == LayerFormat.Overlay)
        {
            directories.MarkWhiteout(parent, name);
            if (!there && !parent.IsOpaque)
            {
                Failure.ThrowIf(OverlayMarks.MakeWhiteout(parent.Handle!, name, options.Whiteouts), "mknod", path);
            }
        }
        else if (there && !directories.IsWritten(parent, name))
        {
            directories.Remove(parent, name, path);
        }
    }

    // The opaque marker: everything lower layers have in the directory is hidden, at any depth.
    private void HideLower(TouchedDirectory directory, ReadOnlySpan<byte> path)
    {
        if (options.Format == LayerFormat.Overlay)
        {
            directories.MakeOpaque(directory, path);
            return;
        }

        foreach (byte[] name in Libc.Names(directory.Handle!, TarText.Show(path)))
        {
            byte[] child = path.Length == 0 ? name[..^1] : [.. path, (byte)'/', .. name[..^1]];
            if (Libc.TryStatusAt(directory.Handle!, name, out FileStatus status) != 0)
            {
                continue;
            }

            if (directories.Find(status) is not null)
            {
                HideLower(directories.Get(child), child);
                directory = directories.Get(path);
            }
            else if (!directories.IsWritten(directory, name))
            {
                directories.Remove(directory, name, child);
            }
        }
    }

    private void LinkToLower(LowerLayers lowers, byte[] path, byte[] target)
    {
        EntryPath targetPath = EntryPath.Of(target);
        byte[] targetName = EntryPath.Terminated(targetPath.Base);
        TouchedDirectory targetParent = directories.Get(targetPath.Parent);
        if (Libc.TryStatusAt(targetParent.Handle!, targetName, out FileStatus status) != 0)
        {
            CopyUp(lowers, targetParent, targetName, target, path);
        }
        else if (status.IsDirectory || OverlayMarks.IsWhiteout(targetParent.Handle!, targetName, status, options.Whiteouts))
        {
            throw NoTarget(path, target);
        }

        // a handle of its own: finding the other parent may close this one
        using SafeFileHandle held = directories.TryOpen(targetPath.Parent)!;
        EntryPath own = EntryPath.Of(path);
        Link(directories.Get(own.Parent), EntryPath.Terminated(own.Base), held, targetName, path);
    }

    // As overlayfs does before it changes a lower file: the file comes into this layer whole, so that both names can be one inode.
    private void CopyUp(LowerLayers lowers, TouchedDirectory parent, byte[] name, byte[] target, byte[] path)
    {
        if (lowers.Find(target) is not { } found)
        {
            throw NoTarget(path, target);
        }

        using SafeFileHandle lowerParent = found.Parent;
        FileStatus status = found.Status;
        TarEntryKind kind = status.Type switch
        {
            FileType.Regular => TarEntryKind.File,
            FileType.Symlink => TarEntryKind.Symlink,
            FileType.Fifo => TarEntryKind.Fifo,
            FileType.Character => TarEntryKind.CharacterDevice,
            FileType.Block => TarEntryKind.BlockDevice,
            _ => throw NoTarget(path, target),
        };
        TarEntry copy = new()
        {
            Kind = kind,
            Name = target,
            LinkName = kind == TarEntryKind.Symlink ? Libc.ReadLink(lowerParent, found.Name) ?? [] : [],
            Mode = status.Permissions,
            Uid = status.Uid,
            Gid = status.Gid,
            DeviceMajor = status.RawMajor,
            DeviceMinor = status.RawMinor,
            Modified = new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds),
        };
        if (kind != TarEntryKind.File)
        {
            Failure.ThrowIf(Create(parent, name, copy), kind == TarEntryKind.Symlink ? "symlink" : "mknod", target);
            Metadata.CopyAt(parent.Handle!, name, status, target);
            return;
        }

        Failure.ThrowIf(Libc.OpenAt(lowerParent, found.Name, OpenFlags.ReadOnly | OpenFlags.NoFollow, 0, out SafeFileHandle? source), "open", target);
        using SafeFileHandle from = source!;
        Failure.ThrowIf(
            Libc.OpenAt(parent.Handle!, name, OpenFlags.WriteOnly | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow, 0x180, out SafeFileHandle? made),
            "open",
            target);
        using SafeFileHandle to = made!;
        byte[] buffer = new byte[BufferSize];
        long offset = 0;
        int read;
        while ((read = RandomAccess.Read(from, buffer, offset)) > 0)
        {
            Failure.ThrowIf(Libc.WriteAll(to, buffer.AsSpan(0, read)), "write", target);
            offset += read;
        }

        Metadata.Copy(from, status, to, target);
        Metadata.SetTimes(to, copy.Modified, target);
    }

    private void Finish(TouchedDirectory directory, LowerLayers lowers)
    {
        using SafeFileHandle? opened = directory.Handle is null ? directories.TryOpen(directory.Path) : null;
        SafeFileHandle? handle = directory.Handle ?? opened;
        if (handle is null || directories.Find(Libc.Status(handle, TarText.Show(directory.Path))) != directory)
        {
            // gone again within the layer, or replaced by another
            return;
        }

        if (directory.IsImplied)
        {
            Imply(directory, handle, lowers);
        }

        if (directory.FinalMode is { } mode)
        {
            Failure.ThrowIf(Libc.ChangeMode(handle, mode), "fchmod", directory.Path);
        }

        Metadata.SetTimes(handle, directory.Modified, directory.Path);
    }

    // A directory the layer does not describe looks as the layers below have it; where none does, 0755, root's, of time 0.
    private void Imply(TouchedDirectory directory, SafeFileHandle handle, LowerLayers lowers)
    {
        if (lowers.Find(directory.Path) is not { } found)
        {
            Metadata.Default(handle, directory.Path);
            return;
        }

        using SafeFileHandle parent = found.Parent;
        if (!found.Status.IsDirectory)
        {
            return;
        }

        Failure.ThrowIf(
            Libc.OpenAt(parent, found.Name, OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow, 0, out SafeFileHandle? lower), "open", directory.Path);
        using SafeFileHandle from = lower!;
        Metadata.Copy(from, found.Status, handle, directory.Path);
        directory.Modified = new TarTime(found.Status.ModifiedSeconds, (int)found.Status.ModifiedNanoseconds);
    }

    private static PullException NoTarget(byte[] path, byte[] target) =>
        new(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to {TarText.Show(target)}, which is not there");
}
