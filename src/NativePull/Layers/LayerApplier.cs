using System.Buffers;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// Makes one layer's entries into files below one root, in the archive's order, touching nothing outside. <see cref="Apply"/> once, then
/// <see cref="Settle"/> once; what the layers below decide, and directories' times, are done there. In between nobody else may enter the root.
/// </summary>
/// <param name="allowance">Shared by the layers of one image; without it the layer has one of its own.</param>
internal sealed class LayerApplier(RootDirectory root, ExtractOptions options, Allowance? allowance = null) : IDisposable
{
    internal static readonly int CreateFlags = OpenFlags.WriteOnly | OpenFlags.Create | OpenFlags.Exclusive | OpenFlags.NoFollow;

    // Bytes; most files are written by one call.
    private const int BufferSize = 128 * 1024;

    // Bytes; PATH_MAX less its NUL, symlink(2).
    private const int LongestLink = 4095;

    private readonly LayerDirectories directories = new(root, options);
    private readonly bool overlay = options.Format == LayerFormat.Overlay;
    private readonly Allowance allowance = allowance ?? new Allowance(options.Limits);
    private LowerLinks? lowerLinks;
    private TarEntry? rootEntry;
    private EntryMetadata? metadata;

    internal ExtractReport Report { get; } = new();

    internal LayerLimits Limits => options.Limits;

    private EntryMetadata Metadata => metadata ??= new EntryMetadata(options, Report);

    private LowerLinks LowerLinks => lowerLinks ??= new LowerLinks(directories);

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
                Report.Entries++;
                allowance.TakeEntry();
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

    /// <summary>What depends on the layers below, then the times of directories.</summary>
    /// <param name="lowersTopFirst">Overlay: every layer below, settled. Flat: none, they are in the root already.</param>
    /// <exception cref="PullException">Malformed: a hard link to nothing.</exception>
    internal void Settle(IReadOnlyList<RootDirectory> lowersTopFirst, CancellationToken token)
    {
        LowerLayers lowers = new(lowersTopFirst, options.Whiteouts);
        lowerLinks?.Settle(lowers, CopyUp, token);

        IReadOnlyList<TouchedDirectory> touched = directories.Touched;
        for (int i = 1; i < touched.Count; i++)
        {
            TouchedDirectory directory = touched[i];
            directory.IsGone |= directory.Parent!.IsGone;
            if (overlay && directories.Root.IsOpaque && directory.Parent == directories.Root && directory is { IsGone: false, Holds: true })
            {
                // overlayfs merges roots whatever their attributes say
                directories.MakeOpaque(directory);
            }
        }

        // what is below first: it may go, which changes the time of what is above, whose mode may then forbid it
        for (int i = touched.Count - 1; i >= 0; i--)
        {
            token.ThrowIfCancellationRequested();
            if (!touched[i].IsGone)
            {
                Finish(touched[i], lowers);
            }
        }
    }

    public void Dispose() => directories.Dispose();

    // The root as it is until all is done: whoever could enter it might change what we are about to open, or use a setuid file before its time.
    private void CloseToOthers()
    {
        FileStatus status = Libc.Status(root.Handle, root.Path);
        directories.Root.FinalMode = status.Permissions;
        directories.Root.Modified = overlay ? default : new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds);
        Failure.ThrowIf(Libc.ChangeMode(root.Handle, 0x1C0), "fchmod", root.Path);
    }

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

            // at the end: until then nobody else may enter
            rootEntry = entry;
            directories.Root.IsImplied = false;
            return;
        }

        switch (Whiteout.KindOf(path))
        {
            case WhiteoutKind.Ignored:
                return;
            case WhiteoutKind.Opaque:
                if (directories.GetForRemoval(path.Parent) is { } hidden)
                {
                    HideLower(hidden);
                }

                return;
            case WhiteoutKind.Name:
                byte[] removed = EntryPath.Terminated(Whiteout.Removed(path.Base, path.Full));
                if (directories.GetForRemoval(path.Parent) is { } directory)
                {
                    RemoveLower(directory, removed);
                }

                return;
            default:
                Make(reader, path, buffer, token);
                return;
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
                MakeHardLink(parent, name, entry, path.Full);
                break;
            default:
                MakeSpecial(parent, name, entry, path.Full);
                break;
        }

        directories.MarkWritten(parent, name);
    }

    private void MakeDirectory(TouchedDirectory parent, byte[] name, TarEntry entry)
    {
        TouchedDirectory directory = directories.MakeIn(parent, name, out bool existed);
        directory.Holds = true;
        Describe(directory, entry, existed);
    }

    private void Describe(TouchedDirectory directory, TarEntry entry, bool existed)
    {
        SafeFileHandle handle = directories.Open(directory);
        if (existed && !(overlay && directory.IsImplied))
        {
            Metadata.Forget(handle, entry.Name);
        }

        directory.FinalMode = Metadata.Apply(handle, entry, entry.Name);
        directory.Modified = entry.Modified;
        directory.IsImplied = false;
    }

    private void MakeFile(TouchedDirectory parent, byte[] name, TarReader reader, byte[] path, byte[] buffer, CancellationToken token)
    {
        allowance.TakeFile(root.Handle, reader.Current);
        int errno = CreateFile(parent, name, out SafeFileHandle? created);
        if (errno == Errno.Exists)
        {
            directories.Remove(parent, name);
            errno = CreateFile(parent, name, out created);
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
        TouchedDirectory? targetParent = directories.Find(target.Parent, out byte[] missing);
        FileStatus status = default;
        bool found = targetParent is not null && missing.Length == 0
            && directories.Known(targetParent, targetName) is not { Holds: false }
            && Libc.TryStatusAt(directories.Open(targetParent), targetName, out status) == 0;
        if (found && status.IsDirectory)
        {
            throw new PullException(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to the directory {TarText.Show(target.Full)}");
        }

        if (targetParent is null || (found ? directories.IsWhiteout(targetParent, targetName, status) : !overlay || LayerDirectories.HidesLower(targetParent)))
        {
            throw NoTarget(path, target.Full);
        }

        if (!found)
        {
            // by the path without links of this layer, as the layers below have it
            byte[] below = targetParent.PathOf(missing.Length == 0 ? targetName : [.. missing, (byte)'/', .. targetName]);
            if (below.AsSpan().StartsWith((byte[])[.. parent.PathOf(name), (byte)'/']))
            {
                // it is below the name that the link replaces
                throw NoTarget(path, target.Full);
            }

            LowerLinks.Add(LowerLinks.To(below), parent, name);
        }
        else if (overlay && LowerLinks.Find(targetParent, targetName) is { } link)
        {
            if (LowerLinks.Find(parent, name) != link)
            {
                LowerLinks.Add(link, parent, name);
            }
        }
        else
        {
            bool isLower = status.Type == FileType.Symlink
                && (!directories.IsWritten(targetParent, targetName) || directories.LowerSymlinks.Contains(new NameKey(targetParent, targetName)));
            Link(parent, name, targetParent, targetName, status, path);
            _ = isLower && directories.LowerSymlinks.Add(new NameKey(parent, name));
        }
    }

    private void Link(TouchedDirectory parent, byte[] name, TouchedDirectory targetParent, byte[] targetName, FileStatus target, byte[] path)
    {
        int errno = Libc.MakeLink(directories.Open(targetParent), targetName, directories.Open(parent), name);
        if (errno == Errno.Exists)
        {
            if (Libc.TryStatusAt(directories.Open(parent), name, out FileStatus there) == 0 && there.IsSameFile(target))
            {
                return;
            }

            directories.Remove(parent, name);
            errno = targetParent.IsGone ? Errno.NoEntry : Libc.MakeLink(directories.Open(targetParent), targetName, directories.Open(parent), name);
        }

        if (errno == Errno.NoEntry)
        {
            // it was below the name that the link replaced
            throw NoTarget(path, targetParent.PathOf(targetName));
        }

        if (Failure.IsRefusal(errno))
        {
            throw Failure.CannotHold("hard links", "link", path, errno);
        }

        Failure.ThrowIf(errno, "link", path);
    }

    private void MakeSpecial(TouchedDirectory parent, byte[] name, TarEntry entry, byte[] path)
    {
        if (entry.Kind is TarEntryKind.CharacterDevice or TarEntryKind.BlockDevice && !MayMake(entry, path))
        {
            directories.Remove(parent, name);
            if (overlay)
            {
                // what lower layers have there is replaced all the same
                directories.MakeWhiteout(parent, name);
            }

            Report.DevicesSkipped++;
            return;
        }

        CheckTarget(entry, path);
        SafeFileHandle? standIn = null;
        bool inFile = options.Ownership == OwnershipPolicy.OverrideStat && entry.Kind != TarEntryKind.Symlink;
        int errno = inFile ? CreateFile(parent, name, out standIn) : Create(parent, name, entry);
        if (errno == Errno.Exists)
        {
            directories.Remove(parent, name);
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
            Metadata.ApplyAt(directories.Open(parent), name, entry, path);
            return;
        }

        using (standIn)
        {
            Metadata.Apply(standIn, entry, path);
            Metadata.SetTimes(standIn, entry.Modified, path);
        }
    }

    private bool MayMake(TarEntry device, byte[] path)
    {
        if (options.Devices == DevicePolicy.Fail)
        {
            throw new PullException(PullError.Unsupported, $"archive: {TarText.Show(path)} is a device, and --devices fail was given");
        }

        // a character device 0:0 in an overlay's layer is the kernel's whiteout, and there is no other way to write one
        bool isWhiteout = overlay && options.Ownership != OwnershipPolicy.OverrideStat && device is { Kind: TarEntryKind.CharacterDevice, DeviceMajor: 0, DeviceMinor: 0 };
        return options.Devices == DevicePolicy.Make && !isWhiteout;
    }

    /// <summary>Refuses a symbolic link that no file system can hold.</summary>
    /// <exception cref="PullException">Malformed, UnsafeEntry, LimitPassed.</exception>
    internal static void CheckTarget(TarEntry entry, byte[] path)
    {
        if (entry.Kind != TarEntryKind.Symlink)
        {
            return;
        }

        if (entry.LinkName.Length == 0)
        {
            throw new PullException(PullError.Malformed, $"archive: {TarText.Show(path)} is a link to nothing");
        }

        if (entry.LinkName.AsSpan().Contains((byte)0))
        {
            throw new PullException(PullError.UnsafeEntry, $"archive: the link target of {TarText.Show(path)} has a NUL inside");
        }

        if (entry.LinkName.Length > LongestLink)
        {
            throw new PullException(
                PullError.LimitPassed,
                string.Create(CultureInfo.InvariantCulture, $"archive: the link target of {TarText.Show(path)} has {entry.LinkName.Length} bytes, more than {LongestLink}"));
        }
    }

    private int CreateFile(TouchedDirectory parent, byte[] name, out SafeFileHandle? made) =>
        Libc.OpenAt(directories.Open(parent), name, CreateFlags, 0x180, out made);

    private int Create(TouchedDirectory parent, byte[] name, TarEntry entry)
    {
        SafeFileHandle directory = directories.Open(parent);
        return entry.Kind switch
        {
            TarEntryKind.Symlink => Libc.MakeSymlink([.. entry.LinkName, 0], directory, name),
            TarEntryKind.Fifo => Libc.MakeNode(directory, name, FileType.Fifo | 0x180, 0, 0),
            TarEntryKind.CharacterDevice => Libc.MakeNode(directory, name, FileType.Character | 0x180, entry.DeviceMajor, entry.DeviceMinor),
            _ => Libc.MakeNode(directory, name, FileType.Block | 0x180, entry.DeviceMajor, entry.DeviceMinor),
        };
    }

    // ".wh.NAME": what lower layers have under the name goes; what this layer has put there stays.
    private void RemoveLower(TouchedDirectory parent, byte[] name)
    {
        TouchedDirectory? ours = directories.Known(parent, name);
        if (ours is { Holds: true })
        {
            ours.IsNew = true;
            HideLower(ours);
            return;
        }

        if (ours is not null || !directories.IsWritten(parent, name))
        {
            directories.Remove(parent, name);
        }

        if (overlay)
        {
            directories.MakeWhiteout(parent, name);
        }
    }

    // The opaque marker: everything lower layers have in the directory is hidden, at any depth.
    private void HideLower(TouchedDirectory top)
    {
        if (overlay)
        {
            directories.MakeOpaque(top);
            return;
        }

        Stack<TouchedDirectory> pending = new([top]);
        while (pending.TryPop(out TouchedDirectory? directory))
        {
            string shown = TarText.Show(directory.Path);
            Libc.Rewind(directories.Open(directory));
            while (Libc.NextNames(directories.Open(directory), shown) is { Count: > 0 } names)
            {
                foreach ((byte[] name, _) in names)
                {
                    TouchedDirectory? ours = directories.Known(directory, name);
                    if (ours is { Holds: true })
                    {
                        ours.IsNew = true;
                        pending.Push(ours);
                    }
                    else if (ours is not null || !directories.IsWritten(directory, name))
                    {
                        directories.Remove(directory, name);
                    }
                }
            }
        }
    }

    // As overlayfs does before it changes a lower file: the file comes into this layer whole, so that all its names can be one inode.
    private void CopyUp(LowerFile lower, TouchedDirectory parent, byte[] name)
    {
        FileStatus status = lower.Status;
        byte[] path = parent.PathOf(name);
        if (status.Type != FileType.Regular)
        {
            TarEntry copied = EntryOf(lower, path);
            Failure.ThrowIf(Create(parent, name, copied), copied.Kind == TarEntryKind.Symlink ? "symlink" : "mknod", path);
            Metadata.CopyAt(directories.Open(parent), name, status, path);
            return;
        }

        int flags = OpenFlags.ReadOnly | OpenFlags.NoFollow | OpenFlags.NonBlocking;
        Failure.ThrowIf(Libc.OpenAt(lower.Parent, lower.Name, flags, 0, out SafeFileHandle? source), "open", path);
        using SafeFileHandle from = source!;
        Failure.ThrowIf(CreateFile(parent, name, out SafeFileHandle? made), "open", path);
        using SafeFileHandle to = made!;
        CopyContent(from, to, path);
        Metadata.Copy(from, status, to, path);
        Metadata.SetTimes(to, new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds), path);
    }

    private static TarEntry EntryOf(LowerFile lower, byte[] path)
    {
        FileStatus status = lower.Status;
        return new TarEntry
        {
            Kind = status.Type switch
            {
                FileType.Symlink => TarEntryKind.Symlink,
                FileType.Fifo => TarEntryKind.Fifo,
                FileType.Character => TarEntryKind.CharacterDevice,
                _ => TarEntryKind.BlockDevice,
            },
            Name = path,
            LinkName = Libc.ReadLink(lower.Parent, lower.Name) ?? [],
            Mode = status.Permissions,
            Uid = status.Uid,
            Gid = status.Gid,
            DeviceMajor = status.RawMajor,
            DeviceMinor = status.RawMinor,
            Modified = new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds),
        };
    }

    // Holes stay holes: a sparse file of a lower layer may be larger than any disk, and than could ever be read.
    private static void CopyContent(SafeFileHandle from, SafeFileHandle to, byte[] path)
    {
        byte[] buffer = new byte[BufferSize];
        long offset = 0;
        while (Libc.TryNextData(from, offset, out long start, out long end))
        {
            int read = 1;
            for (offset = start; offset < end && read > 0; offset += read)
            {
                read = RandomAccess.Read(from, buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - offset)), offset);
                Failure.ThrowIf(Libc.WriteAll(to, buffer.AsSpan(0, read), offset), "write", path);
            }
        }

        Failure.ThrowIf(Libc.SetLength(to, RandomAccess.GetLength(from)), "ftruncate", path);
    }

    private void Finish(TouchedDirectory directory, LowerLayers lowers)
    {
        if (overlay && directory.Parent is null && directory.IsOpaque)
        {
            foreach (byte[] name in lowers.NamesInRoot())
            {
                directories.MakeWhiteout(directory, name);
            }
        }

        if (overlay && (directory.IsImplied || directory.HasWhiteouts || !directory.Holds))
        {
            bool isHidden = directory.IsNew || (directory.Parent is { } above && LayerDirectories.HidesLower(above));
            using LowerFile? lower = isHidden ? null : lowers.Find(directory.Path);
            bool merges = lower is { Status.IsDirectory: true };
            if (!merges)
            {
                directories.DropWhiteouts(directory);
            }

            if (!merges && !directory.Holds)
            {
                directories.RemoveEmpty(directory);
                return;
            }

            Imply(directory, merges ? lower : null);
        }
        else if (directory is { IsNew: true, Holds: false })
        {
            // made on the way of a link that led out of it again
            directories.RemoveEmpty(directory);
            return;
        }
        else if (directory.IsNew)
        {
            Imply(directory, null);
        }

        if (directory.Parent is null && rootEntry is not null)
        {
            Describe(directory, rootEntry, existed: true);
        }

        SafeFileHandle handle = directories.Open(directory);
        if (directory.FinalMode is { } mode)
        {
            Failure.ThrowIf(Libc.ChangeMode(handle, mode), "fchmod", directory.Path);
        }

        Metadata.SetTimes(handle, directory.Modified, directory.Path);
    }

    // A directory the layer does not describe looks as the layers below have it; where none does, as nobody describes it.
    private void Imply(TouchedDirectory directory, LowerFile? lower)
    {
        if (!directory.IsImplied)
        {
            return;
        }

        SafeFileHandle handle = directories.Open(directory);
        directory.FinalMode = null;
        if (lower is null)
        {
            if (!overlay)
            {
                Metadata.Forget(handle, directory.Path);
            }

            Metadata.Default(handle, directory.Path);
            directory.Modified = default;
            return;
        }

        int flags = OpenFlags.ReadOnly | OpenFlags.NoFollow;
        Failure.ThrowIf(Libc.OpenAt(lower.Parent, lower.Name, flags | OpenFlags.Directory, 0, out SafeFileHandle? opened), "open", directory.Path);
        using SafeFileHandle from = opened!;
        Metadata.Copy(from, lower.Status, handle, directory.Path);
        directory.Modified = new TarTime(lower.Status.ModifiedSeconds, (int)lower.Status.ModifiedNanoseconds);
    }

    private static PullException NoTarget(byte[] path, byte[] target) =>
        new(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to {TarText.Show(target)}, which is not there");
}
