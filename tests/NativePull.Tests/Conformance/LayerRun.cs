using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>An image in a layout, made into each output by the published executable: what a user would see of it.</summary>
internal sealed class LayerRun : IDisposable
{
    private const string Layout = "layout";

    private readonly TemporaryDirectory work = new();

    internal LayerRun(params IEnumerable<LayoutLayer> layers) => LayoutDirectory.Write(work[Layout], "1", layers);

    internal string this[string below] => work[below];

    internal string Path => work.Path;

    /// <summary>Off: the kernel has no openat2, as the executable sees it.</summary>
    internal bool OpenAt2 { get; init; } = true;

    /// <summary>The three outputs of one call: <c>r</c>, <c>l</c> and <c>x</c>.</summary>
    internal Task<BinaryResult> ExtractAsync(params string[] options) =>
        RunAsync(["--rootfs", work["r"], "--layers", work["l"], "--tar", work["x"], .. options]);

    internal Task<BinaryResult> RunAsync(params string[] options) => FilteredCallsTests.RunAsync(OpenAt2, Arguments(options));

    /// <summary>With the peak of its memory, for <see cref="Binary.PeakOf"/>.</summary>
    internal Task<BinaryResult> MeasureAsync(params string[] options) => Binary.MeasuredAsync(Arguments(options));

    /// <summary>Makes the three outputs and asserts that each is the tree; the archive is unpacked by GNU tar. The root counts where it is named.</summary>
    internal async Task AssertTreeAsync(IReadOnlyList<TreeEntry> tree, params string[] options)
    {
        (await ExtractAsync(options)).Expect(0);

        AwkwardTree.Run(work.Path, "mkdir t; tar -x -p --numeric-owner --xattrs --xattrs-include='*' --delay-directory-restore -C t -f x");
        string[] expected = [.. tree.Select(entry => entry.ToString()).Order(StringComparer.Ordinal)];
        Assert.Equal(expected, Lines(work["r"]));
        Assert.Equal(expected, Lines(work["t"]));
        Assert.Equal(expected, Lines(Assert.Single(Directory.GetDirectories(work["l"]))));

        string[] Lines(string root) => [.. TreeListing.Of(root).Entries
            .Where(entry => entry.Path != "." || tree.Any(each => each.Path == "."))
            .Select(entry => entry.ToString()).Order(StringComparer.Ordinal)];
    }

    /// <summary>
    /// Asserts that neither the trees nor the archive can be had: the exit code, one line that says all of <paramref name="says"/>, and nothing left, neither
    /// at the destinations nor beside them.
    /// </summary>
    internal async Task AssertRefusedAsync(int code, IReadOnlyList<string> says, params string[] options)
    {
        foreach (string[] output in new string[][] { ["--rootfs", work["r"]], ["--layers", work["l"]], ["--tar", work["x"]] })
        {
            AssertRefused(await RunAsync([.. output, .. options]), code, says);
        }
    }

    internal void AssertRefused(BinaryResult result, int code, IReadOnlyList<string> says)
    {
        string[] lines = [.. result.Expect(code).Error.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !line.StartsWith("peak ", StringComparison.Ordinal) && !line.StartsWith("Command exited ", StringComparison.Ordinal))];
        string line = Assert.Single(lines);
        Assert.StartsWith("nativepull: ", line, StringComparison.Ordinal);
        Assert.All(says, part => Assert.Contains(part, line, StringComparison.Ordinal));
        Assert.Equal("", result.Out);
        Assert.Equal([Layout], work.Names);
    }

    public void Dispose() => work.Dispose();

    private string[] Arguments(string[] options) => ["extract", $"oci:{work[Layout]}", "-q", "--platform", "linux/amd64", .. options];
}

/// <summary>What a tree is expected to hold, in the words of <see cref="TreeListing"/>; what is not said is usual: 0644, 0755 or a link's 0777, root's, time 0.</summary>
internal static class Expected
{
    internal static TreeEntry File(
        string path, Bytes content = default, uint mode = 0x1A4, uint uid = 0, uint gid = 0, string time = "0", string xattrs = "", string linkedTo = "") => new(
        path, 'f', mode, uid, gid, content.Value.Length, Time(time), Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(content.Value)), linkedTo, xattrs);

    internal static TreeEntry Directory(string path, uint mode = 0x1ED, uint uid = 0, uint gid = 0, string time = "0", string xattrs = "") =>
        new(path, 'd', mode, uid, gid, 0, Time(time), "", "", xattrs);

    internal static TreeEntry Link(string path, string target, uint uid = 0, uint gid = 0, string time = "0", string linkedTo = "") =>
        new(path, 'l', 0x1FF, uid, gid, target.Length, Time(time), $"-> {target}", linkedTo, "");

    // "1.5": one second and a half; the fraction counts forward from the second also before 1970
    private static string Time(string time)
    {
        string[] parts = time.Split('.');
        return $"{parts[0]}.{(parts.Length == 1 ? "" : parts[1]).PadRight(9, '0')}";
    }
}
