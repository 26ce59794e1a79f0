using System.Globalization;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The model against containerd's overlayfs snapshotter, on generated stacks without what <see cref="ContainerdTests"/> lists. Left out are times of directories
/// and all of the root: containerd gives the root of each layer that does not list it the defaults.
/// </summary>
public sealed class ContainerdDifferentialTests(ITestOutputHelper output)
{
    // few enough for ten seconds
    private const int Stacks = 150;

    private const int ShownFindings = 5;

    [Fact]
    public void Containerd_makes_the_same_tree_of_generated_stacks_without_the_listed_disagreements()
    {
        Containerd.SkipUnlessPossible();
        int count = DifferentialSetup.Setting("NATIVEPULL_DIFF_CONTAINERD", Stacks);
        int seed = DifferentialSetup.Setting("NATIVEPULL_DIFF_SEED", 1);
        List<List<IReadOnlyList<ModelEntry>>> stacks = [.. Enumerable.Range(seed, count).Select(one => WithoutDisagreements(LayerStackGenerator.Generate(one)))];
        int entries = stacks.Sum(stack => stack.Sum(layer => layer.Count));
        output.WriteLine($"{count} stacks from seed {seed}, {entries} entries compared");
        using Containerd containerd = new([.. stacks.Select(stack => stack.Select(LayerArchive.Of))], Containerd.Overlayfs);
        List<string> findings = [];
        for (int i = 0; i < count; i++)
        {
            string? tree = containerd.Tree(Containerd.Overlayfs, i, out string complaint);
            string found = tree is null ? complaint : string.Join("\n   ", TreeText.Differences(
                "model", Comparable(LayerModel.Of(stacks[i]).Describe(layered: true)), "containerd", Comparable(FileTree.Read(tree))));
            if (found.Length > 0)
            {
                findings.Add(string.Create(CultureInfo.InvariantCulture, $"seed {seed + i}\n{DifferentialSetup.Show(stacks[i])}   {found}\n"));
            }
        }

        Assert.True(entries > count, "hardly anything was compared");
        Assert.True(findings.Count == 0, $"{findings.Count} of {count} stacks from seed {seed}\n{string.Concat(findings.Take(ShownFindings))}");
    }

    private static SortedDictionary<string, string> Comparable(SortedDictionary<string, string> tree)
    {
        SortedDictionary<string, string> masked = new(StringComparer.Ordinal);
        foreach ((string path, string text) in tree.Where(entry => entry.Key.Length > 0))
        {
            string[] words = text.Split(' ');
            masked[path] = words[0] == "directory" ? string.Join(' ', [.. words[..3], .. words[4..]]) : text;
        }

        return masked;
    }

    private static List<IReadOnlyList<ModelEntry>> WithoutDisagreements(List<IReadOnlyList<ModelEntry>> stack)
    {
        stack = [.. stack.Select(layer => (IReadOnlyList<ModelEntry>)WithOwnersOfTargets(WithoutTraces([.. layer.OrderBy(AgreedStack.IsNoMarker).Select(Plain)])))];
        // containerd asks all lower layers for the mode of a directory that nothing lists, those that are hidden too, and fails where one has something else or a whiteout there
        HashSet<string> files = [];
        HashSet<string> opaque = [];
        for (int i = 0; i < stack.Count; i++)
        {
            stack[i] = [.. stack[i].Where(entry => !files.Any(file => IsBelow(PathOf(entry.Name), file)) && !opaque.Any(hidden => IsBelow(ParentOf(PathOf(entry.Name)), hidden)))];
            opaque.UnionWith(stack[i].Select(entry => PathOf(entry.Name)).Where(path => path.EndsWith(".wh..wh..opq", StringComparison.Ordinal)).Select(ParentOf));
            files.UnionWith(stack[i].Where(entry => entry.Kind != EntryKind.Directory).Select(entry => PathOf(entry.Name).Replace(".wh.", "", StringComparison.Ordinal)));
        }

        return AgreedStack.Without(stack, (layer, entry, choice) => Disagrees(stack[layer], layer, entry, choice));
    }

    // what containerd does not keep: attributes without a value, trusted ones, ACLs as they are, times before 1970; and Go's reader does not know all types that others write
    private static ModelEntry Plain(ModelEntry entry) => entry with
    {
        TypeFlag = null,
        // it goes by a target's text, and what ".." takes back must be there
        Target = entry.Kind == EntryKind.HardLink ? PathOf(entry.Target) : entry.Target,
        Xattrs = [.. entry.Xattrs.Where(xattr => xattr.Value.Length > 0 && !xattr.Name.StartsWith("trusted.", StringComparison.Ordinal) && !xattr.Name.StartsWith("system.", StringComparison.Ordinal))],
        Seconds = Math.Max(0, entry.Seconds),
    };

    // an entry below what a marker of its layer removes or hides needs a directory there, and a marker has no directory there
    private static List<ModelEntry> WithoutTraces(List<ModelEntry> layer)
    {
        List<string> whiteouts = [];
        List<string> opaque = [];
        foreach (ModelEntry entry in layer.Where(entry => !AgreedStack.IsNoMarker(entry)))
        {
            string path = PathOf(entry.Name);
            string parent = ParentOf(path);
            if (path.EndsWith(".wh..wh..opq", StringComparison.Ordinal))
            {
                opaque.Add(parent);
            }
            else
            {
                whiteouts.Add($"{parent}/{path[(path.LastIndexOf('/') + 5)..]}".TrimStart('/'));
            }
        }

        return [.. layer.DistinctBy(entry => (PathOf(entry.Name), AgreedStack.IsNoMarker(entry) ? entry : null)).Where(entry =>
        {
            string path = PathOf(entry.Name);
            string parent = ParentOf(path);
            bool isMarker = !AgreedStack.IsNoMarker(entry);
            return !whiteouts.Exists(removed => IsBelow(path, removed) || (path == removed && entry.Kind == EntryKind.Directory))
                && !opaque.Exists(hidden => hidden.Length == 0
                    ? isMarker
                    : isMarker ? IsBelow(path, hidden) && !(parent == hidden && path.EndsWith(".wh..wh..opq", StringComparison.Ordinal)) : IsBelow(parent, hidden));
        })];
    }

    // a hard link whose header says what its file's says; without one that is in the layer there is nothing to say
    private static List<ModelEntry> WithOwnersOfTargets(List<ModelEntry> layer)
    {
        Dictionary<string, ModelEntry> made = [];
        List<ModelEntry> kept = [];
        foreach (ModelEntry entry in layer)
        {
            ModelEntry? target = entry.Kind == EntryKind.HardLink ? made.GetValueOrDefault(PathOf(entry.Target)) : entry;
            // of a directory that the layer made something in, containerd keeps the lower one's extended attributes; and it refuses what takes its place, for
            // it comes back to it for its time
            if (target is not null && !made.Keys.Any(path => IsBelow(path, PathOf(entry.Name))))
            {
                ModelEntry same = target with { Kind = entry.Kind, Name = entry.Name, Target = entry.Target, Size = entry.Size };
                made.TryAdd(PathOf(entry.Name), same);
                kept.Add(same);
            }
        }

        return kept;
    }

    private static bool Disagrees(IReadOnlyList<ModelEntry> layer, int number, int entry, Choice choice) =>
        choice is Choice.LateMarker or Choice.MarkerWithoutDirectory or Choice.AufsMetadata or Choice.Duplicate or Choice.LinkToItself
            or Choice.ImpliedInGroupDirectory or Choice.LinkIntoLowerLayer or Choice.ReplacedParent
        // behind a link may be a lower layer's file, on which the names alone say nothing
        || (choice == Choice.FollowedLink && (number > 0 || !layer.All(AgreedStack.IsNoMarker)))
        // for its time it comes back to a directory by its name, when something else may be there
        || (choice == Choice.FollowedLink && layer[entry].Kind == EntryKind.Directory);

    private static bool IsBelow(string path, string directory) => path.StartsWith(directory + "/", StringComparison.Ordinal);

    private static string ParentOf(string path) => path[..Math.Max(0, path.LastIndexOf('/'))];

    private static string PathOf(string name) => Path.GetFullPath("/" + name).Trim('/');
}
