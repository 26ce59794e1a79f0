using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>A name of the layers below: by its directory's handle.</summary>
internal sealed class LowerFile(LowerHandle parent, byte[] name, FileStatus status) : IDisposable
{
    internal SafeFileHandle Parent => parent.Handle;

    /// <summary>Ends in NUL; "." for the root.</summary>
    internal byte[] Name { get; } = name;

    internal FileStatus Status { get; } = status;

    public void Dispose() => parent.Dispose();
}

/// <summary>What overlayfs would show of the layers below: the topmost that has a name wins, whiteouts and opaque directories hide the rest. Links are not followed.</summary>
/// <param name="topFirst">Extracted layers, each as its own root, all in one style.</param>
internal sealed class LowerLayers(IReadOnlyList<RootDirectory> topFirst, WhiteoutStyle style)
{
    /// <summary>The name at a path as the lower layers together have it; null where it is absent or hidden.</summary>
    internal LowerFile? Find(byte[] path)
    {
        foreach (RootDirectory lower in topFirst)
        {
            if (Look(lower, path, out bool hides) is { } found)
            {
                return found;
            }

            if (hides)
            {
                return null;
            }
        }

        return null;
    }

    /// <summary>Every name that is to be seen in the root, each ending in NUL.</summary>
    /// <param name="isNew">Asked once for each name of each layer, top first: whether it is the first time.</param>
    internal IEnumerable<byte[]> NamesInRoot(Predicate<byte[]> isNew)
    {
        foreach (RootDirectory layer in topFirst)
        {
            Libc.Rewind(layer.Handle);
            while (Libc.NextNames(layer.Handle, layer.Path) is { Count: > 0 } names)
            {
                foreach ((byte[] name, _) in names)
                {
                    if (!isNew(name))
                    {
                        continue;
                    }

                    // what may not be looked at is there
                    int errno = Libc.TryStatusAt(layer.Handle, name, out FileStatus status);
                    if (errno == 0 ? !OverlayMarks.IsWhiteout(layer.Handle, name, status, style) : errno != Errno.NoEntry)
                    {
                        yield return name;
                    }
                }
            }
        }
    }

    // One layer: what it has at the path; or whether it hides what those below have there.
    private LowerFile? Look(RootDirectory layer, byte[] path, out bool hides)
    {
        hides = false;
        if (path.Length > 0 && Have(layer, path) is { } whole)
        {
            return whole;
        }

        Failure.ThrowIf(LowerHandle.Open(layer.Handle, ".\0"u8.ToArray(), OpenFlags.Directory, out LowerHandle? top), "open", layer.Path);
        LowerHandle at = top!;
        if (path.Length == 0)
        {
            return new LowerFile(at, ".\0"u8.ToArray(), Libc.Status(at.Handle, layer.Path));
        }

        foreach (Range range in path.AsSpan().Split((byte)'/'))
        {
            byte[] name = [.. path[range], 0];
            hides |= OverlayMarks.IsOpaque(at.Handle, style);
            bool isLast = range.End.Value == path.Length;
            int errno = at.TryStatusAt(name, out FileStatus status);
            if (errno != 0 || OverlayMarks.IsWhiteout(at.Handle, name, status, style) || (!isLast && !status.IsDirectory))
            {
                at.Dispose();
                hides |= errno == 0;
                return null;
            }

            if (isLast)
            {
                return new LowerFile(at, name, status);
            }

            errno = LowerHandle.Open(at.Handle, name, OpenFlags.Directory, out LowerHandle? below);
            at.Dispose();
            Failure.ThrowIf(errno, "open", path);
            at = below!;
        }

        at.Dispose();
        return null;
    }

    // What the layer has hides what those below have, whatever its directories say of them: no need to ask each.
    private LowerFile? Have(RootDirectory layer, byte[] path)
    {
        EntryPath parts = EntryPath.Of(path);
        if (parts.Parent.Length == 0 || layer.OpenBelow(layer.Handle, parts.Parent, out SafeFileHandle? parent) != 0)
        {
            return null;
        }

        byte[] name = EntryPath.Terminated(parts.Base);
        LowerHandle opened = new(parent!);
        if (opened.TryStatusAt(name, out FileStatus status) == 0 && !OverlayMarks.IsWhiteout(opened.Handle, name, status, style))
        {
            return new LowerFile(opened, name, status);
        }

        opened.Dispose();
        return null;
    }
}
