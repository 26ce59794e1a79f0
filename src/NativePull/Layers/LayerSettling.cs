using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What remains to be done to a layer's directories when its last entry is read: what the layers below decide, then modes and times.</summary>
/// <param name="pool">Takes what there is to remember of names.</param>
/// <param name="takeEntry">Called before a whiteout is made that no entry asked for by name.</param>
/// <param name="takeContent">As <see cref="CopyUp"/> has it.</param>
/// <param name="takeLookups">As <see cref="LowerLayers"/> has it.</param>
internal sealed class LayerSettling(
    LayerDirectories directories, LowerLinks lowerLinks, EntryMetadata metadata, ExtractOptions options, SpillPool pool, Action takeEntry, Action<ReadOnlySpan<byte>, long> takeContent,
    Action<int> takeLookups)
{
    private readonly bool overlay = options.Format == LayerFormat.Overlay;
    private readonly CopyUp copyUp = new(directories, metadata, takeContent);

    /// <summary>The layer's word on the root, which waits for the end: until then nobody else may enter.</summary>
    internal TarEntry? RootEntry { get; set; }

    /// <summary>Gives a directory what its entry says; its mode and time are remembered until all is in it.</summary>
    internal void Describe(TouchedDirectory directory, TarEntry entry, bool existed)
    {
        SafeFileHandle handle = directories.Open(directory);
        if (existed && !(overlay && directory.IsImplied))
        {
            metadata.Forget(handle, entry.Name);
            directory.DefaultAcl = null;
        }

        directory.FinalMode = metadata.Apply(handle, entry, entry.Name);
        directory.Modified = entry.Modified;
        directory.IsImplied = false;
        directory.TakeDefaultAcl(handle);
    }

    /// <summary>What depends on the layers below, then the times of directories.</summary>
    /// <param name="lowersTopFirst">Overlay: every layer below, settled. Flat: none, they are in the root already.</param>
    /// <exception cref="PullException">Malformed: a hard link to nothing.</exception>
    internal void Settle(IReadOnlyList<RootDirectory> lowersTopFirst, CancellationToken token)
    {
        using LowerLayers lowers = new(lowersTopFirst, options.Whiteouts, takeLookups);
        lowerLinks.Settle(lowers, copyUp, token);

        DirectoryTable touched = directories.Touched;
        for (int i = NameTable.Root + 1; i < touched.Count; i++)
        {
            TouchedDirectory directory = touched.At(i);
            directory.IsGone |= directory.Parent!.IsGone;
            if (overlay && directories.Root.IsOpaque && directory.Parent == directories.Root && directory is { IsGone: false, Holds: true })
            {
                // overlayfs merges roots whatever their attributes say
                directories.Marks.MakeOpaque(directory);
            }
        }

        // what is below first: it may go, which changes the time of what is above, whose mode may then forbid it
        for (int i = touched.Count - 1; i >= 0; i--)
        {
            token.ThrowIfCancellationRequested();
            if (touched.At(i) is { IsGone: false } directory)
            {
                Finish(directory, lowers);
            }
        }
    }

    private void Finish(TouchedDirectory directory, LowerLayers lowers)
    {
        if (overlay && !MergeWithLower(directory, lowers))
        {
            directories.RemoveEmpty(directory);
            return;
        }

        if (!overlay && directory.IsNew)
        {
            Imply(directory, null);
        }

        if (directory.Parent is null && RootEntry is not null)
        {
            Describe(directory, RootEntry, existed: true);
        }

        SafeFileHandle handle = directories.Open(directory);
        if (directory.FinalMode is { } mode)
        {
            Failure.ThrowIf(Libc.ChangeMode(handle, mode), "fchmod", directory.Shown);
        }

        if (directory.DefaultAcl is { } acl)
        {
            Failure.ThrowIf(Libc.SetXattr(handle, EntryMetadata.DefaultAcl, acl), "setxattr", directory.Shown);
        }

        metadata.SetTimes(handle, directory.Modified, directory.Shown);
    }

    // False: overlayfs would merge it with nothing, and the layer has nothing in it.
    private bool MergeWithLower(TouchedDirectory directory, LowerLayers lowers)
    {
        if (directory.Parent is null && directory.IsOpaque)
        {
            HideRoots(directory, lowers);
        }

        if (directory is { IsImplied: false, HasWhiteouts: false, Holds: true })
        {
            return true;
        }

        bool isHidden = directory.IsNew || directory.Parent is { HidesLower: true };
        using LowerFile? lower = isHidden ? null : lowers.Find(directory.Path);
        bool merges = lower is { Status.IsDirectory: true };
        if (!merges)
        {
            directories.Marks.DropWhiteouts(directory);
        }

        if (!merges && !directory.Holds)
        {
            return false;
        }

        Imply(directory, merges ? lower : null);
        return true;
    }

    // Only what is to be seen: an opaque root over another has nothing left to hide.
    private void HideRoots(TouchedDirectory root, LowerLayers lowers)
    {
        NameMarks seen = new(pool);
        foreach (byte[] name in lowers.NamesInRoot(name => seen.Add(root, name)))
        {
            takeEntry();
            directories.Marks.MakeWhiteout(root, name);
        }
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
                metadata.Forget(handle, directory.Shown);
                directory.DefaultAcl = null;
            }

            metadata.Default(handle, directory.Shown);
            directory.Modified = default;
            return;
        }

        Failure.ThrowIf(LowerHandle.Open(lower.Parent, lower.Name, OpenFlags.Directory, out LowerHandle? opened), "open", directory.Shown);
        using LowerHandle from = opened!;
        metadata.Copy(from.Handle, lower.Status, handle, directory.Shown);
        directory.Modified = new TarTime(lower.Status.ModifiedSeconds, (int)lower.Status.ModifiedNanoseconds);
    }
}
