namespace NativePull.Layers;

/// <summary>
/// The way to a name, component by component, with the targets of links put in their place as text. "" and "." are passed over; what ".." means is said by
/// <see cref="IsUp"/>. Whoever walks says where a component is not there; what comes after it is not there either, until ".." has led back, so that nothing
/// has to be made on the way that the name does not lie in.
/// </summary>
/// <param name="takeSteps">Told how many components a link adds to the way: an entry of a few bytes can have 40 links of thousands.</param>
internal ref struct NameWalk(ReadOnlySpan<byte> path, Action<int> takeSteps)
{
    // Links in one path, as the kernel's own limit (path_resolution(7)).
    private const int MaximumLinks = 40;

    private readonly ReadOnlySpan<byte> path = path;
    private ReadOnlySpan<byte> below = path;
    private List<byte[]>? missing;
    private int links;

    internal ReadOnlySpan<byte> Component { get; private set; }

    internal readonly bool IsUp => Component.SequenceEqual(".."u8);

    /// <summary>At the end of the way: the directories that are not there, from the last one that is; no ".." among them.</summary>
    internal readonly IReadOnlyList<byte[]> Missing => missing ?? [];

    /// <summary>In the place of the first of them is something else.</summary>
    internal bool IsBlocked { get; private set; }

    /// <summary>Goes to the next component that has to be looked for where the walk is.</summary>
    /// <exception cref="PullException">LimitPassed: a component that is longer than any name can be; UnsafeEntry: one that is a whiteout's.</exception>
    internal bool MoveNext()
    {
        while (below.Length > 0)
        {
            int slash = below.IndexOf((byte)'/');
            Component = slash < 0 ? below : below[..slash];
            below = slash < 0 ? default : below[(slash + 1)..];
            if (Component.Length == 0 || Component.SequenceEqual("."u8))
            {
                continue;
            }

            EntryPath.CheckLength(Component, path);
            if (Component.StartsWith(".wh."u8))
            {
                // an entry's own name was seen to before, so it is a link's target: what it made would be a whiteout to whoever packs the tree again
                throw new PullException(PullError.UnsafeEntry, $"archive: the way to {TarText.Show(path)} leads through {TarText.Show(Component)}, a whiteout's name");
            }

            if (missing is not { Count: > 0 })
            {
                return true;
            }

            if (IsUp)
            {
                missing.RemoveAt(missing.Count - 1);
            }
            else
            {
                missing.Add(Component.ToArray());
            }
        }

        return false;
    }

    /// <summary>There is no directory and no link to follow where the component should be.</summary>
    /// <param name="isBlocked">But something else is.</param>
    internal void Miss(bool isBlocked)
    {
        (missing ??= []).Add(Component.ToArray());
        IsBlocked = isBlocked;
    }

    /// <summary>The component is a link: what it says comes next, then what was below it.</summary>
    /// <returns>Whether it leads on from the root.</returns>
    /// <exception cref="PullException">UnsafeEntry: more links than the kernel would follow; LimitPassed: more components than all ways may have.</exception>
    internal bool Follow(ReadOnlySpan<byte> target)
    {
        if (++links > MaximumLinks)
        {
            throw new PullException(PullError.UnsafeEntry, $"archive: the way to {TarText.Show(path)} leads through more than 40 links");
        }

        takeSteps(target.Count((byte)'/') + 1);
        bool fromRoot = target[0] == '/';
        below = (byte[])[.. target, (byte)'/', .. below];
        return fromRoot;
    }
}
