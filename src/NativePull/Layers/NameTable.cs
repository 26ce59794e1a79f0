using System.Text;

namespace NativePull.Layers;

/// <summary>
/// Names in directories, numbered as they are added: found by the number of the directory and their bytes. Name 0 is the root. Some 30 bytes a name,
/// in the pages of a pool.
/// </summary>
internal sealed class NameTable
{
    internal const int None = -1;
    internal const int Root = 0;

    // of which the owner of the table has the others
    private const byte Removed = 0x80;

    // 4 bytes each, so that the first of them are one page
    private const int FirstBuckets = SpillPool.PageSize / sizeof(int);

    private readonly SpillPool pool;
    private readonly SpilledList<Link> links;
    private readonly SpilledBytes texts;
    // of the first name in it the number and 1; 0: none
    private SpilledList<int> buckets;

    internal NameTable(SpillPool pool)
    {
        this.pool = pool;
        links = new SpilledList<Link>(pool);
        texts = new SpilledBytes(pool);
        buckets = new SpilledList<int>(pool);
        buckets.Resize(FirstBuckets);
        links.Add(new Link { Parent = None });
    }

    internal int Count => links.Count;

    /// <returns>None: there is no such name, or it was removed.</returns>
    internal int Find(int parent, ReadOnlySpan<byte> text)
    {
        if (text.Length > byte.MaxValue)
        {
            return None;
        }

        uint hash = HashOf(parent, text);
        int name = buckets[BucketOf(hash)] - 1;
        while (name != None)
        {
            Link link = links[name];
            if (link.Parent == parent && link.Length == text.Length && link.Tag == (ushort)(hash >> 16) && texts.Get(link.Text, link.Length).SequenceEqual(text))
            {
                return name;
            }

            name = link.Next - 1;
        }

        return None;
    }

    /// <summary>Of the names that are the same the last added is found.</summary>
    /// <param name="text">1 to 255 bytes.</param>
    internal int Add(int parent, ReadOnlySpan<byte> text)
    {
        if (links.Count >= buckets.Count)
        {
            Rehash();
        }

        uint hash = HashOf(parent, text);
        int name = links.Add(new Link { Parent = parent, Text = texts.Add(text), Length = checked((byte)text.Length), Tag = (ushort)(hash >> 16) });
        Hash(name, hash);
        return name;
    }

    /// <summary>It is not found any more; by its number it is still there.</summary>
    internal void Remove(int name)
    {
        Link removed = links[name];
        int bucket = BucketOf(HashOf(removed.Parent, Text(name)));
        int at = buckets[bucket] - 1;
        if (at == name)
        {
            buckets[bucket] = removed.Next;
        }
        else
        {
            Link before;
            while ((before = links[at]).Next - 1 != name)
            {
                at = before.Next - 1;
            }

            before.Next = removed.Next;
            links[at] = before;
        }

        removed.Flags |= Removed;
        links[name] = removed;
    }

    internal bool IsRemoved(int name) => (links[name].Flags & Removed) != 0;

    /// <summary>None for the root.</summary>
    internal int Parent(int name) => links[name].Parent;

    /// <summary>Seven bits for the owner of the table.</summary>
    internal bool Has(int name, byte flag) => (links[name].Flags & flag) != 0;

    internal void Set(int name, byte flag, bool value)
    {
        Link link = links[name];
        link.Flags = (byte)(value ? link.Flags | flag : link.Flags & ~flag);
        links[name] = link;
    }

    /// <summary>Good until the pool's next access.</summary>
    internal ReadOnlySpan<byte> Text(int name)
    {
        Link link = links[name];
        return texts.Get(link.Text, link.Length);
    }

    /// <summary>The path from a directory above it, without a slash at either end; from the root the root's is empty.</summary>
    internal byte[] PathOf(int name, int above = Root)
    {
        int length = -1;
        for (int at = name; at != above; at = links[at].Parent)
        {
            length += links[at].Length + 1;
        }

        byte[] path = new byte[Math.Max(0, length)];
        int end = length;
        for (int at = name; at != above; at = links[at].Parent)
        {
            ReadOnlySpan<byte> text = Text(at);
            end -= text.Length;
            text.CopyTo(path.AsSpan(end));
            if (--end >= 0)
            {
                path[end] = (byte)'/';
            }
        }

        return path;
    }

    private void Hash(int name, uint hash)
    {
        int bucket = BucketOf(hash);
        Link link = links[name];
        link.Next = buckets[bucket];
        links[name] = link;
        buckets[bucket] = name + 1;
    }

    private void Rehash()
    {
        SpilledList<int> fresh = new(pool);
        fresh.Resize(buckets.Count * 2);
        buckets.Clear();
        buckets = fresh;
        for (int name = 1; name < links.Count; name++)
        {
            Link link = links[name];
            if ((link.Flags & Removed) == 0)
            {
                Hash(name, HashOf(link.Parent, texts.Get(link.Text, link.Length)));
            }
        }
    }

    private int BucketOf(uint hash) => (int)hash & (buckets.Count - 1);

    // The one hash of the runtime that is made for what an adversary chooses: of a string's characters, keyed by the process. (HashCode has a seed, too, but
    // it is xxHash, of which half of the pairs made to meet do meet whatever the seed.)
    private static uint HashOf(int parent, ReadOnlySpan<byte> text)
    {
        Span<char> key = stackalloc char[2 + byte.MaxValue];
        key[0] = (char)parent;
        key[1] = (char)(parent >> 16);
        return (uint)string.GetHashCode(key[..(2 + Encoding.Latin1.GetChars(text, key[2..]))]);
    }

    // 16 bytes
    private struct Link
    {
        internal int Parent;
        // in the bucket, as there
        internal int Next;
        internal int Text;
        internal ushort Tag;
        internal byte Length;
        internal byte Flags;
    }
}
