using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What a layer's whiteouts do: flat, they remove what the layers below have made; in an overlay's layer they become overlayfs's own.</summary>
/// <param name="pool">Takes what remains to be gone through: a directory may hold a million others.</param>
internal sealed class LowerRemoval(LayerDirectories directories, bool overlay, SpillPool pool)
{
    /// <summary>".wh.NAME": what lower layers have under the name goes; what this layer has put there stays.</summary>
    internal void Remove(TouchedDirectory parent, byte[] name)
    {
        TouchedDirectory? ours = directories.Known(parent, name);
        if (ours is { Holds: true })
        {
            Hide(ours);
            ours.IsNew = true;
            return;
        }

        if (ours is not null || !directories.IsWritten(parent, name))
        {
            directories.Remove(parent, name);
        }

        if (overlay)
        {
            directories.Marks.MakeWhiteout(parent, name);
        }
    }

    /// <summary>The opaque marker: everything lower layers have in the directory is hidden, at any depth.</summary>
    internal void Hide(TouchedDirectory top)
    {
        if (overlay)
        {
            directories.Marks.MakeOpaque(top);
            return;
        }

        // what is new has nothing of a lower layer in it, nor has what was hidden before; markers cost an archive nothing, and each would go through all of it
        if (top.IsNew || top.IsOpaque)
        {
            return;
        }

        top.IsOpaque = true;
        SpilledList<int> pending = new(pool);
        pending.Add(top.Number);
        while (pending.Count > 0)
        {
            TouchedDirectory directory = directories.Touched.At(pending.Pop());
            string shown = TarText.Show(directory.Shown);
            Libc.Rewind(directories.Open(directory), shown);
            while (Libc.NextNames(directories.Open(directory), shown) is { Count: > 0 } names)
            {
                foreach ((byte[] name, _) in names)
                {
                    TouchedDirectory? ours = directories.Known(directory, name);
                    if (ours is { Holds: true })
                    {
                        if (!ours.IsNew && !ours.IsOpaque)
                        {
                            pending.Add(ours.Number);
                        }

                        ours.IsNew = true;
                    }
                    else if (ours is not null || !directories.IsWritten(directory, name))
                    {
                        directories.Remove(directory, name);
                    }
                }
            }
        }

        pending.Clear();
    }
}
