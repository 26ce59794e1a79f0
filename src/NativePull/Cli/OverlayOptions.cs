using System.Text;

namespace NativePull.Cli;

/// <summary>
/// The options of an overlay mount that name its layers. A list in one <c>lowerdir=</c> is what every kernel takes, but mount(8) of util-linux 2.39 and
/// later hands each option over by fsconfig(2), which takes 255 bytes (fs/fsopen.c), and mount(2) takes a page of all of them. From Linux 6.8 on, each
/// layer can be an option of its own, <c>lowerdir+=</c>, which both calls take (Documentation/filesystems/overlayfs.rst).
/// </summary>
internal static class OverlayOptions
{
    // Bytes; fsconfig(2) copies 256 with the terminating one.
    private const int LongestValue = 255;

    private static readonly Version ManyOptions = new(6, 8);

    /// <summary>Top first. What exceeds a page is printed all the same: only a mount(8) that uses fsconfig(2) can hand that over.</summary>
    /// <param name="bottomFirst">Absolute paths.</param>
    /// <param name="kernel">Where it is to be mounted.</param>
    internal static string Lower(IReadOnlyList<string> bottomFirst, Version kernel)
    {
        IEnumerable<string> topFirst = Enumerable.Reverse(bottomFirst);
        // a colon or backslash in a path is escaped in a list (fs/overlayfs/params.c)
        string list = string.Join(':', topFirst.Select(path => path.Replace(@"\", @"\\", StringComparison.Ordinal).Replace(":", @"\:", StringComparison.Ordinal)));
        bool fits = Encoding.UTF8.GetByteCount(list) <= LongestValue;
        // in single options mount(8) and the kernel disagree about what would have to be escaped
        bool isPlain = bottomFirst.All(path => path.AsSpan().IndexOfAny(@"\,:""") < 0);
        return fits || kernel < ManyOptions || !isPlain ? "lowerdir=" + list : string.Join(',', topFirst.Select(path => "lowerdir+=" + path));
    }
}
