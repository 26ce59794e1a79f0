using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// What overlayfs does before it changes a lower file: the file comes into the upper layer whole, so that all its names there can be one inode.
/// </summary>
/// <param name="takeContent">Told the name and how many of its bytes are about to be written: an entry of a few bytes may stand for any number.</param>
internal sealed class CopyUp(LayerDirectories directories, EntryMetadata metadata, Action<ReadOnlySpan<byte>, long> takeContent)
{
    // Bytes.
    private const int BufferSize = 128 * 1024;

    /// <summary>Makes a name, which must be free, from what the lower layers have.</summary>
    internal void Make(LowerFile lower, TouchedDirectory parent, byte[] name)
    {
        FileStatus status = lower.Status;
        byte[] path = parent.ShownOf(name);
        if (status.Type != FileType.Regular)
        {
            TarEntry copied = EntryOf(lower, path);
            Failure.ThrowIf(NewFile.CreateSpecial(directories.Open(parent), name, copied), copied.Kind == TarEntryKind.Symlink ? "symlink" : "mknod", path);
            metadata.CopyAt(directories.Open(parent), name, status, path);
            return;
        }

        Failure.ThrowIf(LowerHandle.Open(lower.Parent, lower.Name, OpenFlags.NonBlocking, out LowerHandle? source), "open", path);
        using LowerHandle from = source!;
        Failure.ThrowIf(NewFile.Create(directories.Open(parent), name, out SafeFileHandle? made), "open", path);
        using SafeFileHandle to = made!;
        CopyContent(from.Handle, to, path);
        metadata.Copy(from.Handle, status, to, path);
        metadata.SetTimes(to, new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds), path);
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
    private void CopyContent(SafeFileHandle from, SafeFileHandle to, byte[] path)
    {
        byte[] buffer = new byte[BufferSize];
        string shown = TarText.Show(path);
        long offset = 0;
        while (Libc.TryNextData(from, shown, offset, out long start, out long end))
        {
            takeContent(path, end - start);
            int read = 1;
            for (offset = start; offset < end && read > 0; offset += read)
            {
                read = RandomAccess.Read(from, buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - offset)), offset);
                Failure.ThrowIf(Libc.WriteAll(to, buffer.AsSpan(0, read), offset), "write", path);
            }
        }

        Failure.ThrowIf(Libc.SetLength(to, RandomAccess.GetLength(from)), "ftruncate", path);
    }
}
