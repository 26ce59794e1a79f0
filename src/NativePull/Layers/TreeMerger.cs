namespace NativePull.Layers;

/// <summary>
/// Applies one layer's entries to a <see cref="MergedTree"/> by the very rules by which <see cref="LayerApplier"/> makes a flat tree of files; a test
/// holds the two together. Only headers are looked at.
/// </summary>
/// <param name="layer">Counts layers from the bottom: removal speaks of lower ones only.</param>
/// <param name="begin">The position of the layer's first entry.</param>
/// <param name="takeEntry">Called before a directory is added that no entry has named yet.</param>
/// <param name="takeSteps">As <see cref="NameWalk"/> has it.</param>
internal sealed class TreeMerger(MergedTree tree, short layer, int begin, Action takeEntry, Action<int> takeSteps)
{
    /// <param name="position">Counts entries over all layers.</param>
    /// <exception cref="PullException">Malformed, UnsafeEntry, LimitPassed.</exception>
    internal void Add(TarEntry entry, int position)
    {
        LayerEntry read = LayerEntry.Of(entry);
        switch (read.Rule)
        {
            case LayerRule.DescribeRoot:
                tree.SetLook(MergedTree.Root, EntryLook.Of(entry, withXattrs: true));
                break;
            case LayerRule.HideLower when GetForRemoval(read.Path.Parent) is var hidden and not MergedTree.None:
                HideLower(hidden);
                break;
            case LayerRule.RemoveLower when GetForRemoval(read.Path.Parent) is var directory and not MergedTree.None:
                RemoveLower(directory, read.Removed);
                break;
            case LayerRule.Make:
                Make(entry, read.Path, position);
                break;
        }
    }

    private void Make(TarEntry entry, EntryPath path, int position)
    {
        int parent = Get(path.Parent, position);
        int made = entry.Kind switch
        {
            TarEntryKind.Directory => Describe(MakeDirectory(parent, path.Base, position), entry),
            TarEntryKind.HardLink => MakeHardLink(parent, path, entry, position),
            _ => MakeLeaf(parent, path.Base, position, AddInode(entry, path.Full, position)),
        };
        tree[made] = tree[made] with { WrittenBy = layer };
    }

    private int AddInode(TarEntry entry, byte[] path, int position)
    {
        SpecialFiles.CheckTarget(entry, path);
        return tree.AddInode(position, entry.LinkName, entry.Kind == TarEntryKind.Symlink);
    }

    // An entry's parent, made with what is missing above it; it holds something of this layer now, and so does all above it.
    private int Get(ReadOnlySpan<byte> path, int position)
    {
        int found = Walk(path, position, make: true);
        for (int at = found; at != MergedTree.None && !Holds(at); at = tree.Parent(at))
        {
            tree[at] = tree[at] with { TouchedBy = layer };
        }

        return found;
    }

    // A whiteout's directory. No link is followed: one that this layer made is not of the layers below.
    private int GetForRemoval(ReadOnlySpan<byte> path)
    {
        int at = MergedTree.Root;
        foreach (Range range in path.Split((byte)'/'))
        {
            if (path[range].Length > 0 && (at = tree.Find(at, path[range])) is var next && (next == MergedTree.None || !tree.IsDirectory(next)))
            {
                return MergedTree.None;
            }
        }

        return at;
    }

    // Names are looked up as the layer alone would have them: a link that it made is followed, as text; one of a lower layer is no directory.
    private int Walk(ReadOnlySpan<byte> path, int position, bool make)
    {
        int at = MergedTree.Root;
        NameWalk walk = new(path, takeSteps);
        while (walk.MoveNext())
        {
            if (walk.IsUp)
            {
                at = at == MergedTree.Root ? at : tree.Parent(at);
                continue;
            }

            int child = tree.Find(at, walk.Component);
            if (child != MergedTree.None && tree.IsDirectory(child))
            {
                at = child;
            }
            else if (child != MergedTree.None && tree.TargetOf(child, begin) is var link && link.Length > 0)
            {
                at = walk.Follow(link) ? MergedTree.Root : at;
            }
            else
            {
                walk.Miss(isBlocked: child != MergedTree.None);
            }
        }

        if (!make && walk.Missing.Count > 0)
        {
            return MergedTree.None;
        }

        foreach (byte[] missing in walk.Missing)
        {
            takeEntry();
            at = MakeDirectory(at, missing, position);
        }

        return at;
    }

    // In place of anything that is no directory.
    private int MakeDirectory(int parent, ReadOnlySpan<byte> name, int position)
    {
        int there = tree.Find(parent, name);
        if (there != MergedTree.None && !tree.IsDirectory(there))
        {
            tree.Remove(there);
            there = MergedTree.None;
        }

        return there != MergedTree.None ? there : tree.AddDirectory(parent, name, position);
    }

    private int Describe(int directory, TarEntry entry)
    {
        tree.SetLook(directory, EntryLook.Of(entry, withXattrs: true));
        tree[directory] = tree[directory] with { TouchedBy = layer };
        return directory;
    }

    private int MakeLeaf(int parent, ReadOnlySpan<byte> name, int position, int inode)
    {
        int there = tree.Find(parent, name);
        if (there != MergedTree.None)
        {
            tree.Remove(there);
        }

        return tree.AddLeaf(parent, name, position, inode);
    }

    private int MakeHardLink(int parent, EntryPath path, TarEntry entry, int position)
    {
        EntryPath target = HardLinks.TargetOf(entry, path.Full);
        int directory = Walk(target.Parent, position, make: false);
        int found = directory == MergedTree.None ? MergedTree.None : tree.Find(directory, target.Base);
        if (found != MergedTree.None && tree.IsDirectory(found))
        {
            throw HardLinks.ToDirectory(path.Full, target.Full);
        }

        if (found == MergedTree.None)
        {
            throw HardLinks.NoTarget(path.Full, target.Full);
        }

        int inode = tree[found].Inode;
        int there = tree.Find(parent, path.Base);
        if (there != MergedTree.None && !tree.IsDirectory(there) && tree[there].Inode == inode)
        {
            return there;
        }

        int made = MakeLeaf(parent, path.Base, position, inode);
        // what stood there may have held the target
        return tree.IsGone(found) ? throw HardLinks.NoTarget(path.Full, target.Full) : made;
    }

    // ".wh.NAME": what lower layers have under the name goes; what this layer has put there stays.
    private void RemoveLower(int parent, ReadOnlySpan<byte> name)
    {
        int there = tree.Find(parent, name);
        if (there == MergedTree.None)
        {
            return;
        }

        if (Holds(there))
        {
            Renew(there);
            HideLower(there);
        }
        else if (tree[there].WrittenBy != layer)
        {
            tree.Remove(there);
        }
    }

    // The opaque marker: everything lower layers have in the directory is hidden, at any depth.
    private void HideLower(int directory)
    {
        if (HasNoLower(directory))
        {
            return;
        }

        tree.SetHiddenBy(directory, layer);
        tree.DropGone(directory);
        int at = tree.NextBelow(directory, directory);
        while (at != MergedTree.None)
        {
            bool enter = false;
            if (!tree.IsGone(at) && Holds(at))
            {
                Renew(at);
                enter = !HasNoLower(at);
                tree.SetHiddenBy(at, layer);
                if (enter)
                {
                    tree.DropGone(at);
                }
            }
            else if (!tree.IsGone(at) && tree[at].WrittenBy != layer)
            {
                tree.Remove(at);
            }

            at = tree.NextBelow(directory, at, enter);
        }
    }

    // Nothing of a lower layer is in it, nor will be: the layer made it, or has hidden all that was there. Markers cost an archive nothing, and each would
    // go through all that the layer has there.
    private bool HasNoLower(int directory) => tree[directory].Position >= begin || tree.HiddenBy(directory) == layer;

    // What lower layers said of a directory does not count any more; what this layer says does.
    private void Renew(int directory)
    {
        if (tree[directory].WrittenBy != layer)
        {
            tree.SetLook(directory, EntryLook.Default);
        }
    }

    // Whether it or something below it is an entry of this layer.
    private bool Holds(int name) => tree.IsDirectory(name) && tree[name].TouchedBy == layer;
}
