namespace NativePull.Tests.Conformance;

/// <summary>The model's verdict that an archive is to be refused, and the rule by which.</summary>
internal sealed class RefusedException(int entry, string rule) : Exception(rule)
{
    /// <summary>Its position in its layer.</summary>
    internal int Entry { get; } = entry;

    /// <summary>The specification allows both; such archives are not compared.</summary>
    internal bool IsUndetermined { get; init; }
}

/// <summary>Where the specification is silent or forbids what an archive does, and the model follows a choice of ours.</summary>
internal enum Choice
{
    /// <summary>A parent that nothing lists, made with the defaults.</summary>
    ImpliedParent,

    /// <summary>A parent that is there and is no directory, replaced by one.</summary>
    ReplacedParent,

    /// <summary>A parent that is a symbolic link of the same layer.</summary>
    FollowedLink,

    /// <summary><see cref="ImpliedParent"/> in a directory whose group its children inherit by themselves.</summary>
    ImpliedInGroupDirectory,

    /// <summary>A marker after entries of its layer.</summary>
    LateMarker,

    /// <summary>A marker in a directory that the layers below do not have.</summary>
    MarkerWithoutDirectory,

    /// <summary>Names of aufs's own.</summary>
    AufsMetadata,

    /// <summary>A path twice in a layer.</summary>
    Duplicate,

    /// <summary>A hard link to its own inode.</summary>
    LinkToItself,

    /// <summary>A hard link into a lower layer.</summary>
    LinkIntoLowerLayer,
}
