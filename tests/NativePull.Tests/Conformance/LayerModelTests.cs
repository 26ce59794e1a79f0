namespace NativePull.Tests.Conformance;

/// <summary>The model against the examples that layer.md itself gives, so that the judge of the differential test is judged too.</summary>
public sealed class LayerModelTests
{
    private static readonly string[] Base = ["a/", "a/b/", "a/b/c/", "a/b/c/bar"];
    private static readonly string[] Programs = ["etc/", "etc/my-app-config", "bin/", "bin/my-app-binary", "bin/my-app-tools", "bin/tools/", "bin/tools/my-app-tool-one"];

    [Fact]
    public void Representing_changes_adds_replaces_and_removes() => Assert.Equal(
        ["", "bin", "bin/my-app-binary", "bin/my-app-tools", "etc", "etc/my-app.d", "etc/my-app.d/default.cfg"],
        PathsOf(
            ["./", "./etc/", "./etc/my-app-config", "./bin/", "./bin/my-app-binary", "./bin/my-app-tools"],
            ["./etc/my-app.d/", "./etc/my-app.d/default.cfg", "./bin/my-app-tools", "./etc/.wh.my-app-config"]));

    [Fact]
    public void An_opaque_marker_counts_before_its_siblings_wherever_it_stands()
    {
        string[] expected = ["", "a", "a/b", "a/b/c", "a/b/c/foo"];
        Assert.Equal(expected, PathsOf(Base, ["a/", "a/.wh..wh..opq", "a/b/", "a/b/c/", "a/b/c/foo"]));
        Assert.Equal(expected, PathsOf(Base, ["a/", "a/b/", "a/b/c/", "a/b/c/foo", "a/.wh..wh..opq"]));
    }

    [Fact]
    public void An_opaque_marker_is_a_whiteout_of_each_child()
    {
        string[] expected = ["", "bin", "etc", "etc/my-app-config"];
        Assert.Equal(expected, PathsOf(Programs, ["bin/", "bin/.wh..wh..opq"]));
        Assert.Equal(expected, PathsOf(Programs, ["bin/", "bin/.wh.my-app-binary", "bin/.wh.my-app-tools", "bin/.wh.tools"]));
    }

    [Fact]
    public void A_whiteout_spares_its_own_layer_and_serves_the_next() => Assert.Equal(
        ["", "a", "a/b"], PathsOf(["a/", "a/c"], ["a/", "a/b", "a/.wh.b", "a/.wh.c"], ["a/.wh.d"]));

    [Fact]
    public void Attributes_of_a_directory_are_replaced_and_its_content_stays()
    {
        LayerModel model = LayerModel.Of(
        [
            [new(EntryKind.Directory, "a") { Mode = 0x1C0, Uid = 1, Xattrs = [("user.x", [1])] }, new(EntryKind.File, "a/b")],
            [new(EntryKind.Directory, "a") { Mode = 0x1ED, Gid = 2, Seconds = 3 }],
        ]);
        Assert.Equal("directory 0755 0:2 3.000000000", model.Describe(layered: false)["a"]);
        Assert.Contains("a/b", model.Describe(layered: false).Keys);
    }

    [Fact]
    public void A_replaced_name_leaves_the_other_hard_links_as_they_were()
    {
        SortedDictionary<string, string> tree = LayerModel.Of(
        [
            [new(EntryKind.File, "a") { Size = 1 }, new(EntryKind.HardLink, "b") { Target = "a" }, new(EntryKind.HardLink, "c") { Target = "b" }],
            [new(EntryKind.File, "a") { Size = 2 }],
        ]).Describe(layered: false);
        Assert.StartsWith("file 2:", tree["a"], StringComparison.Ordinal);
        Assert.DoesNotContain("linked", tree["a"], StringComparison.Ordinal);
        Assert.EndsWith("linked to 'b'", tree["b"], StringComparison.Ordinal);
        Assert.Equal(tree["b"], tree["c"]);
    }

    [Fact]
    public void Parents_are_followed_through_links_of_the_same_layer_and_made_where_there_are_none()
    {
        Assert.Equal(
            ["", "lib", "new", "new/dir", "new/dir/y", "usr", "usr/lib", "usr/lib/x", "usr/z"],
            PathsOf(["usr/lib/"], ["lib>../usr/lib", "lib/x", "new/dir/y", "usr/z"]));
        Assert.Equal(["", "lib", "lib/x", "usr", "usr/lib"], PathsOf(["usr/lib/", "lib>../usr/lib"], ["lib/x"]));
    }

    [Fact]
    public void The_generator_gives_the_same_stack_for_the_same_seed() => Assert.Equal(
        LayerStackGenerator.Generate(7).SelectMany(LayerArchive.Of), LayerStackGenerator.Generate(7).SelectMany(LayerArchive.Of));

    // "name/" is a directory, "name>target" a symbolic link, the rest files
    private static IEnumerable<string> PathsOf(params string[][] layers) => LayerModel.Of(layers.Select(layer => layer.Select(Entry).ToList()))
        .Describe(layered: false).Keys;

    private static ModelEntry Entry(string name) =>
        name.EndsWith('/') ? new(EntryKind.Directory, name)
        : name.Split('>') is [string link, string target] ? new(EntryKind.SymbolicLink, link) { Target = target }
        : new(EntryKind.File, name);
}
