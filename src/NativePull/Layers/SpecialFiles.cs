using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>Symbolic links, fifos and devices of one layer, as the policies want them.</summary>
internal sealed class SpecialFiles(LayerDirectories directories, ExtractOptions options, EntryMetadata metadata, ExtractReport report)
{
    // Bytes; PATH_MAX less its NUL, symlink(2).
    private const int LongestLink = 4095;

    // The kernel's dev_t has 12 and 20 bits (makedev(3) has more).
    private const uint LargestMajor = 0xFFF;
    private const uint LargestMinor = 0xFFFFF;

    private readonly bool overlay = options.Format == LayerFormat.Overlay;

    /// <summary>Makes the entry in place of what is there, or leaves it out and counts it.</summary>
    /// <exception cref="PullException">As <see cref="CheckTarget"/>; Unsupported, Permission, Machine: the node is refused.</exception>
    internal void Make(TouchedDirectory parent, byte[] name, TarEntry entry, byte[] path)
    {
        if (entry.Kind is TarEntryKind.CharacterDevice or TarEntryKind.BlockDevice && !MayMake(entry, path))
        {
            LeaveOut(parent, name);
            return;
        }

        CheckTarget(entry, path);
        SafeFileHandle? standIn = null;
        bool inFile = options.Ownership == OwnershipPolicy.OverrideStat && entry.Kind != TarEntryKind.Symlink;
        int errno = inFile ? NewFile.Create(directories.Open(parent), name, out standIn) : NewFile.CreateSpecial(directories.Open(parent), name, entry);
        if (errno == Errno.Exists)
        {
            directories.Remove(parent, name);
            errno = inFile ? NewFile.Create(directories.Open(parent), name, out standIn) : NewFile.CreateSpecial(directories.Open(parent), name, entry);
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
            metadata.ApplyAt(directories.Open(parent), name, entry, path);
            return;
        }

        using (standIn)
        {
            metadata.Apply(standIn, entry, path);
            metadata.SetTimes(standIn, entry.Modified, path);
        }
    }

    /// <summary>Makes no device, nor another name of one that was left out, and counts it.</summary>
    internal void LeaveOut(TouchedDirectory parent, byte[] name)
    {
        directories.Remove(parent, name);
        if (overlay)
        {
            // what lower layers have there is replaced all the same
            directories.Marks.MakeWhiteout(parent, name);
        }

        directories.LeftOut.Add(parent, name);
        report.DevicesSkipped++;
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

    private bool MayMake(TarEntry device, byte[] path)
    {
        if (options.Devices == DevicePolicy.Fail)
        {
            throw new PullException(PullError.Unsupported, $"archive: {TarText.Show(path)} is a device, and --devices fail was given");
        }

        // a character device 0:0 in an overlay's layer is the kernel's whiteout, and there is no other way to write one
        bool isWhiteout = overlay && options.Ownership != OwnershipPolicy.OverrideStat && device is { Kind: TarEntryKind.CharacterDevice, DeviceMajor: 0, DeviceMinor: 0 };
        if (options.Devices != DevicePolicy.Make || isWhiteout)
        {
            return false;
        }

        if (options.Ownership != OwnershipPolicy.OverrideStat && device is { DeviceMajor: > LargestMajor } or { DeviceMinor: > LargestMinor })
        {
            throw new PullException(
                PullError.Unsupported,
                string.Create(CultureInfo.InvariantCulture, $"archive: {TarText.Show(path)} is device {device.DeviceMajor}:{device.DeviceMinor}, more than the {LargestMajor}:{LargestMinor} that Linux takes (--devices skip leaves it out)"));
        }

        return true;
    }
}
