using System.Text.RegularExpressions;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>In which order the published executable asks the kernel for what an entry is, as strace(1) sees it.</summary>
public sealed partial class CallOrderTests
{
    [Fact]
    public async Task Setuid_comes_after_content_and_owner_and_the_root_opens_last()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and devices need root");
        byte[] tar = new TarBuilder().Directory("./", mode: 0x1FF).File("su", Bytes.Repeat('x', 300_000), mode: 0x9ED, uid: 5).CharacterDevice("null", 1, 3).End().ToArray();
        using LayerRun run = new(LayoutLayer.Of(tar));

        BinaryResult traced = await Binary.ProgramAsync(
            "strace", "-f", "-y", "-e", "trace=openat,pwrite64,fchown,fchownat,fchmod,fchmodat,mknodat,rename", "-o", run["calls"],
            Binary.File, "extract", $"oci:{run.Path}/layout", "-q", "--platform", "linux/amd64", "--rootfs", run["r"]);
        Assert.SkipUnless(!traced.Error.Contains("ptrace", StringComparison.Ordinal), "strace may not be used here");
        traced.Expect(0);

        string[] calls = [.. (await File.ReadAllLinesAsync(run["calls"], TestContext.Current.CancellationToken)).Select(Short).Where(call => call.Length > 0)];
        Assert.Equal(
            ["root 0700", "open su 0600", "write su", "owner su", "mode su 04755", "make null 0600", "owner null", "root 0777", "publish"],
            calls.Where((call, i) => i == 0 || call != calls[i - 1]).SkipWhile(call => call != "root 0700"));
    }

    private static string Short(string line)
    {
        Match mode = Mode().Match(line);
        return line.Contains("pwrite64(", StringComparison.Ordinal) && line.Contains("/su>", StringComparison.Ordinal) ? "write su"
            : line.Contains("\"su\", O_WRONLY", StringComparison.Ordinal) ? "open su 0600"
            : line.Contains("fchown(", StringComparison.Ordinal) && line.Contains("/su>", StringComparison.Ordinal) ? "owner su"
            : line.Contains("mknodat(", StringComparison.Ordinal) ? "make null " + (line.Contains("S_IFCHR|0600", StringComparison.Ordinal) ? "0600" : line)
            : line.Contains("fchownat(", StringComparison.Ordinal) && line.Contains("\"null\"", StringComparison.Ordinal) ? "owner null"
            : mode.Success ? $"{(mode.Groups["name"].Value == "su" ? "mode su" : "root")} {mode.Groups["mode"].Value}"
            : line.Contains("rename(", StringComparison.Ordinal) ? "publish"
            : "";
    }

    [GeneratedRegex("fchmod\\([0-9]+<[^>]*/(?<name>[^/>]+)>, (?<mode>[0-7]+)\\)")]
    private static partial Regex Mode();
}
