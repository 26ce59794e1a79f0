using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>One file of the layers below, and the names in this layer that are hard links to it.</summary>
internal sealed class LowerLink(byte[] target)
{
    internal byte[] Target { get; } = target;

    internal List<NameKey> Names { get; } = [];
}

/// <summary>
/// Hard links from a layer's own directory into the layers below (overlay): placeholders until those are there, then one copy that all names and,
/// where it is not hidden, the lower name share, as overlayfs copies up a file that is linked.
/// </summary>
/// <param name="hold">Told how many bytes of memory are kept.</param>
internal sealed class LowerLinks(LayerDirectories directories, Action<long> hold)
{
    // Bytes; a link without its target, and one name of it.
    private const int Overhead = 100;
    private const int NameOverhead = 150;

    private readonly Dictionary<byte[], LowerLink> byTarget = new(new BytesComparer());

    /// <summary>The link that a name stands for, if it is a placeholder.</summary>
    internal LowerLink? Find(TouchedDirectory parent, byte[] name) => directories.Placeholders.GetValueOrDefault(new NameKey(parent, name));

    internal LowerLink To(byte[] target)
    {
        if (!byTarget.TryGetValue(target, out LowerLink? link))
        {
            hold(target.Length + Overhead);
            link = new LowerLink(target);
            byTarget.Add(target, link);
        }

        return link;
    }

    /// <summary>Makes a name, in place of what is there, a placeholder.</summary>
    internal void Add(LowerLink link, TouchedDirectory parent, byte[] name)
    {
        directories.Remove(parent, name);
        Failure.ThrowIf(NewFile.Create(directories.Open(parent), name, out SafeFileHandle? placeholder), "open", parent.ShownOf(name));
        placeholder!.Dispose();
        hold(NameOverhead + name.Length);
        NameKey key = new(parent, name);
        directories.Placeholders[key] = link;
        link.Names.Add(key);
    }

    /// <summary>Fills in the placeholders.</summary>
    /// <exception cref="PullException">Malformed: there is no such file below.</exception>
    internal void Settle(LowerLayers lowers, CopyUp copyUp, CancellationToken token)
    {
        foreach (LowerLink link in byTarget.Values)
        {
            token.ThrowIfCancellationRequested();
            using LowerFile? found = lowers.Find(link.Target);
            if (found is null || found.Status.IsDirectory)
            {
                throw new PullException(PullError.Malformed, $"archive: a hard link to {TarText.Show(link.Target)}, which is {(found is null ? "not there" : "a directory")}");
            }

            NameKey? first = null;
            foreach (NameKey name in link.Names)
            {
                if (IsThere(name, link))
                {
                    directories.Remove(name.Directory, name.Name);
                    if (first is { } made)
                    {
                        Link(made, name);
                    }
                    else
                    {
                        copyUp.Make(found, name.Directory, name.Name);
                        first = name;
                    }
                }
            }

            if (first is { } copied)
            {
                ShareWithTarget(copied, link.Target);
            }
        }
    }

    // A placeholder that was not replaced and whose directory was not removed.
    private bool IsThere(NameKey name, LowerLink link)
    {
        for (TouchedDirectory? at = name.Directory; at is not null; at = at.Parent)
        {
            if (at.IsGone)
            {
                return false;
            }
        }

        return directories.Placeholders.GetValueOrDefault(name) == link;
    }

    // The lower name becomes the same inode, unless this layer has or hides something there.
    private void ShareWithTarget(NameKey copied, byte[] target)
    {
        EntryPath path = EntryPath.Of(target);
        if (directories.GetForCopy(path.Parent) is not { } parent)
        {
            return;
        }

        byte[] name = EntryPath.Terminated(path.Base);
        if (directories.Known(parent, name) is { Holds: false })
        {
            // made for whiteouts in a directory that is none
            directories.Remove(parent, name);
        }

        int errno = Libc.TryStatusAt(directories.Open(parent), name, out _);
        if (errno == Errno.NoEntry)
        {
            Link(copied, new NameKey(parent, name));
        }
        else
        {
            Failure.ThrowIf(errno, "statx", parent.ShownOf(name));
        }

        for (TouchedDirectory? at = parent; at is { Holds: false }; at = at.Parent)
        {
            at.Holds = true;
        }
    }

    private void Link(NameKey from, NameKey to)
    {
        SafeFileHandle source = directories.Open(from.Directory);
        Failure.ThrowIf(Libc.MakeLink(source, from.Name, directories.Open(to.Directory), to.Name), "link", to.Directory.ShownOf(to.Name));
    }
}
