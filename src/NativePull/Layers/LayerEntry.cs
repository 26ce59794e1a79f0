namespace NativePull.Layers;

/// <summary>What an entry asks of the tree that layers make together (image-spec, layer.md).</summary>
internal enum LayerRule
{
    /// <summary>Nothing: metadata of aufs, which first had the names with <c>.wh.</c>.</summary>
    Nothing,

    /// <summary>The root's own mode, owner and attributes.</summary>
    DescribeRoot,

    /// <summary>A name of this layer.</summary>
    Make,

    /// <summary>One name of the lower layers is removed: <see cref="LayerEntry.Removed"/>, in the parent.</summary>
    RemoveLower,

    /// <summary>All that lower layers have in the parent is hidden.</summary>
    HideLower,
}

/// <summary>An entry as the rules read its name, the same for every target: files, an overlay's layer, an archive.</summary>
internal readonly ref struct LayerEntry
{
    private LayerEntry(LayerRule rule, EntryPath path, ReadOnlySpan<byte> removed = default)
    {
        Rule = rule;
        Path = path;
        Removed = removed;
    }

    internal LayerRule Rule { get; }

    internal EntryPath Path { get; }

    /// <summary>Of <see cref="LayerRule.RemoveLower"/>, one component.</summary>
    internal ReadOnlySpan<byte> Removed { get; }

    /// <exception cref="PullException">
    /// UnsafeEntry: it would replace the root, is below a whiteout, where nothing can be, or is one that removes nothing, the directory or its parent.
    /// </exception>
    internal static LayerEntry Of(TarEntry entry)
    {
        EntryPath path = EntryPath.Of(entry.Name);
        if (path.IsRoot)
        {
            return entry.Kind == TarEntryKind.Directory ? new LayerEntry(LayerRule.DescribeRoot, path) : throw Failure.ReplacesRoot(entry);
        }

        if (path.Parent.StartsWith(".wh."u8) || path.Parent.IndexOf("/.wh."u8) >= 0)
        {
            // what aufs keeps in directories of its own
            return path.Parent.StartsWith(".wh..wh."u8) || path.Parent.IndexOf("/.wh..wh."u8) >= 0
                ? new LayerEntry(LayerRule.Nothing, path)
                : throw new PullException(PullError.UnsafeEntry, $"archive: {TarText.Show(path.Full)} is below a whiteout");
        }

        return !path.Base.StartsWith(".wh."u8) ? new LayerEntry(LayerRule.Make, path)
            : path.Base.SequenceEqual(".wh..wh..opq"u8) ? new LayerEntry(LayerRule.HideLower, path)
            : path.Base.StartsWith(".wh..wh."u8) ? new LayerEntry(LayerRule.Nothing, path)
            : new LayerEntry(LayerRule.RemoveLower, path, RemovedBy(path));
    }

    private static ReadOnlySpan<byte> RemovedBy(EntryPath path)
    {
        ReadOnlySpan<byte> removed = path.Base[EntryPath.WhiteoutPrefix..];
        return removed.Length == 0 || removed.SequenceEqual("."u8) || removed.SequenceEqual(".."u8)
            ? throw new PullException(PullError.UnsafeEntry, $"archive: the whiteout {TarText.Show(path.Full)} removes \"{TarText.Show(removed)}\", which is refused")
            : removed;
    }
}
