using NativePull.Native;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The rows of <see cref="WhiteoutTests"/> through a real containerd, by its overlayfs snapshotter and by its native one, beside the published executable:
/// the same tree, or exactly the other one that is written here. Times of directories are left out: containerd gives those that nothing lists, and those
/// it makes something in, the time of the extraction. The table holds for 1.6.20, 1.7.24 and 2.1.9.
/// </summary>
public sealed class ContainerdTests(ContainerdFixture fixture) : IClassFixture<ContainerdFixture>
{
    private const string Refused = "refused";

    // What containerd does otherwise, the specification's sentence, and by snapshotter and row what it has less (-), more (+) and otherwise (~) than we; ? is
    // a name that it lists and that is not there. The sentence decides for us, except where it says "may": there both are right; or is "silent": then it is
    // a choice of ours.
    private static readonly Disagreement[] Disagreements =
    [
        new(
            "a marker after what its layer has made of that name: removed too, or refused",
            "applied first, before creating the new version …, regardless of the ordering in which the whiteout file was encountered",
            new()
            {
                ["the file, then its whiteout"] = Refused,
                ["whiteout, file, whiteout"] = Refused,
                ["the directory, then its whiteout"] = Refused,
                ["an implied directory, then its whiteout"] = Refused,
                ["a nested implied directory, then a whiteout above it"] = Refused,
                ["a link of the layer, then its whiteout"] = Refused,
                ["a hard link of the layer, then its whiteout"] = Refused,
                ["a whiteout in an opaque directory"] = Refused,
                ["whiteouts of a directory and within it"] = Refused,
            },
            new()
            {
                ["the file, then its whiteout"] = "-f=new",
                ["whiteout, file, whiteout"] = "-f=new",
                ["the directory, then its whiteout"] = Refused,
                ["an implied directory, then its whiteout"] = "-d/, -d/n=",
                ["a nested implied directory, then a whiteout above it"] = "-d/, -d/sub/, -d/sub/n=",
                ["a link of the layer, then its whiteout"] = "-f->d",
                ["a hard link of the layer, then its whiteout"] = "-f=g, -g=g@f",
                ["a whiteout in an opaque directory"] = "-d/n=",
                ["opaque root at the end"] = "-d/, -d/n=",
                ["opaque above an implied directory, after"] = "-d/sub/, -d/sub/n=",
                ["a hard link to a lower file, then its whiteout"] = "-g=f@f",
            }),
        new(
            "a directory in the place of what its layer removes or replaces: the snapshotter lets through what the removed one had, or refuses",
            "In all other cases, the implementation MUST do the semantic equivalent of … removing the file path … recreating the file path",
            new()
            {
                ["whiteout, then the directory"] = "+d/a=a, +d/b=b, +d/sub/ 750 7:0, +d/sub/x=x",
                ["whiteout, then something deep below"] = Refused,
                ["file, then directory of one name in one layer"] = "+d/a=a, +d/b=b, +d/sub/ 750 7:0, +d/sub/x=x",
                ["a directory replaced and below it something again"] = Refused,
            },
            new()
            {
                ["a directory replaced and below it something again"] = Refused,
            }),
        new(
            "an opaque root: the kernel merges roots whatever they say, and containerd leaves it at that",
            "indicating that all siblings are hidden in the lower layer",
            new()
            {
                ["opaque root"] = "+d/ 700 5:6, +d/a=a, +d/b=b, +d/sub/ 750 7:0, +d/sub/x=x, +f=f",
                ["opaque root at the end"] = "-d/, +d/ 700 5:6, +d/a=a, +d/b=b, +d/sub/ 750 7:0, +d/sub/x=x, +f=f",
            },
            []),
        new(
            "a directory that nothing lists, below an opaque one: it has the attributes of the one that is hidden",
            "An opaque whiteout file hides all children of the bin/ including sub-directories and all descendants",
            new()
            {
                ["opaque above an implied directory, before"] = "-d/sub/, +d/sub/ 750 7:0",
                ["opaque above an implied directory, after"] = "-d/sub/, +d/sub/ 750 7:0",
                ["opaque in opaque"] = "-d/sub/, +d/sub/ 750 7:0",
            },
            []),
        new(
            "a marker where no lower layer has a directory: directories are made for it, and overlayfs then lists names that are not there; or it is refused",
            "Whiteout files MUST only apply to resources in lower/parent layers",
            new()
            {
                ["whiteouts in the lowest layer"] = "+e/",
                ["a name of an absent directory removed"] = "?no/such/thing",
                ["a name below a file removed"] = "?f/x",
                ["a whiteout below an opaque directory"] = "?d/sub/x",
                ["a whiteout, then its directory opaque"] = "?d/a",
                ["removal below a link of a lower layer"] = "?l/x",
                ["whiteouts within a directory and of it"] = Refused,
                ["removal below a lower file, then a hard link to it"] = Refused,
            },
            new()
            {
                ["whiteouts in the lowest layer"] = "+e/",
                ["a name of an absent directory removed"] = "+neither/, +neither/this/, +no/, +no/such/",
                ["a name below a file removed"] = Refused,
                ["whiteouts within a directory and of it"] = "+d/, +d/sub/",
                ["removal below a lower file, then a hard link to it"] = Refused,
            }),
        new(
            "a marker behind a link: it removes what the link leads to, or is refused",
            "Whiteout files MUST only apply to resources in lower/parent layers",
            new()
            {
                ["removal below a link of the same layer"] = "-t/x=",
                ["removal below a link of the same layer that goes round"] = Refused,
            },
            new()
            {
                ["removal below a link of a lower layer"] = "-t/x=",
                ["removal below a link of the same layer"] = "-t/x=",
                ["removal below a link of the same layer that goes round"] = Refused,
            }),
        new(
            "a link of a lower layer on the way: followed, in one directory for all layers",
            "In all other cases, the implementation MUST do the semantic equivalent of … removing the file path … recreating the file path",
            [],
            new()
            {
                ["below a link of a lower layer"] = "-l/, -l/y=y, +l->t, +t/y=y",
            }),
        new(
            "a file on the way: refused",
            "In all other cases, the implementation MUST do the semantic equivalent of … removing the file path … recreating the file path",
            [],
            new()
            {
                ["an implied directory over a file"] = Refused,
            }),
        new(
            "a hard link into a lower layer: refused, for it is not in the layer's own directory",
            "Extracting a layer with hardlink references to files outside of the layer may fail",
            new()
            {
                ["a hard link to a lower file, then a link where its directory was"] = Refused,
                ["below a hard link to a lower link"] = Refused,
                ["a hard link to a lower layer"] = Refused,
                ["two hard links to a lower layer"] = Refused,
                ["a hard link to a lower file that the layer then removes"] = Refused,
                ["a hard link to a lower file whose directory the layer then removes"] = Refused,
                ["a hard link to a lower file that the layer then hides"] = Refused,
                ["a hard link to a lower file that the layer then replaces"] = Refused,
                ["a hard link to a lower file, then replaced"] = Refused,
                ["a hard link to a lower file, then a directory"] = Refused,
                ["a hard link to a lower file in a directory that goes"] = Refused,
                ["a hard link to a lower file, then its whiteout"] = Refused,
                ["a hard link over the file that it links"] = Refused,
                ["a hard link over a lower directory"] = Refused,
                ["a hard link to a lower link and a lower fifo"] = Refused,
                ["a hard link through a link of the layer into a lower layer"] = Refused,
                ["a hard link through a link through what is not there to a lower file"] = Refused,
            },
            []),
        new(
            "a hard link to itself: removed first, and then there is nothing to link to",
            "Hardlinked files … have the same inode: the name has it already",
            [],
            new()
            {
                ["below a hard link to a lower link"] = Refused,
                ["a hard link over the file that it links"] = Refused,
            }),
        new(
            "a hard link whose header has another owner or time: the file gets the link's",
            "silent; the inode came with the entry that made it, and tar(1) and umoci see it so, too",
            new()
            {
                ["a hard link in the layer"] = "-d/y=1 3:0, -x=1 3:0@d/y, -z=1 3:0@d/y, +d/y=1, +x=1@d/y, +z=1@d/y",
            },
            new()
            {
                ["a hard link in the layer"] = "-d/y=1 3:0, -x=1 3:0@d/y, -z=1 3:0@d/y, +d/y=1, +x=1@d/y, +z=1@d/y",
                ["a hard link to a lower link and a lower fifo"] = "-l->x 3:0, -m->x 3:0@l, +l->x, +m->x@l",
                ["a hard link to a lower layer"] = "~d/a time, ~g time",
                ["two hard links to a lower layer"] = "~d/a time, ~g time, ~h time, ~i time",
                ["a hard link to a lower file, then a link where its directory was"] = "~g time",
                ["a hard link to a lower file that the layer then removes"] = "~g time",
                ["a hard link to a lower file whose directory the layer then removes"] = "~g time",
                ["a hard link to a lower file that the layer then hides"] = "~g time",
                ["a hard link through a link of the layer into a lower layer"] = "~d/a time, ~g time",
                ["a hard link through a link through what is not there to a lower file"] = "~d/a time, ~g time",
            }),
        new(
            "a directory given twice in one layer: extended attributes of the first stay",
            "the existing path's attributes MUST be replaced by those of the entry in the changeset",
            new() { ["a directory twice in one layer"] = "~d attributes" },
            new() { ["a directory twice in one layer"] = "~d attributes" }),
        new(
            "a directory that nothing lists, in one with the setgid bit: it inherits the group",
            "silent; a directory's attributes come from entries, and the same image gives the same tree",
            new()
            {
                ["an implied directory below one with the setgid bit"] = "-s/a/, +s/a/ 0:50",
            },
            new()
            {
                ["an implied directory below one with the setgid bit"] = "-s/a/, +s/a/ 0:50",
            }),
        new(
            "what is below aufs's .wh..wh.plnk: made",
            "it is not possible to create a filesystem which has a file or directory with a name beginning with .wh.",
            new()
            {
                ["names of aufs"] = "+.wh..wh.plnk/, +.wh..wh.plnk/1.2=x",
            },
            new()
            {
                ["names of aufs"] = "+.wh..wh.plnk/, +.wh..wh.plnk/1.2=x",
            }),
    ];

    // Stacks that we refuse and containerd takes, and what it makes of their last layer. Nothing of it is outside the root.
    private static readonly Disagreement[] Accepted =
    [
        new(
            "a name below a whiteout's, or below a link to one: made as it is written",
            "it is not possible to create a filesystem which has a file or directory with a name beginning with .wh.",
            new() { ["below a whiteout"] = "+d/.wh.a/, +d/.wh.a/b=", ["below a link to a whiteout's name"] = "+.wh.n/, +.wh.n/f=, +l->.wh.n" },
            new() { ["below a whiteout"] = "+d/.wh.a/, +d/.wh.a/b=", ["below a link to a whiteout's name"] = "+.wh.n/, +.wh.n/f=, +l->.wh.n" }),
        new(
            "something else than a directory as the root, and a name that is too long after one of slashes alone: passed over",
            "silent",
            new() { ["a link as the root"] = "", ["a name too long for any"] = "" },
            new() { ["a link as the root"] = "", ["a name too long for any"] = "" }),
        new(
            "a hard link to what its layer removed: another name of the whiteout, which hides nothing",
            "Whiteout files MUST only apply to resources in lower/parent layers",
            new() { ["a hard link to a removed file"] = "-f=f" },
            []),
        new(
            "a hard link through a link of a lower layer: followed, in one directory for all layers",
            "Extracting a layer with hardlink references to files outside of the layer may fail",
            [],
            new() { ["a hard link through a link of a lower layer"] = "-t/x=, +g=, +t/x=@g" }),
    ];

    public static TheoryData<string> Rows => [.. WhiteoutTests.Trees.Keys];

    public static TheoryData<string> RefusedRows => [.. WhiteoutTests.Refusals.Keys];

    [Theory]
    [MemberData(nameof(Rows))]
    public async Task Containerd_makes_the_tree_of_the_executable_or_the_one_that_is_listed(string stack)
    {
        Containerd.SkipUnlessPossible();
        using LayerRun run = new(LayerStack.Of(WhiteoutTests.Trees[stack].Layers).Select(LayoutLayer.Of));
        (await run.RunAsync("--rootfs", run["r"])).Expect(0);

        foreach (string snapshotter in Containerd.Snapshotters)
        {
            string expected = Listed(Disagreements, snapshotter, stack) ?? "";
            string found = Difference(run["r"], fixture.Tree(snapshotter, stack, out string complaint));
            Assert.True(expected == found, $"{snapshotter}: expected \"{expected}\", got \"{found}\" {complaint}");
        }
    }

    [Theory]
    [MemberData(nameof(RefusedRows))]
    public void Containerd_refuses_what_we_refuse_or_it_is_listed(string stack)
    {
        Containerd.SkipUnlessPossible();
        using TemporaryDirectory work = new();
        string below = LayerStack.Flat(work, LayerStack.Of(WhiteoutTests.Refusals[stack].Layers)[..^1]);

        foreach (string snapshotter in Containerd.Snapshotters)
        {
            string expected = Listed(Accepted, snapshotter, stack) ?? Refused;
            string found = Difference(below, fixture.Tree(snapshotter, stack, out string complaint));
            Assert.True(expected == found, $"{snapshotter}: expected \"{expected}\", got \"{found}\" {complaint}");
        }
    }

    [Fact]
    public void What_is_listed_is_a_row_and_a_disagreement()
    {
        foreach (string snapshotter in Containerd.Snapshotters)
        {
            KeyValuePair<string, string>[] listed = [.. Disagreements.SelectMany(each => each.Of(snapshotter))];
            Assert.Equal(listed.Length, listed.DistinctBy(each => each.Key).Count());
            Assert.All(listed, each => Assert.True(WhiteoutTests.Trees.ContainsKey(each.Key) && each.Value.Length > 0, each.Key));
            Assert.All(
                Accepted.SelectMany(each => each.Of(snapshotter)),
                each => Assert.True(WhiteoutTests.Refusals.ContainsKey(each.Key) && each.Value != Refused, each.Key));
        }
    }

    private static string? Listed(Disagreement[] table, string snapshotter, string stack) =>
        Array.Find(table, each => each.Of(snapshotter).ContainsKey(stack))?.Of(snapshotter)[stack];

    private static string Difference(string ours, string? theirs)
    {
        if (theirs is null)
        {
            return Refused;
        }

        try
        {
            string[] mine = LayerStack.Words(ours);
            string[] others = LayerStack.Words(theirs);
            return string.Join(", ", [
                .. mine.Except(others).Select(word => "-" + word), .. others.Except(mine).Select(word => "+" + word),
                .. Unspoken(TreeListing.Of(ours), TreeListing.Of(theirs))]);
        }
        catch (LinuxException e) when (e.Errno == Errno.NoEntry)
        {
            return "?" + e.Message[(e.Call.Length + 1)..e.Message.IndexOf(':', StringComparison.Ordinal)];
        }
    }

    // what the words leave out, for what is in both
    private static IEnumerable<string> Unspoken(TreeListing ours, TreeListing theirs) =>
        from mine in ours.Entries
        where mine.Path != "."
        let other = theirs[mine.Path]
        where other is not null
        from what in (string[])[
            other.Type == mine.Type && mine.Type != 'd' && other.Modified != mine.Modified ? "time" : "",
            other.Xattrs != mine.Xattrs ? "attributes" : ""]
        where what.Length > 0
        select $"~{mine.Path} {what}";

    /// <param name="Sentence">The specification's.</param>
    private sealed record Disagreement(string What, string Sentence, Dictionary<string, string> Overlayfs, Dictionary<string, string> Native)
    {
        internal Dictionary<string, string> Of(string snapshotter) => snapshotter == Containerd.Overlayfs ? Overlayfs : Native;
    }
}

/// <summary>One containerd for all rows, started when the first asks.</summary>
public sealed class ContainerdFixture : IDisposable
{
    private readonly List<string> names = [.. WhiteoutTests.Trees.Keys, .. WhiteoutTests.Refusals.Keys];
    private readonly Lazy<Containerd> containerd = new(() => new(
        [.. WhiteoutTests.Trees.Values.Select(row => LayerStack.Of(row.Layers)), .. WhiteoutTests.Refusals.Values.Select(row => LayerStack.Of(row.Layers))],
        Containerd.Snapshotters));

    internal string? Tree(string snapshotter, string stack, out string complaint) => containerd.Value.Tree(snapshotter, names.IndexOf(stack), out complaint);

    public void Dispose()
    {
        if (containerd.IsValueCreated)
        {
            containerd.Value.Dispose();
        }
    }
}
