using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What a layer's whiteouts do: flat, they remove what the layers below have made; in an overlay's layer they become overlayfs's own.</summary>
internal sealed class LowerRemoval(LayerDirectories directories, bool overlay)
{
    /// <summary>".wh.NAME": what lower layers have under the name goes; what this layer has put there stays.</summary>
    internal void Remove(TouchedDirectory parent, byte[] name)
    {
        TouchedDirectory? ours = directories.Known(parent, name);
        if (ours is { Holds: true })
        {
            ours.IsNew = true;
            Hide(ours);
            return;
        }

        if (ours is not null || !directories.IsWritten(parent, name))
        {
            directories.Remove(parent, name);
        }

        if (overlay)
        {
            directories.MakeWhiteout(parent, name);
        }
    }

    /// <summary>The opaque marker: everything lower layers have in the directory is hidden, at any depth.</summary>
    internal void Hide(TouchedDirectory top)
    {
        if (overlay)
        {
            directories.MakeOpaque(top);
            return;
        }

        Stack<TouchedDirectory> pending = new([top]);
        while (pending.TryPop(out TouchedDirectory? directory))
        {
            string shown = TarText.Show(directory.Path);
            Libc.Rewind(directories.Open(directory));
            while (Libc.NextNames(directories.Open(directory), shown) is { Count: > 0 } names)
            {
                foreach ((byte[] name, _) in names)
                {
                    TouchedDirectory? ours = directories.Known(directory, name);
                    if (ours is { Holds: true })
                    {
                        ours.IsNew = true;
                        pending.Push(ours);
                    }
                    else if (ours is not null || !directories.IsWritten(directory, name))
                    {
                        directories.Remove(directory, name);
                    }
                }
            }
        }
    }
}
