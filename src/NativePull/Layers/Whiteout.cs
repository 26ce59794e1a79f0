namespace NativePull.Layers;

/// <summary>What a name says about removal (image-spec, layer.md, "Whiteouts").</summary>
internal enum WhiteoutKind
{
    /// <summary>An ordinary name.</summary>
    None,

    /// <summary>Removes one name of the lower layers.</summary>
    Name,

    /// <summary>Hides all that lower layers have in the directory.</summary>
    Opaque,

    /// <summary>Metadata of aufs, which first had this scheme; means nothing here.</summary>
    Ignored,
}

/// <summary>The names with the prefix <c>.wh.</c>.</summary>
internal static class Whiteout
{
    /// <exception cref="PullException">UnsafeEntry: below a whiteout, where nothing can be.</exception>
    internal static WhiteoutKind KindOf(EntryPath path)
    {
        if (path.Parent.StartsWith(".wh."u8) || path.Parent.IndexOf("/.wh."u8) >= 0)
        {
            // what aufs keeps in directories of its own
            return path.Parent.StartsWith(".wh..wh."u8) || path.Parent.IndexOf("/.wh..wh."u8) >= 0
                ? WhiteoutKind.Ignored
                : throw new PullException(PullError.UnsafeEntry, $"archive: {TarText.Show(path.Full)} is below a whiteout");
        }

        return !path.Base.StartsWith(".wh."u8) ? WhiteoutKind.None
            : path.Base.SequenceEqual(".wh..wh..opq"u8) ? WhiteoutKind.Opaque
            : path.Base.StartsWith(".wh..wh."u8) ? WhiteoutKind.Ignored
            : WhiteoutKind.Name;
    }

    /// <summary>The name removed.</summary>
    /// <exception cref="PullException">UnsafeEntry: it removes nothing, the directory or its parent.</exception>
    internal static ReadOnlySpan<byte> Removed(ReadOnlySpan<byte> name, ReadOnlySpan<byte> path)
    {
        ReadOnlySpan<byte> removed = name[4..];
        return removed.Length == 0 || removed.SequenceEqual("."u8) || removed.SequenceEqual(".."u8)
            ? throw new PullException(PullError.UnsafeEntry, $"archive: the whiteout {TarText.Show(path)} removes \"{TarText.Show(removed)}\", which is refused")
            : removed;
    }
}
