using NativePull.Native;

namespace NativePull.Layers;

/// <summary>Hard links of one layer: to names that are there, and (overlay) to names of the layers below, which <see cref="LowerLinks"/> fills in.</summary>
/// <param name="leaveOut">Leaves a name out and counts it.</param>
/// <param name="hold">Told how many bytes of memory are kept.</param>
internal sealed class HardLinks(
    LayerDirectories directories, LowerLinks lowerLinks, bool overlay, Action<TouchedDirectory, byte[]> leaveOut, Action<long> hold)
{
    // Bytes of memory; a name that is kept, and its length.
    private const int Overhead = 150;

    /// <summary>Makes a name, in place of what is there, another name of the entry's target.</summary>
    /// <exception cref="PullException">Malformed: the target is not there, or is a directory.</exception>
    internal void Make(TouchedDirectory parent, byte[] name, TarEntry entry, byte[] path)
    {
        EntryPath target = TargetOf(entry, path);
        byte[] targetName = EntryPath.Terminated(target.Base);
        TouchedDirectory? targetParent = directories.Find(target.Parent, out byte[] missing);
        if (targetParent is not null && missing.Length == 0)
        {
            // another file, where the file system takes its name for this one
            directories.CheckCase(targetParent, targetName);
        }

        FileStatus status = default;
        int errno = Errno.NoEntry;
        if (targetParent is not null && missing.Length == 0 && directories.Known(targetParent, targetName) is not { Holds: false })
        {
            errno = Libc.TryStatusAt(directories.Open(targetParent), targetName, out status);
        }

        bool found = errno == 0;
        if (errno is not (Errno.NoEntry or Errno.NameTooLong))
        {
            // what cannot be looked at may be there: the machine's fault, not the archive's
            Failure.ThrowIf(errno, "statx", target.Full);
        }

        if (found && status.IsDirectory)
        {
            throw ToDirectory(path, target.Full);
        }

        bool isWhiteout = found && directories.Marks.IsWhiteout(targetParent!, targetName, status);
        if ((!found || isWhiteout) && targetParent is not null && missing.Length == 0 && directories.LeftOut.Contains(targetParent, targetName))
        {
            // another name of a device that is not made here; the archive is as it should be
            leaveOut(parent, name);
            return;
        }

        if (targetParent is null || (found ? isWhiteout : !overlay || targetParent.HidesLower))
        {
            throw NoTarget(path, target.Full);
        }

        if (!found)
        {
            LinkToLower(parent, name, targetParent, missing.Length == 0 ? targetName : [.. missing, (byte)'/', .. targetName], path, target);
        }
        else if (overlay && lowerLinks.Find(targetParent, targetName) is { } link)
        {
            if (lowerLinks.Find(parent, name) != link)
            {
                lowerLinks.Add(link, parent, name);
            }
        }
        else
        {
            bool isLower = status.Type == FileType.Symlink
                && (!directories.IsWritten(targetParent, targetName) || directories.LowerSymlinks.Contains(new NameKey(targetParent, targetName)));
            Link(parent, name, targetParent, targetName, status, path);
            if (isLower && directories.LowerSymlinks.Add(new NameKey(parent, name)))
            {
                hold(Overhead + name.Length);
            }
        }
    }

    private void LinkToLower(TouchedDirectory parent, byte[] name, TouchedDirectory targetParent, byte[] targetName, byte[] path, EntryPath target)
    {
        // by the path without links of this layer, as the layers below have it
        byte[] below = targetParent.PathOf(targetName);
        if (below.AsSpan().StartsWith((byte[])[.. parent.PathOf(name), (byte)'/']))
        {
            // it is below the name that the link replaces
            throw NoTarget(path, target.Full);
        }

        lowerLinks.Add(lowerLinks.To(below), parent, name);
    }

    private void Link(TouchedDirectory parent, byte[] name, TouchedDirectory targetParent, byte[] targetName, FileStatus target, byte[] path)
    {
        int errno = Libc.MakeLink(directories.Open(targetParent), targetName, directories.Open(parent), name);
        if (errno == Errno.Exists)
        {
            directories.CheckCase(parent, name);
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

    /// <summary>What a hard link names.</summary>
    /// <exception cref="PullException">Malformed: the root; UnsafeEntry: a NUL inside.</exception>
    internal static EntryPath TargetOf(TarEntry entry, byte[] path)
    {
        EntryPath target = EntryPath.Of(entry.LinkName);
        return target.IsRoot ? throw new PullException(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to the root") : target;
    }

    /// <summary>What a hard link to a directory is told as.</summary>
    internal static PullException ToDirectory(byte[] path, byte[] target) =>
        new(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to the directory {TarText.Show(target)}");

    /// <summary>What a link to nothing is told as.</summary>
    internal static PullException NoTarget(byte[] path, byte[] target) =>
        new(PullError.Malformed, $"archive: {TarText.Show(path)} is a hard link to {TarText.Show(target)}, which is not there");
}
