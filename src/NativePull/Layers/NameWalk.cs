namespace NativePull.Layers;

/// <summary>
/// The way to a name, component by component, with the targets of links put in their place as text. "" and "." are passed over; what ".." means is said by
/// <see cref="IsUp"/>.
/// </summary>
internal ref struct NameWalk(ReadOnlySpan<byte> path)
{
    // Links in one path, as the kernel's own limit (path_resolution(7)).
    private const int MaximumLinks = 40;

    private readonly ReadOnlySpan<byte> path = path;
    private ReadOnlySpan<byte> below = path;
    private int links;

    internal ReadOnlySpan<byte> Component { get; private set; }

    /// <summary>From the component on.</summary>
    internal ReadOnlySpan<byte> Rest { get; private set; }

    internal readonly bool IsUp => Component.SequenceEqual(".."u8);

    /// <exception cref="PullException">LimitPassed: a component that is longer than any name can be.</exception>
    internal bool MoveNext()
    {
        while (below.Length > 0)
        {
            Rest = below;
            int slash = below.IndexOf((byte)'/');
            Component = slash < 0 ? below : below[..slash];
            below = slash < 0 ? default : below[(slash + 1)..];
            if (Component.Length > 0 && !Component.SequenceEqual("."u8))
            {
                EntryPath.CheckLength(Component, path);
                return true;
            }
        }

        return false;
    }

    /// <summary>The component is a link: what it says comes next, then what was below it.</summary>
    /// <returns>Whether it leads on from the root.</returns>
    /// <exception cref="PullException">UnsafeEntry: more links than the kernel would follow.</exception>
    internal bool Follow(ReadOnlySpan<byte> target)
    {
        if (++links > MaximumLinks)
        {
            throw new PullException(PullError.UnsafeEntry, $"archive: the way to {TarText.Show(path)} leads through more than 40 links");
        }

        bool fromRoot = target[0] == '/';
        below = (byte[])[.. target, (byte)'/', .. below];
        return fromRoot;
    }
}
