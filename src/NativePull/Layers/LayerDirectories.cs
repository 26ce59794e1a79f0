using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// The directories of one layer in progress: finds or makes the parent of each entry, and remembers which directories were touched and which names
/// this layer wrote, for removal speaks of lower layers only.
/// <para>
/// A layer's names are looked up as the layer alone would have them: a link that this layer made is followed (as text, inside the root), a link that
/// was there before is no directory, and so is replaced by one where an entry lies below it. That is what a stack of per-layer directories shows.
/// </para>
/// </summary>
internal sealed class LayerDirectories : IDisposable
{
    private readonly RootDirectory root;
    private readonly DirectoryHandles handles;
    private readonly bool overlay;
    private readonly int depthLimit;
    private readonly Action takeEntry;
    private readonly Action<int> takeSteps;
    private readonly DirectoryTable table;
    private readonly NameMarks written;
    private TouchedDirectory? last;
    private byte[] lastPath = [];

    /// <param name="pool">Takes what there is to remember of each directory and name.</param>
    /// <param name="takeEntry">Called before a directory is made that no entry has named yet: one long name can imply thousands.</param>
    /// <param name="takeSteps">As <see cref="NameWalk"/> has it.</param>
    internal LayerDirectories(RootDirectory root, ExtractOptions options, SpillPool pool, Action takeEntry, Action<int> takeSteps)
    {
        this.takeEntry = takeEntry;
        this.takeSteps = takeSteps;
        this.root = root;
        handles = new DirectoryHandles(root);
        Marks = new LayerMarks(handles, options);
        overlay = options.Format == LayerFormat.Overlay;
        depthLimit = options.Limits.Tar.MaximumDepth;
        table = new DirectoryTable(pool);
        written = new NameMarks(pool);
        LeftOut = new NameMarks(pool);
        Root = table.At(NameTable.Root);
        Root.Holds = true;
        Root.IsImplied = true;
    }

    /// <summary>What an absent directory on the way to a name means.</summary>
    private enum Absent
    {
        /// <summary>The name is not there.</summary>
        Ends,

        /// <summary>It is made, unless something else is in its place.</summary>
        Made,

        /// <summary>It is made, in place of whatever is there.</summary>
        Forced,
    }

    internal TouchedDirectory Root { get; }

    /// <summary>What the layer says of those below it.</summary>
    internal LayerMarks Marks { get; }

    /// <summary>The file system takes names for one that differ in case alone: <see cref="FoldedNames"/>.</summary>
    internal bool FoldsCase { get; set; }

    /// <summary>The root and all others that were touched; each comes after its parent.</summary>
    internal DirectoryTable Touched => table;

    /// <summary>Names whose content is a lower layer's and is filled in at the end (overlay).</summary>
    internal Dictionary<NameKey, LowerLink> Placeholders { get; } = new(new NameKeyComparer());

    /// <summary>Names of this layer that are hard links to a lower layer's symbolic link (flat): not followed, for the layer alone does not know what they are.</summary>
    internal HashSet<NameKey> LowerSymlinks { get; } = new(new NameKeyComparer());

    /// <summary>Names of this layer that are not there because what they are was left out; what links to them is left out, too.</summary>
    internal NameMarks LeftOut { get; }

    /// <summary>An entry's parent, made with what is missing above it.</summary>
    internal TouchedDirectory Get(ReadOnlySpan<byte> path)
    {
        if (last is null || !path.SequenceEqual(lastPath))
        {
            TouchedDirectory found = Walk(path, Absent.Forced, follow: true, out _, out bool followed)!;
            // where links lead may change with any link that is made on the way
            last = followed ? null : found;
            lastPath = path.ToArray();
            for (TouchedDirectory? at = found; at is { Holds: false }; at = at.Parent)
            {
                at.Holds = true;
            }

            return found;
        }

        return last;
    }

    /// <summary>
    /// A whiteout's directory; null: what is there, or is not there, has nothing to remove. In a flat root nothing is made for it. No link is followed:
    /// one that this layer made is not of the layers below, whatever comes first.
    /// </summary>
    internal TouchedDirectory? GetForRemoval(ReadOnlySpan<byte> path)
    {
        TouchedDirectory? found = Walk(path, overlay ? Absent.Made : Absent.Ends, follow: false, out byte[] missing);
        return missing.Length == 0 ? found : null;
    }

    /// <summary>The directory at a path, or the nearest above it and what is missing below that one; null: something else is in the way.</summary>
    internal TouchedDirectory? Find(ReadOnlySpan<byte> path, out byte[] missing) => Walk(path, Absent.Ends, follow: true, out missing);

    /// <summary>A directory for the copy of a lower file, made where absent; null: something of this layer is in the way, or hides it.</summary>
    internal TouchedDirectory? GetForCopy(ReadOnlySpan<byte> path) =>
        Walk(path, Absent.Ends, follow: false, out _) is { } above && !above.HidesLower ? Walk(path, Absent.Made, follow: false, out _) : null;

    /// <summary>A name in a directory, if this layer touched it and it is a directory.</summary>
    internal TouchedDirectory? Known(TouchedDirectory parent, byte[] name) => table.Find(parent, name);

    /// <inheritdoc cref="FoldedNames.Check"/>
    internal void CheckCase(TouchedDirectory parent, byte[] name)
    {
        if (FoldsCase)
        {
            FoldedNames.Check(Open(parent), name, parent.ShownOf(name));
        }
    }

    /// <inheritdoc cref="DirectoryHandles.Open"/>
    internal SafeFileHandle Open(TouchedDirectory directory) => handles.Open(directory);

    /// <summary>Makes the directory, in place of anything that is no directory; gives back one that is there.</summary>
    internal TouchedDirectory MakeIn(TouchedDirectory parent, byte[] name, out bool existed)
    {
        existed = true;
        if (Known(parent, name) is { } ours)
        {
            return ours;
        }

        int errno = Libc.MakeDirectory(Open(parent), name, Permission.Owner);
        bool replaced = false;
        if (errno == Errno.Exists)
        {
            CheckCase(parent, name);
            if (OpenChild(parent, name, out SafeFileHandle? there, out uint? mode) == 0)
            {
                return AddExisting(parent, name, there!, mode);
            }

            replaced = true;
            Remove(parent, name);
            errno = Libc.MakeDirectory(Open(parent), name, Permission.Owner);
        }

        Failure.ThrowIf(errno, "mkdir", parent.ShownOf(name));
        Failure.ThrowIf(OpenChild(parent, name, out SafeFileHandle? made, out _), "open", parent.ShownOf(name));
        existed = false;
        TouchedDirectory directory = Add(parent, name, made!);
        directory.IsNew = replaced || !overlay;
        if (replaced && overlay)
        {
            // what the layer first had here, a whiteout or a file, hides all that lower layers have
            Marks.MakeOpaque(directory);
        }

        return directory;
    }

    /// <summary>Removes whatever a name is, directories with all they hold.</summary>
    internal void Remove(TouchedDirectory parent, byte[] name)
    {
        CheckCase(parent, name);
        SafeFileHandle handle = Open(parent);
        NameKey key = new(parent, name);
        Placeholders.Remove(key);
        LowerSymlinks.Remove(key);
        // the way that was looked up last may have led through it, if it is a link
        last = null;
        int errno = Libc.Unlink(handle, name);
        if (errno is Errno.IsDirectory or Errno.PermissionDenied)
        {
            DirectoryTree.Remove(handle, name);
            if (Known(parent, name) is { } gone)
            {
                gone.IsGone = true;
                table.Remove(gone);
            }
        }
        else if (errno != Errno.NoEntry)
        {
            Failure.ThrowIf(errno, "unlink", parent.ShownOf(name));
        }
    }

    /// <summary>Removes a directory of this layer that turned out to mean nothing (overlay).</summary>
    internal void RemoveEmpty(TouchedDirectory directory)
    {
        Failure.ThrowIf(Libc.RemoveDirectory(Open(directory.Parent!), directory.Name), "rmdir", directory.Shown);
        directory.IsGone = true;
    }

    /// <summary>Flat: a later whiteout must leave the name alone. An overlay's layer holds nothing but what it wrote.</summary>
    internal void MarkWritten(TouchedDirectory parent, ReadOnlySpan<byte> name)
    {
        if (!overlay)
        {
            written.Add(parent, name);
        }
    }

    internal bool IsWritten(TouchedDirectory parent, ReadOnlySpan<byte> name) => overlay || written.Contains(parent, name);

    /// <inheritdoc cref="DirectoryHandles.Close"/>
    internal void Close() => handles.Close();

    public void Dispose() => handles.Dispose();

    // Null: something else is in the way.
    private TouchedDirectory? Walk(ReadOnlySpan<byte> path, Absent absent, bool follow, out byte[] missing) => Walk(path, absent, follow, out missing, out _);

    private TouchedDirectory? Walk(ReadOnlySpan<byte> path, Absent absent, bool follow, out byte[] missing, out bool followed)
    {
        followed = false;
        TouchedDirectory at = Root;
        NameWalk walk = new(path, takeSteps);
        while (walk.MoveNext())
        {
            if (walk.IsUp)
            {
                at = at.Parent ?? at;
            }
            else if (Child(at, EntryPath.Terminated(walk.Component), out bool isBlocked, out byte[]? link) is { } child)
            {
                at = child;
            }
            else if (link is not null && follow)
            {
                at = walk.Follow(link) ? Root : at;
                followed = true;
            }
            else
            {
                walk.Miss(isBlocked);
            }
        }

        missing = [];
        if (walk.Missing.Count > 0 && walk.IsBlocked && absent != Absent.Forced)
        {
            return null;
        }

        if (absent == Absent.Ends)
        {
            missing = Joined(walk.Missing);
            return at;
        }

        foreach (byte[] name in walk.Missing)
        {
            takeEntry();
            at = MakeIn(at, EntryPath.Terminated(name), out _);
        }

        return at;
    }

    // Null: no directory. What there is instead blocks the way; a link of this layer may be followed.
    private TouchedDirectory? Child(TouchedDirectory parent, byte[] name, out bool isBlocked, out byte[]? link)
    {
        isBlocked = false;
        link = null;
        if (Known(parent, name) is { } ours)
        {
            return ours;
        }

        CheckCase(parent, name);
        int errno = OpenChild(parent, name, out SafeFileHandle? there, out uint? mode);
        switch (errno)
        {
            case 0:
                return AddExisting(parent, name, there!, mode);
            case Errno.NoEntry:
                return null;
            case Errno.NotDirectory or Errno.TooManyLinks:
                isBlocked = true;
                link = IsWritten(parent, name) && !LowerSymlinks.Contains(new NameKey(parent, name)) ? Libc.ReadLink(Open(parent), name) : null;
                return null;
            default:
                Failure.ThrowIf(errno, "open", parent.ShownOf(name));
                return null;
        }
    }

    private static byte[] Joined(IReadOnlyList<byte[]> components)
    {
        using MemoryStream path = new();
        foreach (byte[] component in components)
        {
            path.Write(path.Length == 0 ? default : "/"u8);
            path.Write(component);
        }

        return path.ToArray();
    }

    // mode: what it was, where it had to be widened to be opened
    private int OpenChild(TouchedDirectory parent, byte[] name, out SafeFileHandle? opened, out uint? mode)
    {
        mode = null;
        int errno = root.OpenBelow(Open(parent), name.AsSpan(0, name.Length - 1), out opened);
        if (errno == Errno.AccessDenied && Libc.TryStatusAt(Open(parent), name, out FileStatus status) == 0 && status.IsDirectory)
        {
            // ours, but without the owner's own rights
            mode = status.Permissions;
            errno = Libc.ChangeModeAt(Open(parent), name, status.Permissions | Permission.Owner);
            errno = errno == 0 ? root.OpenBelow(Open(parent), name.AsSpan(0, name.Length - 1), out opened) : Errno.AccessDenied;
        }

        return errno;
    }

    private TouchedDirectory AddExisting(TouchedDirectory parent, byte[] name, SafeFileHandle handle, uint? mode)
    {
        FileStatus status = Libc.Status(handle, TarText.Show(name));
        TouchedDirectory directory = Add(parent, name, handle);
        directory.FinalMode = mode;
        // it was there before: it keeps its time, whatever is put into it
        directory.Modified = overlay ? default : new TarTime(status.ModifiedSeconds, (int)status.ModifiedNanoseconds);
        directory.TakeDefaultAcl(handle);
        if ((status.Permissions & Permission.Owner) != Permission.Owner && Libc.ChangeMode(handle, status.Permissions | Permission.Owner) == 0)
        {
            directory.FinalMode = status.Permissions;
        }

        return directory;
    }

    private TouchedDirectory Add(TouchedDirectory parent, byte[] name, SafeFileHandle handle)
    {
        if (parent.Depth >= depthLimit)
        {
            // links of the layer may lead deeper than its names do
            handle.Dispose();
            throw new PullException(
                PullError.LimitPassed,
                string.Create(CultureInfo.InvariantCulture, $"archive: {TarText.Show(parent.PathOf(name))} is {parent.Depth + 1} levels deep, more than {depthLimit}"));
        }

        TouchedDirectory directory = table.Add(parent, name);
        directory.IsImplied = true;
        handles.Keep(directory, handle);
        return directory;
    }
}
