using System.IO.Compression;
using System.Runtime.CompilerServices;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The published executable, compiled ahead of time, beside what the other tests hold against the same code run by the runtime: kept archives of every
/// dialect, and stacks of layers from a seed, as every output.
/// </summary>
public sealed class ExecutableTests
{
    private const int Stacks = 60;

    [Fact]
    public async Task Kept_archives_of_every_dialect_become_their_listings()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and devices need root");
        foreach (string archive in Directory.GetFiles(Golden(), "*.tar.gz"))
        {
            using TemporaryDirectory work = new();
            using GZipStream gzip = new(File.OpenRead(archive), CompressionMode.Decompress);
            using MemoryStream tar = new();
            await gzip.CopyToAsync(tar, TestContext.Current.CancellationToken);
            LayoutDirectory.Write(work["layout"], "1", [tar.ToArray()]);
            string listing = $"{Golden()}/{Path.GetFileName(archive).Split('.')[0]}.listing";

            (await Extract(work.Path)).Expect(0);

            AwkwardTree.Run(work.Path, $"mkdir t; tar -x -p --numeric-owner --xattrs --xattrs-include='*' -C t -f x; '{Golden()}/make.sh' --list r >rl; '{Golden()}/make.sh' --list l/* >ll; '{Golden()}/make.sh' --list t >tl");
            foreach (string made in new[] { "rl", "ll", "tl" })
            {
                AwkwardTree.Run(work.Path, $"diff '{listing}' {made}");
            }
        }
    }

    [Fact]
    public void Generated_stacks_become_the_trees_of_the_model()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting an overlay and making devices needs root");
        int seed = DifferentialSetup.Setting("NATIVEPULL_DIFF_SEED", 1) + 700_000;
        for (int each = seed; each < seed + Stacks; each++)
        {
            List<IReadOnlyList<ModelEntry>> stack = LayerStackGenerator.Generate(each);
            DifferentialSetup.InWorkDirectory("executable", directory => Compare(stack, each, directory));
        }
    }

    private static void Compare(List<IReadOnlyList<ModelEntry>> stack, int seed, string directory)
    {
        LayoutDirectory.Write(Path.Combine(directory, "layout"), "1", stack.Select(LayerArchive.Of));
        BinaryResult result = Extract(directory, openat2: seed % 2 == 0).GetAwaiter().GetResult();
        LayerModel model;
        try
        {
            model = LayerModel.Of(stack);
        }
        catch (RefusedException refused)
        {
            Assert.True(refused.IsUndetermined || result.Code is 6 or 7 or 8, $"seed {seed}: {refused.Message}, exit code {result.Code}: {result.Error}");
            return;
        }

        Assert.True(result.Code == 0, $"seed {seed}: {result.Error}\n{DifferentialSetup.Show(stack)}");
        AwkwardTree.Run(directory, "mkdir t m empty; tar -x -p --numeric-owner --xattrs --xattrs-include='*' --delay-directory-restore -C t -f x");
        MountNamespace.MountOverlay(
            Path.Combine(directory, "m"),
            [.. Directory.GetDirectories(Path.Combine(directory, "l")).OrderDescending(StringComparer.Ordinal), Path.Combine(directory, "empty")],
            "");
        try
        {
            Same(model.Describe(layered: false), "r");
            Same(model.Describe(layered: false), "t");
            Same(model.Describe(layered: true), "m");
        }
        finally
        {
            MountNamespace.Unmount(Path.Combine(directory, "m"));
        }

        void Same(SortedDictionary<string, string> expected, string tree)
        {
            IReadOnlyList<string> differences = TreeText.Differences("model", expected, tree, FileTree.Read(Path.Combine(directory, tree)));
            Assert.True(differences.Count == 0, $"seed {seed}:\n{string.Join('\n', differences)}\n{DifferentialSetup.Show(stack)}");
        }
    }

    private static Task<BinaryResult> Extract(string work, bool openat2 = true) => FilteredCallsTests.RunAsync(
        openat2, "extract", $"oci:{work}/layout", "-q", "--platform", "linux/amd64", "--whiteouts", "overlay", "--rootfs", $"{work}/r", "--layers", $"{work}/l", "--tar", $"{work}/x");

    private static string Golden([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../Golden"));
}
