using System.Buffers;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// The flattened root file system as one archive, without any file system: a first reading of the layers finds out which entries remain
/// (<see cref="Merge"/>, bottom first), a second copies those (<see cref="Write"/>, in the same order). What is remembered of each
/// name, some 80 bytes, is in the pages of a pool.
/// </summary>
/// <remarks>
/// The output has the order of the layers: each name comes where the entry that made it was, its directories before it wherever they were made. A
/// directory that gets something after the archive has gone on elsewhere is listed once more at the end: GNU tar sets a directory's time when it goes
/// on, and would leave it changed. Only then it has its attributes: mkfs.erofs (1.9 still) gives a directory those of every listing, each name twice.
/// The output depends on the image alone; policies about what a file system can hold do not concern it.
/// </remarks>
internal sealed class FlatArchive : IDisposable
{
    private const int BufferSize = 128 * 1024;

    private readonly LayerLimits limits;
    private readonly long? free;
    private readonly Allowance allowance;
    private readonly SpillPool pool;
    private readonly MergedTree tree;
    private PaxWriter? writer;
    private short layers;
    private int position;
    private int nextName;
    private int nextInode;
    private readonly List<int> open = [];

    /// <param name="free">Bytes that the output may have; null: nobody can say.</param>
    /// <param name="scratch">
    /// Gives the directory for what memory has no room for, asked at most once; null, null from it, or one where nothing can be made: memory is taken after all.
    /// </param>
    internal FlatArchive(LayerLimits limits, long? free = null, Func<string?>? scratch = null)
    {
        this.limits = limits;
        this.free = free;
        allowance = new Allowance(limits);
        pool = new SpillPool(allowance.Memory, scratch is null ? null : () => scratch() is { } directory ? OpenIn(directory) : null);
        tree = new MergedTree(pool);
    }

    /// <summary>Reads the next layer, headers only.</summary>
    /// <exception cref="PullException">As <see cref="LayerApplier.Apply"/>.</exception>
    internal void Merge(Stream tar, CancellationToken token)
    {
        if (layers == short.MaxValue)
        {
            throw new PullException(PullError.LimitPassed, $"more than {short.MaxValue.ToString(CultureInfo.InvariantCulture)} layers");
        }

        tree.ForgetTargets();
        TreeMerger merger = new(tree, layers++, position + 1, allowance.TakeEntry, allowance.TakeSteps);
        TarReader reader = new(tar, limits.Tar);
        while (reader.MoveNext())
        {
            token.ThrowIfCancellationRequested();
            allowance.TakeEntry();
            // with its holes, which are written out
            allowance.TakeBytes(reader.Current.Name, reader.Current.Size, free);
            foreach (TarXattr xattr in reader.Current.Xattrs)
            {
                allowance.TakeAttribute(reader.Current.Name, xattr.Size);
            }

            long held = tree.Held;
            merger.Add(reader.Current, ++position);
            allowance.Hold(tree.Held - held);
        }
    }

    /// <summary>Every layer has been merged; the archive begins.</summary>
    internal void Begin(Stream output)
    {
        tree.ForgetTargets();
        tree.Seal();
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
        for (int name = 0; name < tree.NameCount; name++)
        {
            if (tree.ComesAgain(name))
            {
                WriteDirectory(name, isLast: true);
            }
        }

        writer!.End();
    }

    public void Dispose()
    {
        writer?.Dispose();
        pool.Dispose();
    }

    private static SafeFileHandle? OpenIn(string directory)
    {
        using SafeFileHandle? opened = Libc.TryOpenDirectory(directory);
        return opened is null ? null : NewFile.Nameless(opened);
    }

    private void GoToStart()
    {
        for (int name = 0; name < tree.NameCount; name++)
        {
            tree.SetMade(name, false);
        }

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
            GoInto(tree.Parent(name));
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
        if (tree.Inode(inode) is { Names: > 1 } shared)
        {
            // what a link repeats, without attributes
            tree.SetInode(inode, shared with { Target = tree.AddLook(EntryLook.Of(entry, withXattrs: false)) });
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
            if (tree.IsGone(nextName))
            {
                continue;
            }

            if (tree.IsDirectory(nextName))
            {
                MakeParents(nextName);
                MakeDirectory(nextName);
            }
            else if (tree[nextName].Inode is var inode && tree.Inode(inode).Primary != nextName)
            {
                WriteLink(nextName, inode);
            }
        }
    }

    private void WriteLink(int name, int inode)
    {
        MakeParents(name);
        GoInto(tree.Parent(name));
        if (writer is null)
        {
            return;
        }

        MergedInode shared = tree.Inode(inode);
        writer.Begin(TarEntryKind.HardLink, tree.PathOf(name), tree.PathOf(shared.Primary), EntryOf(TarEntryKind.HardLink, tree.LookAt(shared.Target)), []);
    }

    private void MakeParents(int name)
    {
        if (tree.Parent(name) is var above && tree.IsMade(above))
        {
            return;
        }

        Stack<int> missing = [];
        for (int directory = above; !tree.IsMade(directory); directory = tree.Parent(directory))
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
        if (tree.IsMade(directory))
        {
            return;
        }

        tree.SetMade(directory, true);
        if (directory != MergedTree.Root)
        {
            GoInto(tree.Parent(directory));
        }

        open.Add(directory);
        WriteDirectory(directory, isLast: !tree.ComesAgain(directory));
    }

    // Where the archive is: what is not above the next name has been left, and is not entered again by coming back.
    private void GoInto(int directory)
    {
        int at = directory;
        int depth;
        while ((depth = open.LastIndexOf(at)) < 0)
        {
            at = tree.Parent(at);
        }

        open.RemoveRange(depth + 1, open.Count - depth - 1);
        if (at != directory)
        {
            tree.SetComesAgain(directory);
        }
    }

    private void WriteDirectory(int directory, bool isLast)
    {
        if (writer is null)
        {
            return;
        }

        EntryLook look = tree.Look(directory);
        byte[] path = directory == MergedTree.Root ? "./"u8.ToArray() : [.. tree.PathOf(directory), (byte)'/'];
        writer.Begin(TarEntryKind.Directory, path, default, EntryOf(TarEntryKind.Directory, look), isLast ? look.Xattrs : []);
    }

    private static TarEntry EntryOf(TarEntryKind kind, EntryLook look) =>
        new() { Kind = kind, Name = [], Mode = look.Mode, Uid = look.Uid, Gid = look.Gid, Modified = look.Modified };
}
