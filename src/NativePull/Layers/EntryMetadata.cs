using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// Owner, attributes, mode and times of an entry under the policies, in the only order that works: chown clears setuid and file capabilities, so
/// both come after it; user.* can be set while the owner may still write; an ACL is bound to the mode, so it follows it; times come last.
/// What a policy lets go is counted in the report.
/// </summary>
internal sealed class EntryMetadata
{
    /// <summary>Linux's name for a directory's default ACL, ending in NUL.</summary>
    internal static ReadOnlySpan<byte> DefaultAcl => "system.posix_acl_default\0"u8;

    private static ReadOnlySpan<byte> AccessAcl => "system.posix_acl_access\0"u8;

    private const uint SetUser = 0x800; // S_ISUID, inode(7)
    private const uint SetGroup = 0x400; // S_ISGID

    private readonly ExtractOptions options;
    private readonly ExtractReport report;
    private readonly OwnerMap owners;
    private readonly EntryAttributes attributes;

    // What a file system does to times and modes is learned from the first that show it.
    private bool? keepsNanoseconds;
    private bool? keepsModes;
    private uint? firstMode;

    internal EntryMetadata(ExtractOptions options, ExtractReport report, Allowance allowance)
    {
        this.options = options;
        this.report = report;
        owners = new OwnerMap(options.UidMap, options.GidMap);
        attributes = new EntryAttributes(options, report, allowance, owners);
    }

    private bool Overridden => options.Ownership == OwnershipPolicy.OverrideStat;

    /// <summary>Of an open file or directory; times are left out.</summary>
    /// <returns>The mode a directory shall have in the end, where until then its owner needs more; null: it has it.</returns>
    internal uint? Apply(SafeFileHandle file, TarEntry entry, ReadOnlySpan<byte> path)
    {
        EntryPlace place = new(file, null);
        bool directory = entry.Kind == TarEntryKind.Directory;
        Owned owned = Own(place, entry, path);
        attributes.Set(place, entry, path, acls: false);
        uint mode;
        if (Overridden)
        {
            Override(file, OverrideStat.Of(entry), path);
            mode = (entry.Mode & Permission.All) | (directory ? Permission.Owner : Permission.OwnerFile);
        }
        else
        {
            mode = Harmless(entry.Mode, owned, directory);
        }

        uint working = directory ? mode | Permission.Owner : mode;
        SetMode(place, working, path);
        if (attributes.Set(place, entry, path, acls: true) && Widen(place, directory, path) is { } closed)
        {
            return closed;
        }

        return working == mode ? null : mode;
    }

    // An ACL brings its own idea of the owner's bits along. What the owner needs, the mode gives back, of which the ACL's entries are a part (acl(5)).
    private uint? Widen(EntryPlace place, bool directory, ReadOnlySpan<byte> path)
    {
        uint needed = directory ? Permission.Owner : Overridden ? Permission.OwnerFile : 0;
        uint mode = place.Status(path).Permissions;
        if ((mode & needed) == needed)
        {
            return null;
        }

        Failure.ThrowIf(place.ChangeMode(mode | needed), "chmod", path);
        return Overridden ? null : mode;
    }

    /// <summary>Of what cannot or must not be opened: links, devices, fifos. Times included.</summary>
    internal void ApplyAt(SafeFileHandle parent, byte[] name, TarEntry entry, ReadOnlySpan<byte> path)
    {
        EntryPlace place = new(parent, name);
        Owned owned = Own(place, entry, path);
        if (Overridden && (entry.Uid, entry.Gid) != (Libc.EffectiveUser, Libc.EffectiveGroup))
        {
            // user.* attributes are for files and directories alone (xattr(7))
            report.OwnersLost++;
        }

        attributes.Set(place, entry, path, acls: false);
        if (entry.Kind != TarEntryKind.Symlink)
        {
            SetMode(place, Harmless(entry.Mode, owned, directory: false), path);
            attributes.Set(place, entry, path, acls: true);
        }
        else
        {
            report.XattrsLost += entry.Xattrs.Count(xattr => AccessList.Is(xattr.Name));
        }

        Failure.ThrowIf(Libc.SetTimesAt(parent, name, entry.Modified.Seconds, entry.Modified.Nanoseconds), "utimensat", path);
        CountTime(place, entry.Modified, path);
    }

    /// <summary>The last step; directories' when all is in them.</summary>
    internal void SetTimes(SafeFileHandle file, TarTime time, ReadOnlySpan<byte> path)
    {
        Failure.ThrowIf(Libc.SetTimes(file, time.Seconds, time.Nanoseconds), "futimens", path);
        CountTime(new EntryPlace(file, null), time, path);
    }

    /// <summary>Takes away what a directory had before, so that a layer's word on it is the whole word, as in an overlay.</summary>
    internal void Forget(SafeFileHandle directory, ReadOnlySpan<byte> path)
    {
        foreach ((byte[] name, _) in Libc.GetXattrs(directory, TarText.Show(path)))
        {
            // an overlay's marks are not the image's; what the kernel keeps for itself (a security label, say) may not be removable
            if (options.Format == LayerFormat.Flat || !OverlayMarks.IsMark(name, options.Whiteouts))
            {
                _ = Libc.RemoveXattr(directory, name);
            }
        }
    }

    /// <summary>A new root is made in a directory of the user's, and has its ACL if there is one.</summary>
    internal static void ForgetAcl(SafeFileHandle directory)
    {
        _ = Libc.RemoveXattr(directory, AccessAcl);
        _ = Libc.RemoveXattr(directory, DefaultAcl);
    }

    /// <summary>Of a directory that no layer describes: 0755, the image's root's.</summary>
    internal void Default(SafeFileHandle directory, ReadOnlySpan<byte> path)
    {
        (uint uid, uint gid) = options.Ownership switch
        {
            OwnershipPolicy.Keep => (0u, 0u),
            OwnershipPolicy.Map => (owners.TryUser(0) ?? Libc.EffectiveUser, owners.TryGroup(0) ?? Libc.EffectiveGroup),
            _ => (Libc.EffectiveUser, Libc.EffectiveGroup),
        };

        // the image asks for nothing here, so nothing of it is lost where this is refused
        EntryPlace place = new(directory, null);
        if (place.ChangeOwner(uid, gid) != 0)
        {
            _ = OwnPart(place, uid, gid);
        }

        if (Overridden)
        {
            Override(directory, OverrideStat.OfDirectory(0, 0, Permission.UsualDirectory), path);
        }

        SetMode(place, Permission.UsualDirectory, path);
    }

    /// <summary>What a file or directory of the layers below has, as it is there: for one that a layer implies or links to.</summary>
    internal void Copy(SafeFileHandle from, FileStatus status, SafeFileHandle to, ReadOnlySpan<byte> path)
    {
        uint mode = CopyOwner(new EntryPlace(to, null), status, path);
        foreach ((byte[] name, byte[] value) in Libc.GetXattrs(from, TarText.Show(path)))
        {
            if (!OverlayMarks.IsMark(name, options.Whiteouts))
            {
                attributes.Copy(to, name, value, path);
            }
        }

        SetMode(new EntryPlace(to, null), mode, path);
    }

    /// <summary>The same for a link, device or fifo; times included.</summary>
    internal void CopyAt(SafeFileHandle parent, byte[] name, FileStatus status, ReadOnlySpan<byte> path)
    {
        EntryPlace place = new(parent, name);
        uint mode = CopyOwner(place, status, path);
        if (status.Type != FileType.Symlink)
        {
            SetMode(place, mode, path);
        }

        Failure.ThrowIf(Libc.SetTimesAt(parent, name, status.ModifiedSeconds, status.ModifiedNanoseconds), "utimensat", path);
    }

    private uint CopyOwner(EntryPlace place, FileStatus status, ReadOnlySpan<byte> path)
    {
        if (!Refused(place.ChangeOwner(status.Uid, status.Gid), path))
        {
            return status.Permissions;
        }

        report.OwnersLost++;
        return Harmless(status.Permissions, OwnPart(place, status.Uid, status.Gid), status.IsDirectory);
    }

    // Who the file belongs to afterwards: whether user and group are those the archive names.
    private Owned Own(EntryPlace place, TarEntry entry, ReadOnlySpan<byte> path)
    {
        (uint uid, uint gid) = (entry.Uid, entry.Gid);
        if (options.Ownership is OwnershipPolicy.Squash or OwnershipPolicy.OverrideStat)
        {
            // said all the same: a directory with the setgid bit above gives its group to what is made in it
            _ = place.ChangeOwner(Libc.EffectiveUser, Libc.EffectiveGroup);
            Owned own = new(uid == Libc.EffectiveUser, gid == Libc.EffectiveGroup);
            report.OwnersLost += own.Both || Overridden ? 0 : 1;
            return own;
        }

        if (options.Ownership == OwnershipPolicy.Map)
        {
            uid = owners.User(uid, "belongs to", path);
            gid = owners.Group(gid, "belongs to", path);
        }

        if (!Refused(place.ChangeOwner(uid, gid), path))
        {
            return new Owned(true, true);
        }

        report.OwnersLost++;
        return OwnPart(place, uid, gid);
    }

    // Of two that may not both be set one may. The other becomes this process's: a directory with the setgid bit gives its group to what is made in it, and
    // what is there already may have any owner.
    private static Owned OwnPart(EntryPlace place, uint uid, uint gid)
    {
        const uint unchanged = uint.MaxValue; // chown(2)
        Owned owned = new(place.ChangeOwner(uid, unchanged) == 0, place.ChangeOwner(unchanged, gid) == 0);
        _ = owned.User ? 0 : place.ChangeOwner(Libc.EffectiveUser, unchanged);
        _ = owned.Group ? 0 : place.ChangeOwner(unchanged, Libc.EffectiveGroup);
        return owned;
    }

    // True: this process cannot set that owner. Where it could set any, the refusal is the file system's, and an error.
    private bool Refused(int errno, ReadOnlySpan<byte> path)
    {
        // a number unknown to the user namespace, or to a mount with mapped owners
        bool unmapped = errno is Errno.Invalid or Errno.Overflow;
        if ((unmapped || errno == Errno.PermissionDenied) && !options.Privileges.AnyOwner)
        {
            return true;
        }

        if (unmapped || Failure.IsRefusal(errno))
        {
            throw Failure.CannotHold("this owner (--ownership squash sets none)", "chown", path, errno);
        }

        Failure.ThrowIf(errno, "chown", path);
        return false;
    }

    // A file that runs as its owner must not run as somebody the image never meant.
    private uint Harmless(uint mode, Owned owned, bool directory)
    {
        uint harmless = mode & ~(owned.User ? 0 : SetUser) & ~(owned.Group || directory ? 0 : SetGroup);
        report.ModesLost += harmless == mode ? 0 : 1;
        return harmless;
    }

    private void SetMode(EntryPlace place, uint mode, ReadOnlySpan<byte> path)
    {
        int errno = place.ChangeMode(mode);
        if (!Failure.IsRefusal(errno))
        {
            Failure.ThrowIf(errno, "chmod", path);
            // without CAP_FSETID the bit of a group that this process is not in is left out in silence (chmod(2)), so it is looked at each time
            if (keepsModes == true && (mode & SetGroup) == 0)
            {
                return;
            }

            // some file systems without modes take any and keep none; two different ones kept are proof enough
            uint kept = place.Status(path).Permissions;
            if (kept == mode)
            {
                keepsModes ??= firstMode is { } first && first != mode ? true : null;
                firstMode = mode;
                return;
            }

            if ((kept | SetGroup) != mode)
            {
                keepsModes = false;
            }
        }

        report.ModesLost++;
    }

    // Not subject to --xattrs: without it the policy would be another.
    private static void Override(SafeFileHandle file, byte[] value, ReadOnlySpan<byte> path)
    {
        int errno = Libc.SetXattr(file, OverrideStat.Name, value);
        if (errno != 0)
        {
            throw Failure.CannotHold("the attribute user.containers.override_stat", "setxattr", path, errno);
        }
    }

    // A file system may cut fractions, hold whole even seconds only (vfat), or no time before 1901 or after 2038; it says so to nobody.
    private void CountTime(EntryPlace place, TarTime time, ReadOnlySpan<byte> path)
    {
        bool extreme = time.Seconds is < 0 or > int.MaxValue;
        bool unknown = keepsNanoseconds is null && (time.Nanoseconds != 0 || time.Seconds % 2 != 0);
        if (!extreme && !unknown && keepsNanoseconds != false)
        {
            return;
        }

        FileStatus status = place.Status(path);
        bool exact = status.ModifiedSeconds == time.Seconds && status.ModifiedNanoseconds == time.Nanoseconds;
        if (!extreme && (!exact || time.Nanoseconds != 0))
        {
            keepsNanoseconds = exact;
        }

        report.TimesLost += exact ? 0 : 1;
    }

    private readonly record struct Owned(bool User, bool Group)
    {
        internal bool Both => User && Group;
    }

}
