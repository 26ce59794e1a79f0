using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The model and one flat extraction against umoci, which was written by an editor of the specification: on generated stacks without what is listed
/// as a disagreement, and on each disagreement's own example, which must still show it. Times of directories are left out: umoci gives those that
/// nothing lists, and those it makes something in, the time of the extraction; the specification is silent, we keep what the layers say.
/// </summary>
public sealed class UmociTests(ITestOutputHelper output)
{
    private const int Stacks = 60;

    // What umoci does otherwise, and why we do not. For containerd see ContainerdTests, for crane tests/README.md. Others, by their sources and by
    // measurements, not run here:
    // - Docker's overlay2 and containers-storage: as we do in the first row. They refuse hard links into lower layers ("may fail") and give times before 1970
    //   as 0; containers-storage gives directories that only a lower layer lists 0755 0:0 in the upper one, so that a mount shows that.
    private static readonly Disagreement[] Disagreements =
    [
        new(
            "a link of a lower layer on the way: umoci follows it, we put a directory there, like every store of per-layer directories",
            "In all other cases, the implementation MUST do the semantic equivalent of … removing the file path … recreating the file path",
            [[new(EntryKind.Directory, "usr"), new(EntryKind.SymbolicLink, "lib") { Target = "usr" }], [new(EntryKind.File, "lib/x")]],
            choice => choice == Choice.ReplacedParent),
        new(
            "a file on the way: umoci fails",
            "In all other cases, the implementation MUST do the semantic equivalent of … removing the file path … recreating the file path",
            [[new(EntryKind.File, "a")], [new(EntryKind.File, "a/b")]],
            choice => choice == Choice.ReplacedParent),
        new(
            "a marker through a link of its own layer: umoci removes what the link leads to, if the link comes first",
            "applied first, before creating the new version …, regardless of the ordering in which the whiteout file was encountered",
            [
                [new(EntryKind.File, "c/b")],
                [new(EntryKind.SymbolicLink, "a") { Target = "c" }, new(EntryKind.File, "a/.wh..wh..opq")],
            ],
            choice => choice == Choice.MarkerWithoutDirectory),
        new(
            "a whiteout after what replaces the removed directory: umoci keeps the old directory's mode and owner for the new one",
            "applied first, before creating the new version …, regardless of the ordering in which the whiteout file was encountered",
            [[new(EntryKind.Directory, "a") { Mode = 0x1C0 }], [new(EntryKind.File, "a/b"), new(EntryKind.File, ".wh.a")]],
            choice => choice == Choice.LateMarker),
        new(
            "a directory that nothing lists, in a directory with the group bit: umoci lets it inherit group and bit",
            "silent; a directory's attributes come from entries, and the same image gives the same tree",
            [[new(EntryKind.Directory, "a") { Mode = 0x5ED, Gid = 7 }, new(EntryKind.File, "a/b/c")]],
            choice => choice == Choice.ImpliedInGroupDirectory),
        new(
            "what is below aufs's .wh..wh.plnk: umoci makes it",
            "it is not possible to create a filesystem which has a file or directory with a name beginning with .wh.",
            [[new(EntryKind.File, ".wh..wh.plnk/1.2")]],
            choice => choice == Choice.AufsMetadata),
        new(
            "a hard link to itself: umoci removes it first and then fails",
            "Hardlinked files … have the same inode: the name has it already",
            [[new(EntryKind.File, "a"), new(EntryKind.HardLink, "a") { Target = "a" }]],
            choice => choice == Choice.LinkToItself),
        new(
            "extended attributes without a value: umoci leaves them out",
            "MUST include file attributes … Extended Attributes",
            [[new(EntryKind.File, "a") { Xattrs = [("user.x", [])] }]],
            _ => false),
        new(
            "a directory that nothing lists, in one with a default ACL: umoci lets it inherit that",
            "silent; a directory's attributes come from entries, and the same image gives the same tree",
            [[new(EntryKind.Directory, "a") { Xattrs = [("system.posix_acl_default", LayerStackGenerator.DefaultAcl)] }, new(EntryKind.File, "a/b/c")]],
            _ => false),
        new(
            "extended attributes of overlayfs: umoci leaves them out",
            "MUST include file attributes … Extended Attributes",
            [[new(EntryKind.File, "a") { Xattrs = [("trusted.overlay.opaque", [1])] }]],
            _ => false),
    ];

    public static TheoryData<string> Names => [.. Disagreements.Select(disagreement => disagreement.Name)];

    [Fact]
    public void Umoci_makes_the_same_tree_of_generated_stacks_without_the_listed_disagreements()
    {
        SkipUnlessPossible();
        int count = DifferentialSetup.Setting("NATIVEPULL_DIFF_UMOCI", Stacks);
        int seed = DifferentialSetup.Setting("NATIVEPULL_DIFF_SEED", 1);
        output.WriteLine($"{count} stacks from seed {seed}");
        int entries = 0;
        StringBuilder findings = new();
        for (int i = 0; i < count; i++)
        {
            List<IReadOnlyList<ModelEntry>> stack = WithoutDisagreements(LayerStackGenerator.Generate(seed + i));
            entries += stack.Sum(layer => layer.Count);
            if (Compare(stack) is not null)
            {
                stack = LayerStackGenerator.Shrink(
                    stack, smaller => Count(WithoutDisagreements(smaller)) == Count(smaller) && Compare(smaller) is not null);
                findings.AppendLine(CultureInfo.InvariantCulture, $"seed {seed + i}\n{DifferentialSetup.Show(stack)}{Compare(stack)}");
            }
        }

        output.WriteLine($"{entries} entries compared");
        Assert.True(entries > count, "hardly anything was compared");
        Assert.True(findings.Length == 0, $"{count} stacks from seed {seed}\n{findings}");
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Umoci_still_disagrees_where_it_is_listed(string name)
    {
        SkipUnlessPossible();
        Disagreement disagreement = Array.Find(Disagreements, each => each.Name == name) ?? throw new InvalidOperationException(name);
        Assert.NotNull(Compare([.. disagreement.Example]));
    }

    private static void SkipUnlessPossible()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "making devices and owners needs root");
        Assert.SkipUnless(File.Exists("/usr/bin/umoci"), "the other side is umoci, and it is not installed");
    }

    private static int Count(List<IReadOnlyList<ModelEntry>> stack) => stack.Sum(layer => layer.Count);

    private static List<IReadOnlyList<ModelEntry>> WithoutDisagreements(List<IReadOnlyList<ModelEntry>> stack)
    {
        stack = [.. stack.Select(layer => (IReadOnlyList<ModelEntry>)[.. layer.OrderBy(AgreedStack.IsNoMarker).Select(entry => entry with
        {
            // Go's reader does not know all types that others write; TarDialectTests
            TypeFlag = null,
            Xattrs = [.. entry.Xattrs.Where(xattr => xattr.Value.Length > 0 && !xattr.Name.StartsWith("system.", StringComparison.Ordinal) && !xattr.Name.StartsWith("trusted.overlay", StringComparison.Ordinal))],
        })])];
        return AgreedStack.Without(stack, (_, _, choice) => Array.Exists(Disagreements, each => each.IsMetBy(choice)));
    }

    private static string? Compare(List<IReadOnlyList<ModelEntry>> stack)
    {
        string? result = null;
        DifferentialSetup.InWorkDirectory("umoci", directory => result = Compare(stack, directory));
        return result;
    }

    private static string? Compare(List<IReadOnlyList<ModelEntry>> stack, string directory)
    {
        SortedDictionary<string, string> expected = LayerModel.Of(stack).Describe(layered: false);
        string layout = Path.Combine(directory, "layout");
        string rootfs = Path.Combine(directory, "rootfs");
        LayoutDirectory.Write(layout, "stack", stack.Select(LayerArchive.Of));
        ProcessStartInfo start = new("umoci", ["raw", "unpack", "--image", layout + ":stack", rootfs]) { RedirectStandardError = true };
        using Process umoci = Process.Start(start) ?? throw new InvalidOperationException("umoci did not start");
        string error = umoci.StandardError.ReadToEnd();
        umoci.WaitForExit();
        if (umoci.ExitCode != 0)
        {
            return $"   umoci fails: {error}";
        }

        IReadOnlyList<string> differences = TreeText.Differences("model", WithoutDirectoryTimes(expected), "umoci", WithoutDirectoryTimes(FileTree.Read(rootfs)));
        return differences.Count == 0 ? null : $"   {string.Join("\n   ", differences)}\n";
    }

    private static SortedDictionary<string, string> WithoutDirectoryTimes(SortedDictionary<string, string> tree)
    {
        SortedDictionary<string, string> masked = new(StringComparer.Ordinal);
        foreach ((string path, string text) in tree)
        {
            string[] words = text.Split(' ');
            if (words[0] == "directory")
            {
                words[3] = "time";
            }

            masked[path] = string.Join(' ', words);
        }

        return masked;
    }

    /// <param name="Sentence">The specification's.</param>
    /// <param name="IsMetBy">Which of the model's choices lead to it.</param>
    private sealed record Disagreement(string Name, string Sentence, IReadOnlyList<IReadOnlyList<ModelEntry>> Example, Func<Choice, bool> IsMetBy);
}
