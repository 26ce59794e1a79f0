using System.Buffers.Binary;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What a directory of the merged view looks like, or what a further name of a file repeats of it.</summary>
internal readonly record struct EntryLook(uint Mode, uint Uid, uint Gid, TarTime Modified, IReadOnlyList<TarXattr> Xattrs)
{
    /// <summary>One that no layer describes, as the applier makes it.</summary>
    internal static EntryLook Default { get; } = new(Permission.UsualDirectory, 0, 0, default, []);

    internal static EntryLook Of(TarEntry entry, bool withXattrs) =>
        new(entry.Mode, entry.Uid, entry.Gid, entry.Modified, withXattrs ? entry.Xattrs : []);
}

/// <summary>One name of the view. A directory has one name, everything else may have several for one inode. 16 bytes.</summary>
internal record struct MergedName
{
    /// <summary>The entry that made it, counted over all layers: where it comes in the output.</summary>
    internal int Position;

    /// <summary>Of a directory its look, of anything else its inode.</summary>
    internal int Inode;

    internal int NextSibling;

    /// <summary>The layer that last wrote it by an entry of its own.</summary>
    internal short WrittenBy;

    /// <summary>Of a directory, the layer that last spoke of it or put something into it.</summary>
    internal short TouchedBy;
}

/// <summary>A file, link or device whose content and description the entry at a position has. 16 bytes.</summary>
internal record struct MergedInode
{
    internal int Position;

    /// <summary>
    /// Of a symbolic link its target, for names are resolved through links, until <see cref="MergedTree.Seal"/>; afterwards of what has more names to come
    /// its look. -1: nothing.
    /// </summary>
    internal int Target;

    /// <summary>The first of its names that is left; -1: none.</summary>
    internal int Primary;

    /// <summary>Names left.</summary>
    internal int Names;
}

/// <summary>
/// A root file system as names alone: what a tree of files would be after some layers, in some 80 bytes a name, in the pages of a pool. It knows no
/// whiteouts; the rules are <see cref="TreeMerger"/>'s.
/// </summary>
internal sealed class MergedTree
{
    internal const int None = NameTable.None;
    internal const int Root = NameTable.Root;

    // the table's bits
    private const byte Directory = 1;
    private const byte Made = 2;
    private const byte Again = 4;

    private readonly NameTable table;
    private readonly SpilledList<MergedName> names;
    private readonly SpilledList<MergedInode> inodes;
    private readonly SpilledList<LookRecord> looks;
    private readonly SpilledBytes xattrs;
    private readonly SpilledBytes targets;

    internal MergedTree(SpillPool pool)
    {
        table = new NameTable(pool);
        names = new SpilledList<MergedName>(pool);
        inodes = new SpilledList<MergedInode>(pool);
        looks = new SpilledList<LookRecord>(pool);
        xattrs = new SpilledBytes(pool);
        targets = new SpilledBytes(pool);
        names.Add(new MergedName { NextSibling = None, Inode = AddLook(EntryLook.Default), WrittenBy = None, TouchedBy = None });
        table.Set(Root, Directory, true);
    }

    internal int NameCount => names.Count;

    internal int InodeCount => inodes.Count;

    /// <summary>Bytes of directories' attributes, which may be as many as an archive likes.</summary>
    internal long Held { get; private set; }

    internal MergedName this[int name] { get => names[name]; set => names[name] = value; }

    internal MergedInode Inode(int inode) => inodes[inode];

    internal void SetInode(int inode, MergedInode value) => inodes[inode] = value;

    internal int Parent(int name) => table.Parent(name);

    internal bool IsDirectory(int name) => table.Has(name, Directory);

    internal bool IsGone(int name) => table.IsRemoved(name);

    /// <summary>For who writes the view out.</summary>
    internal bool IsMade(int name) => table.Has(name, Made);

    internal void SetMade(int name, bool value) => table.Set(name, Made, value);

    /// <inheritdoc cref="IsMade"/>
    internal bool ComesAgain(int name) => table.Has(name, Again);

    internal void SetComesAgain(int name) => table.Set(name, Again, true);

    internal EntryLook Look(int directory) => LookAt(names[directory].Inode);

    internal void SetLook(int directory, EntryLook look)
    {
        int at = names[directory].Inode;
        looks[at] = RecordOf(look) with { FirstChild = looks[at].FirstChild, HiddenBy = looks[at].HiddenBy };
    }

    /// <summary>The layer that last hid what lower ones have in a directory; 0, which has none below it, where none did.</summary>
    internal short HiddenBy(int directory) => looks[names[directory].Inode].HiddenBy;

    internal void SetHiddenBy(int directory, short layer)
    {
        int at = names[directory].Inode;
        looks[at] = looks[at] with { HiddenBy = layer };
    }

    /// <summary>Keeps a look that is no directory's.</summary>
    internal int AddLook(EntryLook look) => looks.Add(RecordOf(look) with { FirstChild = None });

    internal EntryLook LookAt(int look)
    {
        LookRecord record = looks[look];
        return new EntryLook(record.Mode, record.Uid, record.Gid, new TarTime(record.Seconds, record.Nanoseconds), XattrsAt(record.Xattrs));
    }

    /// <summary>Nobody asks for the targets of the layers so far any more: a link of a lower layer is not followed.</summary>
    internal void ForgetTargets() => targets.Clear();

    internal int Find(int parent, ReadOnlySpan<byte> text) => table.Find(parent, text);

    internal int AddDirectory(int parent, ReadOnlySpan<byte> text, int position)
    {
        int name = AddName(parent, text, position, AddLook(EntryLook.Default));
        table.Set(name, Directory, true);
        return name;
    }

    internal int AddLeaf(int parent, ReadOnlySpan<byte> text, int position, int inode) => AddName(parent, text, position, inode);

    /// <param name="target">Of a symbolic link.</param>
    internal int AddInode(int position, ReadOnlySpan<byte> target, bool isLink) =>
        inodes.Add(new MergedInode { Position = position, Target = isLink ? targets.AddWithLength(target) : None, Primary = None });

    /// <summary>Takes a name out, with all below it.</summary>
    internal void Remove(int name)
    {
        for (int at = name; at != None;)
        {
            // what is below one that is gone already went with it
            bool isThere = !IsGone(at);
            if (isThere)
            {
                table.Remove(at);
            }

            at = NextBelow(name, at, enter: isThere);
        }
    }

    /// <summary>Of a directory the names that are gone need not be gone through again: layer after layer could ask for that.</summary>
    internal void DropGone(int directory)
    {
        int before = None;
        for (int child = FirstChild(directory); child != None;)
        {
            int next = names[child].NextSibling;
            if (!IsGone(child))
            {
                SetNext(directory, before, child);
                before = child;
            }

            child = next;
        }

        SetNext(directory, before, None);
    }

    /// <summary>The name after another in the order in which a directory comes before what is in it; None after the last one below the top.</summary>
    /// <param name="enter">Off, what is below the name itself is left out.</param>
    internal int NextBelow(int top, int name, bool enter = true)
    {
        if (enter && FirstChild(name) is not None and var child)
        {
            return child;
        }

        while (name != top)
        {
            if (names[name].NextSibling is not None and var sibling)
            {
                return sibling;
            }

            name = Parent(name);
        }

        return None;
    }

    /// <summary>Where a symbolic link leads that an entry at or after a position made; empty for anything else. Good until the next call.</summary>
    /// <param name="begin">Not before the last <see cref="ForgetTargets"/>.</param>
    internal ReadOnlySpan<byte> TargetOf(int name, int begin)
    {
        MergedInode inode = inodes[names[name].Inode];
        return inode.Position < begin || inode.Target == None ? default : targets.GetWithLength(inode.Target);
    }

    /// <summary>Where each inode's content goes: to the first name that is left of it. Nothing may be changed afterwards.</summary>
    internal void Seal()
    {
        for (int at = 0; at < inodes.Count; at++)
        {
            inodes[at] = inodes[at] with { Target = None };
        }

        for (int name = 0; name < names.Count; name++)
        {
            if (!IsGone(name) && !IsDirectory(name))
            {
                int at = names[name].Inode;
                MergedInode inode = inodes[at];
                inode.Primary = inode.Names++ == 0 ? name : inode.Primary;
                inodes[at] = inode;
            }
        }
    }

    /// <summary>The path without a slash at either end; the root's is empty.</summary>
    internal byte[] PathOf(int name) => table.PathOf(name);

    private int FirstChild(int name) => IsDirectory(name) ? looks[names[name].Inode].FirstChild : None;

    private void SetNext(int directory, int before, int next)
    {
        if (before != None)
        {
            names[before] = names[before] with { NextSibling = next };
            return;
        }

        int at = names[directory].Inode;
        looks[at] = looks[at] with { FirstChild = next };
    }

    private int AddName(int parent, ReadOnlySpan<byte> text, int position, int inode)
    {
        int name = table.Add(parent, text);
        int look = names[parent].Inode;
        LookRecord above = looks[look];
        names.Add(new MergedName { Position = position, Inode = inode, NextSibling = above.FirstChild, WrittenBy = None, TouchedBy = None });
        looks[look] = above with { FirstChild = name };
        return name;
    }

    private LookRecord RecordOf(EntryLook look) => new()
    {
        Mode = (ushort)look.Mode,
        Uid = look.Uid,
        Gid = look.Gid,
        Seconds = look.Modified.Seconds,
        Nanoseconds = look.Modified.Nanoseconds,
        Xattrs = look.Xattrs.Count == 0 ? None : AddXattrs(look.Xattrs),
    };

    // each two lengths, name, value
    private int AddXattrs(IReadOnlyList<TarXattr> list)
    {
        using MemoryStream bytes = new();
        Span<byte> lengths = stackalloc byte[2 * sizeof(int)];
        foreach (TarXattr xattr in list)
        {
            BinaryPrimitives.WriteInt32LittleEndian(lengths, xattr.Name.Length);
            BinaryPrimitives.WriteInt32LittleEndian(lengths[sizeof(int)..], xattr.Value.Length);
            bytes.Write(lengths);
            bytes.Write(xattr.Name);
            bytes.Write(xattr.Value);
        }

        Held += bytes.Length;
        return xattrs.AddWithLength(bytes.GetBuffer().AsSpan(0, (int)bytes.Length));
    }

    private List<TarXattr> XattrsAt(int at)
    {
        List<TarXattr> list = [];
        ReadOnlySpan<byte> rest = at == None ? default : xattrs.GetWithLength(at);
        while (rest.Length > 0)
        {
            int name = BinaryPrimitives.ReadInt32LittleEndian(rest);
            int value = BinaryPrimitives.ReadInt32LittleEndian(rest[sizeof(int)..]);
            rest = rest[(2 * sizeof(int))..];
            list.Add(new TarXattr(rest[..name].ToArray(), rest.Slice(name, value).ToArray()));
            rest = rest[(name + value)..];
        }

        return list;
    }

    // 32 bytes
    private record struct LookRecord
    {
        internal long Seconds;
        internal int Nanoseconds;
        internal ushort Mode; // permissions, inode(7)
        internal short HiddenBy;
        internal uint Uid;
        internal uint Gid;
        internal int FirstChild;
        internal int Xattrs;
    }
}
