using System.Runtime.CompilerServices;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Conformance;

/// <summary>The kept archives of tests/NativePull.Tests/Golden; its README tells their origin.</summary>
public class GoldenTests
{
    public static TheoryData<string> Archives
    {
        get
        {
            string[] archives = [.. Directory.GetFiles(Golden(), "*.tar.gz").Select(file => Path.GetFileName(file)).Order(StringComparer.Ordinal)];
            Assert.NotEmpty(archives);
            return [.. archives];
        }
    }

    [Theory]
    [MemberData(nameof(Archives))]
    public async Task A_kept_archive_becomes_its_listing(string archive)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and devices need root");
        using TemporaryDirectory work = new();
        string tree = archive[..archive.IndexOf('.', StringComparison.Ordinal)];

        await TarDialectTests.ExtractAsync(Path.Combine(Golden(), archive), work["out"]);

        AwkwardTree.Run(work.Path, $"'{Golden()}/make.sh' --list out >listing; diff '{Golden()}/{tree}.listing' listing");
    }

    private static string Golden([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../Golden"));
}
