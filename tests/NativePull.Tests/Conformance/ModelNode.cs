namespace NativePull.Tests.Conformance;

/// <summary>The copy of a file in one layer's directory.</summary>
internal sealed class ModelCopy(int layer)
{
    internal int Layer { get; } = layer;
}

/// <summary>A name in a directory.</summary>
internal sealed class ModelNode(ModelInode body, int layer)
{
    internal ModelInode Body { get; } = body;

    /// <summary>The one that made the name.</summary>
    internal int Layer { get; } = layer;

    internal ModelCopy Copy { get; set; } = new(layer);

    internal Dictionary<string, ModelNode> Children { get; } = [];

    internal bool IsDirectory => Body.Kind == EntryKind.Directory;

    internal static ModelNode ImpliedDirectory() => new(new ModelInode(new ModelEntry(EntryKind.Directory, "") { Mode = 0x1ED }, 0), 0);
}

/// <summary>What hard links share.</summary>
internal sealed class ModelInode(ModelEntry entry, int layer)
{
    private ModelEntry attributes = entry;

    internal int Layer { get; } = layer;

    internal EntryKind Kind => attributes.Kind;

    internal string Target => attributes.Target;

    internal int Mode => attributes.Mode;

    internal void ReplaceAttributes(ModelEntry entry) => attributes = entry;

    internal string Describe()
    {
        string what = Kind switch
        {
            EntryKind.File => $"file {TreeText.Content(attributes.Content())}",
            EntryKind.Directory => "directory",
            EntryKind.SymbolicLink => $"link to '{TreeText.Show(attributes.Target)}'",
            EntryKind.Fifo => "fifo",
            EntryKind.CharacterDevice => $"character {attributes.Major}:{attributes.Minor}",
            EntryKind.BlockDevice => $"block {attributes.Major}:{attributes.Minor}",
            _ => throw new InvalidOperationException($"{Kind} is no inode"),
        };
        // the mode of a symbolic link is 0777 on Linux whatever one asks for; symlink(7)
        int mode = Kind == EntryKind.SymbolicLink ? 0x1FF : attributes.Mode;
        return $"{what} {TreeText.Octal(mode)} {attributes.Uid}:{attributes.Gid} {TreeText.Time(attributes.Seconds, attributes.Nanoseconds)}"
            + TreeText.Xattrs(attributes.Xattrs);
    }
}
