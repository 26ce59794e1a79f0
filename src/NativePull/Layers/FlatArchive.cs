using System.Buffers;
using System.Globalization;

namespace NativePull.Layers;

/// <summary>
/// The flattened root file system as one archive, without any file system: a first reading of the layers finds out which entries remain
/// (<see cref="Merge"/>, bottom first), a second copies those (<see cref="Write"/>, in the same order). Memory is some 80 bytes a name.
/// </summary>
/// <remarks>
/// The output has the order of the layers: each name comes where the entry that made it was, its directories before it wherever they were made. A
/// directory that gets something after the archive has gone on elsewhere is listed once more at the end: GNU tar sets a directory's time when it goes
/// on, and would leave it changed. Only then it has its attributes: mkfs.erofs (1.9 still) gives a directory those of every listing, each name twice.
/// The output depends on the image alone; policies about what a file system can hold do not concern it.
/// </remarks>
/// <param name="free">Bytes that the output may have; null: nobody can say.</param>
internal sealed class FlatArchive(LayerLimits limits, long? free = null) : IDisposable
{
    private const int BufferSize = 128 * 1024;

    private readonly Allowance allowance = new(limits);
    private readonly MergedTree tree = new();
    private readonly Dictionary<int, TarEntry> linked = [];
    private PaxWriter? writer;
    private short layers;
    private int position;
    private int nextName;
    private int nextInode;
    private readonly List<int> open = [];
    private bool[] made = [];
    private bool[] again = [];

    /// <summary>Reads the next layer, headers only.</summary>
    /// <exception cref="PullException">As <see cref="LayerApplier.Apply"/>.</exception>
    internal void Merge(Stream tar, CancellationToken token)
    {
        if (layers == short.MaxValue)
        {
            throw new PullException(PullError.LimitPassed, $"more than {short.MaxValue.ToString(CultureInfo.InvariantCulture)} layers");
        }

        ForgetTargets();
        TreeMerger merger = new(tree, layers++, position + 1, allowance.TakeEntry);
        TarReader reader = new(tar, limits.Tar);
        while (reader.MoveNext())
        {
            token.ThrowIfCancellationRequested();
            allowance.TakeEntry();
            // with its holes, which are written out
            allowance.TakeBytes(reader.Current, reader.Current.Size, free);
            long held = tree.Held;
            merger.Add(reader.Current, ++position);
            allowance.Hold(tree.Held - held);
        }
    }

    /// <summary>Every layer has been merged; the archive begins.</summary>
    internal void Begin(Stream output)
    {
        ForgetTargets();
        tree.Seal();
        again = new bool[tree.NameCount];
        int last = position;
        // once without a writer: whether a directory will be listed again must be known when it is listed first
        GoToStart();
        while (position < last)
        {
            position++;
            PlaceContent();
            WriteNames();
        }

        writer = new PaxWriter(output);
        GoToStart();
    }

    /// <summary>Reads the next layer again, from the bottom, and copies what remains of it.</summary>
    internal void Write(Stream tar, CancellationToken token)
    {
        TarReader reader = new(tar, limits.Tar);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
        try
        {
            while (reader.MoveNext())
            {
                token.ThrowIfCancellationRequested();
                position++;
                WriteContent(reader, buffer, token);
                WriteNames();
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    internal void End()
    {
        for (int name = 0; name < again.Length; name++)
        {
            if (again[name])
            {
                WriteDirectory(name, isLast: true);
            }
        }

        writer!.End();
    }

    public void Dispose() => writer?.Dispose();

    private void ForgetTargets()
    {
        long held = tree.Held;
        tree.ForgetTargets();
        allowance.Hold(tree.Held - held);
    }

    private void GoToStart()
    {
        made = new bool[tree.NameCount];
        open.Clear();
        position = 0;
        nextInode = 0;
        nextName = 1;
        MakeDirectory(MergedTree.Root);
    }

    // The first name that is left of what this entry is the content of, in a directory that is there; None: nothing is left, or it is no content.
    private int PlaceContent()
    {
        if (nextInode == tree.InodeCount || tree.Inode(nextInode).Position != position)
        {
            return MergedTree.None;
        }

        int name = tree.Inode(nextInode++).Primary;
        if (name != MergedTree.None)
        {
            MakeParents(name);
            GoInto(tree[name].Parent);
        }

        return name;
    }

    private void WriteContent(TarReader reader, byte[] buffer, CancellationToken token)
    {
        int name = PlaceContent();
        if (name == MergedTree.None)
        {
            return;
        }

        TarEntry entry = reader.Current;
        int inode = tree[name].Inode;
        writer!.Begin(entry.Kind, tree.PathOf(name), entry.LinkName, entry, entry.Xattrs);
        if (tree.Inode(inode).Names > 1)
        {
            // what a link repeats, without attributes, of which there may be much
            linked.Add(inode, new TarEntry
            {
                Kind = entry.Kind,
                Name = [],
                Mode = entry.Mode,
                Uid = entry.Uid,
                Gid = entry.Gid,
                Modified = entry.Modified,
            });
        }

        // holes become zeros: few programs agree on how an archive says them
        long end = 0;
        int read;
        while ((read = reader.ReadContent(buffer, out long at)) > 0)
        {
            token.ThrowIfCancellationRequested();
            WriteHole(writer, at - end, token);
            writer.Write(buffer.AsSpan(0, read));
            end = at + read;
        }

        WriteHole(writer, entry.Size - end, token);
    }

    private static void WriteHole(PaxWriter writer, long length, CancellationToken token)
    {
        const int part = 16 * 1024 * 1024;
        while (length > 0)
        {
            token.ThrowIfCancellationRequested();
            writer.WriteZeros(Math.Min(length, part));
            length -= Math.Min(length, part);
        }
    }

    // Directories that this entry made, and further names of what is written already.
    private void WriteNames()
    {
        for (; nextName < tree.NameCount && tree[nextName].Position == position; nextName++)
        {
            ref MergedName name = ref tree[nextName];
            if (name.IsGone)
            {
                continue;
            }

            if (name.IsDirectory)
            {
                MakeParents(nextName);
                MakeDirectory(nextName);
            }
            else if (tree.Inode(name.Inode).Primary != nextName)
            {
                WriteLink(nextName, name.Inode);
            }
        }
    }

    private void WriteLink(int name, int inode)
    {
        MakeParents(name);
        GoInto(tree[name].Parent);
        if (writer is null)
        {
            return;
        }

        TarEntry entry = linked[inode];
        writer.Begin(TarEntryKind.HardLink, tree.PathOf(name), tree.PathOf(tree.Inode(inode).Primary), entry, []);
        if (--tree.Inode(inode).Names == 1)
        {
            linked.Remove(inode);
        }
    }

    private void MakeParents(int name)
    {
        if (tree[name].Parent is var above && made[above])
        {
            return;
        }

        Stack<int> missing = [];
        for (int directory = above; !made[directory]; directory = tree[directory].Parent)
        {
            missing.Push(directory);
        }

        foreach (int directory in missing)
        {
            MakeDirectory(directory);
        }
    }

    private void MakeDirectory(int directory)
    {
        if (made[directory])
        {
            return;
        }

        made[directory] = true;
        if (directory != MergedTree.Root)
        {
            GoInto(tree[directory].Parent);
        }

        open.Add(directory);
        WriteDirectory(directory, isLast: !again[directory]);
    }

    // Where the archive is: what is not above the next name has been left, and is not entered again by coming back.
    private void GoInto(int directory)
    {
        int at = directory;
        int depth;
        while ((depth = open.LastIndexOf(at)) < 0)
        {
            at = tree[at].Parent;
        }

        open.RemoveRange(depth + 1, open.Count - depth - 1);
        again[directory] |= at != directory;
    }

    private void WriteDirectory(int directory, bool isLast)
    {
        if (writer is null)
        {
            return;
        }

        DirectoryLook look = tree.Look(directory);
        TarEntry like = new() { Kind = TarEntryKind.Directory, Name = [], Mode = look.Mode, Uid = look.Uid, Gid = look.Gid, Modified = look.Modified };
        byte[] path = directory == MergedTree.Root ? "./"u8.ToArray() : [.. tree.PathOf(directory), (byte)'/'];
        writer.Begin(TarEntryKind.Directory, path, default, like, isLast ? look.Xattrs : []);
    }
}
