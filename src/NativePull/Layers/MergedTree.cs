using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What a directory of the merged view looks like.</summary>
internal readonly record struct DirectoryLook(uint Mode, uint Uid, uint Gid, TarTime Modified, IReadOnlyList<TarXattr> Xattrs)
{
    /// <summary>One that no layer describes, as the applier makes it.</summary>
    internal static DirectoryLook Default { get; } = new(Permission.UsualDirectory, 0, 0, default, []);

    /// <summary>Bytes of memory that the attributes take.</summary>
    internal long Held
    {
        get
        {
            // two arrays each
            const int overhead = 64;
            long held = 0;
            foreach (TarXattr xattr in Xattrs)
            {
                held += overhead + xattr.Name.Length + xattr.Value.Length;
            }

            return held;
        }
    }
}

/// <summary>One name of the view. A directory has one name, everything else may have several for one inode.</summary>
internal struct MergedName
{
    internal int Parent;

    /// <summary>The entry that made it, counted over all layers: where it comes in the output.</summary>
    internal int Position;

    /// <summary>Of a directory its look, of anything else its inode.</summary>
    internal int Inode;

    internal int FirstChild;
    internal int NextSibling;
    internal int NextInBucket;
    internal int Text;
    internal ushort Length;

    /// <summary>The layer that last wrote it by an entry of its own.</summary>
    internal short WrittenBy;

    /// <summary>Of a directory, the layer that last spoke of it or put something into it.</summary>
    internal short TouchedBy;

    internal bool IsDirectory;
    internal bool IsGone;
}

/// <summary>A file, link or device whose content and description the entry at a position has.</summary>
internal struct MergedInode
{
    internal int Position;

    /// <summary>Of a symbolic link its target, for names are resolved through links; -1 of anything else.</summary>
    internal int Target;

    /// <summary>The first of its names that is left; -1: none.</summary>
    internal int Primary;

    /// <summary>Names left.</summary>
    internal int Names;
}

/// <summary>
/// A root file system as names alone: what a tree of files would be after some layers, in some 80 bytes a name. It knows no whiteouts; the rules are
/// <see cref="TreeMerger"/>'s.
/// </summary>
internal sealed class MergedTree
{
    internal const int None = -1;
    internal const int Root = 0;

    private readonly ChunkedList<MergedName> names = new();
    private readonly ChunkedList<MergedInode> inodes = new();
    private readonly ChunkedList<DirectoryLook> looks = new();
    private readonly ByteStrings texts = new();
    private ByteStrings targets = new();
    private long targetBytes;
    private int[] buckets = NewBuckets(1024);

    internal MergedTree() => AddName(None, default, 0, looks.Add(DirectoryLook.Default), isDirectory: true);

    internal int NameCount => names.Count;

    internal int InodeCount => inodes.Count;

    internal ref MergedName this[int name] => ref names[name];

    internal ref MergedInode Inode(int inode) => ref inodes[inode];

    /// <summary>Bytes of link targets and attributes; both are as long as an archive likes.</summary>
    internal long Held { get; private set; }

    internal DirectoryLook Look(int directory) => looks[names[directory].Inode];

    internal void SetLook(int directory, DirectoryLook look)
    {
        ref DirectoryLook there = ref looks[names[directory].Inode];
        Held += look.Held - there.Held;
        there = look;
    }

    /// <summary>Nobody asks for the targets of the layers so far any more: a link of a lower layer is not followed.</summary>
    internal void ForgetTargets()
    {
        targets = new ByteStrings();
        Held -= targetBytes;
        targetBytes = 0;
    }

    internal ReadOnlySpan<byte> Text(int name) => texts.Get(names[name].Text, names[name].Length);

    internal int Find(int parent, ReadOnlySpan<byte> text)
    {
        for (int name = buckets[BucketOf(parent, text)]; name != None; name = names[name].NextInBucket)
        {
            if (names[name].Parent == parent && Text(name).SequenceEqual(text))
            {
                return name;
            }
        }

        return None;
    }

    internal int AddDirectory(int parent, ReadOnlySpan<byte> text, int position) =>
        AddName(parent, text, position, looks.Add(DirectoryLook.Default), isDirectory: true);

    internal int AddLeaf(int parent, ReadOnlySpan<byte> text, int position, int inode) => AddName(parent, text, position, inode, isDirectory: false);

    /// <param name="target">Of a symbolic link.</param>
    internal int AddInode(int position, ReadOnlySpan<byte> target, bool isLink)
    {
        Held += isLink ? target.Length : 0;
        targetBytes += isLink ? target.Length : 0;
        return inodes.Add(new MergedInode { Position = position, Target = isLink ? targets.AddWithLength(target) : None, Primary = None });
    }

    /// <summary>Takes a name out, with all below it.</summary>
    internal void Remove(int name)
    {
        Stack<int> pending = new([name]);
        while (pending.TryPop(out int next))
        {
            Unhash(next);
            names[next].IsGone = true;
            for (int child = FirstChild(next); child != None; child = names[child].NextSibling)
            {
                if (!names[child].IsGone)
                {
                    pending.Push(child);
                }
            }
        }
    }

    internal int FirstChild(int name) => names[name].IsDirectory ? names[name].FirstChild : None;

    /// <summary>Where a symbolic link leads that an entry at or after a position made; empty for anything else.</summary>
    /// <param name="begin">Not before the last <see cref="ForgetTargets"/>.</param>
    internal ReadOnlySpan<byte> TargetOf(int name, int begin)
    {
        ref MergedInode inode = ref inodes[names[name].Inode];
        return inode.Position < begin || inode.Target == None ? default : targets.GetWithLength(inode.Target);
    }

    /// <summary>Where each inode's content goes: to the first name that is left of it. Nothing may be changed afterwards.</summary>
    internal void Seal()
    {
        for (int name = 0; name < names.Count; name++)
        {
            ref MergedName each = ref names[name];
            if (!each.IsGone && !each.IsDirectory)
            {
                ref MergedInode inode = ref inodes[each.Inode];
                inode.Primary = inode.Names++ == 0 ? name : inode.Primary;
            }
        }
    }

    /// <summary>The path without a slash at either end; the root's is empty.</summary>
    internal byte[] PathOf(int name)
    {
        int length = -1;
        for (int at = name; at != Root; at = names[at].Parent)
        {
            length += names[at].Length + 1;
        }

        byte[] path = new byte[Math.Max(0, length)];
        int end = length;
        for (int at = name; at != Root; at = names[at].Parent)
        {
            end -= names[at].Length;
            Text(at).CopyTo(path.AsSpan(end));
            if (--end >= 0)
            {
                path[end] = (byte)'/';
            }
        }

        return path;
    }

    private int AddName(int parent, ReadOnlySpan<byte> text, int position, int inode, bool isDirectory)
    {
        int name = names.Add(new MergedName
        {
            Parent = parent,
            Position = position,
            Inode = inode,
            FirstChild = None,
            NextSibling = parent == None ? None : names[parent].FirstChild,
            NextInBucket = None,
            Text = texts.Add(text),
            Length = (ushort)text.Length,
            WrittenBy = None,
            TouchedBy = None,
            IsDirectory = isDirectory,
        });
        if (parent != None)
        {
            names[parent].FirstChild = name;
        }

        if (names.Count > buckets.Length)
        {
            Rehash();
        }
        else
        {
            Hash(name);
        }

        return name;
    }

    private void Hash(int name)
    {
        ref int bucket = ref buckets[BucketOf(names[name].Parent, Text(name))];
        names[name].NextInBucket = bucket;
        bucket = name;
    }

    private void Unhash(int name)
    {
        ref int link = ref buckets[BucketOf(names[name].Parent, Text(name))];
        while (link != name)
        {
            link = ref names[link].NextInBucket;
        }

        link = names[name].NextInBucket;
    }

    private void Rehash()
    {
        buckets = NewBuckets(buckets.Length * 2);
        for (int name = 0; name < names.Count; name++)
        {
            if (!names[name].IsGone)
            {
                Hash(name);
            }
        }
    }

    // seeded by the process: an archive cannot choose names that meet in one bucket
    private int BucketOf(int parent, ReadOnlySpan<byte> text)
    {
        HashCode hash = default;
        hash.Add(parent);
        hash.AddBytes(text);
        return hash.ToHashCode() & (buckets.Length - 1);
    }

    private static int[] NewBuckets(int count)
    {
        int[] fresh = new int[count];
        Array.Fill(fresh, None);
        return fresh;
    }
}
