using System.Globalization;

namespace NativePull.Layers;

/// <summary>What becomes of an image's owners under <c>--ownership map</c>, by <c>--uid-map</c> and <c>--gid-map</c>.</summary>
internal sealed class OwnerMap(IReadOnlyList<IdRange> users, IReadOnlyList<IdRange> groups)
{
    /// <param name="what">For the message: what the entry has to do with the user.</param>
    /// <exception cref="PullException">Unsupported: no range has it.</exception>
    internal uint User(uint id, string what, ReadOnlySpan<byte> path) => TryUser(id) ?? throw Unmapped(id, $"{what} user", "--uid-map", path);

    /// <inheritdoc cref="User"/>
    internal uint Group(uint id, string what, ReadOnlySpan<byte> path) => TryGroup(id) ?? throw Unmapped(id, $"{what} group", "--gid-map", path);

    internal uint? TryUser(uint id) => Find(id, users);

    internal uint? TryGroup(uint id) => Find(id, groups);

    private static uint? Find(uint id, IReadOnlyList<IdRange> ranges)
    {
        foreach (IdRange range in ranges)
        {
            if (id >= range.Container && id - range.Container < range.Count)
            {
                return range.Host + (id - range.Container);
            }
        }

        return null;
    }

    private static PullException Unmapped(uint id, string what, string option, ReadOnlySpan<byte> path) =>
        new(PullError.Unsupported, $"archive: {TarText.Show(path)} {what} {id.ToString(CultureInfo.InvariantCulture)}, which no {option} has");
}
