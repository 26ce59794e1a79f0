using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using NativePull.Layers;
using NativePull.Tests.Layers;

namespace NativePull.Tests.Conformance;

/// <summary>
/// Generated stacks of layers, each as four trees: what the specification's model says, one flat extraction, the flattened archive unpacked, and one
/// directory a layer under the kernel's overlayfs. All four are the same, byte by byte.
/// </summary>
public sealed class DifferentialTests(ITestOutputHelper output)
{
    // few enough for a run of the whole suite; NATIVEPULL_DIFF_STACKS for a long one
    private const int DefaultStacks = 4000;

    // stacks on one tmpfs before it is thrown away
    private const int BatchSize = 100;

    private const int ShownFindings = 5;

    private const int GnuTarEvery = 40;

    public static TheoryData<string> Findings => [.. Found.Keys];

    // stacks that disagreed once and that nobody would write by hand
    private static readonly Dictionary<string, List<IReadOnlyList<ModelEntry>>> Found = new()
    {
        ["an entry replaces the link it came through, and the next takes the same way"] =
        [
            [new(EntryKind.SymbolicLink, "b") { Target = "/" }, new(EntryKind.File, "b/b"), new(EntryKind.File, "b/x")],
        ],
        ["a directory replaces the link it came through, and the next takes the same way"] =
        [
            [new(EntryKind.Directory, "c")],
            [new(EntryKind.SymbolicLink, "d") { Target = "." }, new(EntryKind.Directory, "d/d"), new(EntryKind.File, "d/a")],
        ],
        ["an opaque marker behind a link of its layer"] =
        [
            [new(EntryKind.File, "c/b")],
            [new(EntryKind.SymbolicLink, "d") { Target = "/" }, new(EntryKind.File, "d/.wh..wh..opq")],
        ],
        ["a hard link into a lower layer whose directory becomes a link"] =
        [
            [new(EntryKind.File, "c/b")],
            [new(EntryKind.HardLink, "d/a") { Target = "c/b" }, new(EntryKind.SymbolicLink, "c") { Target = "b" }],
        ],
        ["a hard link to a lower file that a marker takes for a directory"] =
        [
            [new(EntryKind.File, "b")],
            [new(EntryKind.File, "b/b/.wh.x"), new(EntryKind.HardLink, "c") { Target = "b" }],
        ],
        ["a hard link to a lower file, given twice and then replaced"] =
        [
            [new(EntryKind.File, "a"), new(EntryKind.HardLink, "b") { Target = "a" }],
            [
                new(EntryKind.HardLink, "d") { Target = "a" },
                new(EntryKind.HardLink, "d") { Target = "a" },
                new(EntryKind.File, "d/x"),
            ],
        ],
        ["what is made below a directory that gives an ACL to all that is made in it"] =
        [
            [
                new(EntryKind.Directory, "a") { Xattrs = [("system.posix_acl_default", LayerStackGenerator.DefaultAcl)] },
                new(EntryKind.File, "a/f"), new(EntryKind.Fifo, "a/p"), new(EntryKind.File, "a/i/f"), new(EntryKind.Directory, "a/d"),
            ],
            [new(EntryKind.File, "a/g"), new(EntryKind.HardLink, "a/h") { Target = "a/f" }, new(EntryKind.File, "a/d/e/g")],
            [new(EntryKind.Directory, "a"), new(EntryKind.File, "a/k")],
        ],
        ["an entry below a hard link to a lower layer's symbolic link"] =
        [
            [new(EntryKind.SymbolicLink, "b") { Target = "nowhere" }],
            [new(EntryKind.HardLink, "a") { Target = "b" }, new(EntryKind.File, "a/b")],
        ],
    };

    [Theory]
    [MemberData(nameof(Findings))]
    public void A_stack_that_disagreed_once_agrees(string name)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting an overlay and making devices needs root");
        for (int turn = 0; turn < 4; turn++)
        {
            string? finding = null;
            DifferentialSetup.InWorkDirectory("found", directory => finding = Compare(Found[name], turn, directory, out bool _));
            Assert.True(finding is null, finding);
        }
    }

    [Fact]
    public async Task Model_flat_extraction_flattened_archive_and_overlay_mount_of_generated_stacks_are_the_same_tree()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting an overlay and making devices needs root");
        int count = DifferentialSetup.Setting("NATIVEPULL_DIFF_STACKS", DefaultStacks);
        int seed = DifferentialSetup.Setting("NATIVEPULL_DIFF_SEED", 1);
        output.WriteLine($"{count} stacks from seed {seed}");

        ConcurrentBag<int> found = [];
        ConcurrentQueue<int> batches = new(Enumerable.Range(0, (count + BatchSize - 1) / BatchSize));
        int refused = 0;
        Task[] workers = [.. Enumerable.Range(0, Environment.ProcessorCount).Select(_ => Task.Factory.StartNew(
            () =>
            {
                while (batches.TryDequeue(out int batch))
                {
                    DifferentialSetup.InWorkDirectory($"{batch}", directory =>
                    {
                        for (int i = batch * BatchSize; i < Math.Min(count, (batch + 1) * BatchSize); i++)
                        {
                            string? finding = Compare(LayerStackGenerator.Generate(seed + i), seed + i, Path.Combine(directory, $"{i}"), out bool isRefused);
                            if (isRefused)
                            {
                                Interlocked.Increment(ref refused);
                            }

                            if (finding is not null)
                            {
                                found.Add(seed + i);
                            }
                        }
                    });
                }
            },
            TestContext.Current.CancellationToken,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default))];
        await Task.WhenAll(workers);
        output.WriteLine($"{refused} of them the model refuses");

        if (!found.IsEmpty)
        {
            Assert.Fail(Report(found, count, seed));
        }
    }

    private static string Report(ConcurrentBag<int> found, int count, int seed)
    {
        StringBuilder report = new();
        report.AppendLine(CultureInfo.InvariantCulture, $"{found.Count} of {count} stacks from seed {seed} disagree; the smallest of each kind seen first:");
        HashSet<string> shown = [];
        foreach (int each in found.Order())
        {
            List<IReadOnlyList<ModelEntry>> stack = LayerStackGenerator.Generate(each);
            (bool Flat, bool Archive, bool Overlay) kind = Disagrees(stack, each);
            List<IReadOnlyList<ModelEntry>> small = LayerStackGenerator.Shrink(stack, smaller => Disagrees(smaller, each) == kind);
            string layers = DifferentialSetup.Show(small);
            if (shown.Add(Shape(small)))
            {
                string finding = "";
                DifferentialSetup.InWorkDirectory("report", directory => finding = Compare(small, each, directory, out bool _) ?? "(agrees when tried again)");
                report.AppendLine(CultureInfo.InvariantCulture, $"seed {each}\n{layers}{finding}");
                if (shown.Count == DifferentialSetup.Setting("NATIVEPULL_DIFF_SHOWN", ShownFindings))
                {
                    break;
                }
            }
        }

        return report.ToString();
    }

    private static (bool Flat, bool Archive, bool Overlay) Disagrees(List<IReadOnlyList<ModelEntry>> stack, int turn)
    {
        string? finding = null;
        DifferentialSetup.InWorkDirectory("shrink", directory => finding = Compare(stack, turn, directory, out bool _));
        bool In(string name) => finding?.Contains(" " + name, StringComparison.Ordinal) ?? false;
        return (In("flat"), In("archive"), In("overlay"));
    }

    // The stack with its names numbered in the order they come: stacks of one shape are one finding.
    private static string Shape(List<IReadOnlyList<ModelEntry>> stack)
    {
        Dictionary<string, int> numbers = [];
        StringBuilder shape = new();
        foreach (ModelEntry entry in stack.SelectMany(layer => layer.Prepend(new ModelEntry(EntryKind.Directory, ""))))
        {
            shape.Append(entry.Kind);
            foreach (string component in $"{entry.Name}>{entry.Target}".Split('/', '>'))
            {
                string bare = component.StartsWith(".wh.", StringComparison.Ordinal) && !component.StartsWith(".wh..wh", StringComparison.Ordinal)
                    ? component[4..] : component;
                numbers.TryAdd(bare, numbers.Count);
                shape.Append(CultureInfo.InvariantCulture, $" {(bare.Length == component.Length ? "" : "-")}{numbers[bare]}");
            }
        }

        return shape.ToString();
    }

    /// <summary>What differs, or null.</summary>
    /// <param name="turn">Decides between the resolvers and between the ways of writing removal.</param>
    private static string? Compare(List<IReadOnlyList<ModelEntry>> stack, int turn, string directory, out bool refused)
    {
        List<byte[]> archives = [.. stack.Select(LayerArchive.Of)];
        ExtractOptions options = new()
        {
            KernelResolution = turn % 2 == 0,
            Whiteouts = turn / 2 % 2 == 0 ? WhiteoutStyle.Overlay : WhiteoutStyle.OverlayUser,
            // with next to no memory the names are in a file
            Limits = turn / 4 % 2 == 0 ? new LayerLimits() : new LayerLimits { Memory = 0 },
        };
        SortedDictionary<string, string>? flatModel = null;
        SortedDictionary<string, string>? overlayModel = null;
        string verdict = "";
        try
        {
            LayerModel model = LayerModel.Of(stack);
            flatModel = model.Describe(layered: false);
            overlayModel = model.Describe(layered: true);
        }
        catch (RefusedException e)
        {
            if (e.IsUndetermined)
            {
                refused = true;
                return null;
            }

            verdict = e.Message;
        }

        refused = flatModel is null;
        string? flat = CompareOne("flat", flatModel, verdict, () =>
        {
            string target = Path.Combine(directory, "flat");
            StackTrees.Flat(target, archives, options);
            return FileTree.Read(target);
        });
        string? archive = CompareOne("archive", flatModel, verdict, () => Unpacked(Path.Combine(directory, "unpacked"), archives, options, turn));
        string? overlay = CompareOne("overlay", overlayModel, verdict, () => Overlay(Path.Combine(directory, "layers"), archives, options));
        return (flat ?? archive ?? overlay) is null ? null : $"   (openat2: {options.KernelResolution}, {options.Whiteouts})\n{flat}{archive}{overlay}";
    }

    // By GNU tar now and then, which shares nothing with the reader under test.
    private static SortedDictionary<string, string> Unpacked(string target, List<byte[]> archives, ExtractOptions options, int turn)
    {
        byte[] archive = FlatArchiveTests.Flatten([.. archives], options.Limits, Path.GetDirectoryName(target));
        if (turn % GnuTarEvery != 0)
        {
            StackTrees.Flat(target, [archive], options);
            return FileTree.Read(target);
        }

        Directory.CreateDirectory(target);
        using Process tar = Process.Start(new ProcessStartInfo(
            "tar", ["-x", "-p", "-f", "-", "-C", target, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--delay-directory-restore"])
        {
            RedirectStandardInput = true,
            RedirectStandardError = true,
        }) ?? throw new IOException("tar does not start");
        tar.StandardInput.BaseStream.Write(archive);
        tar.StandardInput.Close();
        string complaint = tar.StandardError.ReadToEnd();
        tar.WaitForExit();
        return tar.ExitCode == 0 ? FileTree.Read(target) : throw new IOException($"tar: {complaint}");
    }

    private static SortedDictionary<string, string> Overlay(string target, List<byte[]> archives, ExtractOptions options)
    {
        List<string> paths = StackTrees.Layers(target, archives, options);
        string mountPoint = Path.Combine(target, "mount");
        // overlayfs wants two lower directories where there is no upper one
        string empty = Path.Combine(target, "empty");
        Directory.CreateDirectory(mountPoint);
        Directory.CreateDirectory(empty);
        MountNamespace.MountOverlay(
            mountPoint, [.. paths.AsEnumerable().Reverse(), empty], options.Whiteouts == WhiteoutStyle.OverlayUser ? ",userxattr" : "");
        try
        {
            return FileTree.Read(mountPoint);
        }
        finally
        {
            MountNamespace.Unmount(mountPoint);
        }
    }

    private static string? CompareOne(string name, SortedDictionary<string, string>? expected, string verdict, Func<SortedDictionary<string, string>> make)
    {
        try
        {
            SortedDictionary<string, string> actual = make();
            IReadOnlyList<string> differences = expected is null
                ? [$"{name} made a tree where the model refuses: {verdict}"]
                : TreeText.Differences("model", expected, name, actual);
            return differences.Count == 0 ? null : $"   {string.Join("\n   ", differences)}\n";
        }
        catch (Exception e) when (e is PullException or IOException)
        {
            return expected is null && e is PullException { Reason: PullError.Malformed or PullError.UnsafeEntry }
                ? null
                : $"   {name} fails: {e.GetType().Name} {e.Message}{(expected is null ? " where the model refuses: " + verdict : "")}\n";
        }
    }
}
