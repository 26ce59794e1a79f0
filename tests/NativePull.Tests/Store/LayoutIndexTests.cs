using System.Text.Json.Nodes;
using NativePull.Store;

namespace NativePull.Tests.Store;

/// <summary>oci-layout and index.json: a layout at every moment, and others' entries kept.</summary>
public sealed class LayoutIndexTests
{
    [Fact]
    public async Task A_new_store_is_an_empty_layout()
    {
        using StoreHarness store = new();

        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);

        Assert.Equal("""{"imageLayoutVersion":"1.0.0"}""", File.ReadAllText(store["store/oci-layout"]));
        Assert.Equal([], JsonNode.Parse(File.ReadAllText(store["store/index.json"]))!["manifests"]!.AsArray());
        Assert.True(Directory.Exists(store["store/blobs/sha256"]));
    }

    [Theory]
    [InlineData("mkdir blobs parts; touch nativepull.lock")]
    [InlineData("mkdir blobs parts; touch nativepull.lock .new-index.json; echo '{\"schemaVersion\":2,\"manifests\":[]}' >index.json")]
    [InlineData("touch nativepull.lock; echo '{\"imageLayoutVersion\":\"1.0.0\"}' >oci-layout")]
    [InlineData("mkdir lost+found")]
    public async Task A_store_that_was_only_half_made_is_completed(string script)
    {
        using StoreHarness store = new();
        Directory.CreateDirectory(store.Layout.Root);
        (await EndToEnd.Binary.ProgramAsync("bash", "-ec", $"cd {store.Layout.Root}; {script}")).Expect(0);

        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);

        Assert.All(new[] { "oci-layout", "index.json", "blobs/sha256", "parts" }, name => Assert.True(Path.Exists(Path.Combine(store.Layout.Root, name)), name));
    }

    [Fact]
    public async Task A_directory_that_holds_something_else_is_refused_untouched()
    {
        using StoreHarness store = new();
        Directory.CreateDirectory(store.Layout.Root);
        File.WriteAllText(store["store/letter"], "to a friend");

        PullException failure = await Assert.ThrowsAsync<PullException>(() => LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token));

        Assert.Equal(PullError.Machine, failure.Reason);
        Assert.Equal([store["store/letter"]], Directory.GetFileSystemEntries(store.Layout.Root));
    }

    [Fact]
    public async Task Eight_at_once_make_one_store()
    {
        using StoreHarness store = new();

        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() => LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token), StoreHarness.Token)));

        Assert.True(File.Exists(store.Layout.LayoutFile));
    }

    [Fact]
    public async Task Each_reference_names_its_manifest_and_a_moved_tag_its_new_one()
    {
        using StoreHarness store = new();
        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);

        await PutAsync(store, StoreHarness.Image("1", "old"));
        await PutAsync(store, StoreHarness.Image("2", "other"));
        await PutAsync(store, StoreHarness.Image("1", "new"));

        JsonArray manifests = Manifests(store);
        Assert.Equal(
            [("example.com/a/b:2", StoreHarness.Document("manifest other").Digest.ToString()), ("example.com/a/b:1", StoreHarness.Document("manifest new").Digest.ToString())],
            manifests.Select(entry => ((string)entry!["annotations"]!["org.opencontainers.image.ref.name"]!, (string)entry["digest"]!)));
        Assert.All(manifests, entry => Assert.Equal("linux", (string)entry!["platform"]!["os"]!));
    }

    [Fact]
    public async Task Putting_the_same_again_writes_nothing()
    {
        using StoreHarness store = new();
        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);
        await PutAsync(store, StoreHarness.Image("1", "x"));
        string before = NativePull.Native.Libc.TryIdentityOf(store.Layout.IndexFile).ToString()!;

        await PutAsync(store, StoreHarness.Image("1", "x"));

        Assert.Equal(before, NativePull.Native.Libc.TryIdentityOf(store.Layout.IndexFile).ToString());
    }

    [Fact]
    public async Task What_other_tools_wrote_stays()
    {
        using StoreHarness store = new();
        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);
        const string other = """{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":1,"annotations":{"org.opencontainers.image.ref.name":"theirs"},"x":[1]}""";
        File.WriteAllText(store.Layout.IndexFile, $$"""{"schemaVersion":2,"manifests":[{{other}}],"annotations":{"kept":"yes"} }""");

        await PutAsync(store, StoreHarness.Image("1", "x"));

        JsonNode index = JsonNode.Parse(File.ReadAllText(store.Layout.IndexFile))!;
        Assert.Equal("yes", (string)index["annotations"]!["kept"]!);
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(other), index["manifests"]![0]));
        Assert.Equal(2, index["manifests"]!.AsArray().Count);
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"manifests":{}}""")]
    [InlineData("""{"manifests":["x"]}""")]
    [InlineData("{\"manifests\":[{\"annotations\":7}]}")]
    [InlineData("""{"manifests":[],"manifests":[]}""")]
    [InlineData("""{"manifests":[{"annotations":{"a":"1","a":"2"}}]}""")]
    [InlineData("""{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"example.com/a/b:1"},"platform":{"os":"linux","os":"linux"}}]}""")]
    public async Task An_index_that_is_none_is_a_damaged_store_and_stays_as_it_is(string text)
    {
        using StoreHarness store = new();
        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);
        File.WriteAllText(store.Layout.IndexFile, text);

        PullException failure = await Assert.ThrowsAsync<PullException>(() => PutAsync(store, StoreHarness.Image("1", "x")));

        Assert.Equal(PullError.StoreDamaged, failure.Reason);
        Assert.Equal(text, File.ReadAllText(store.Layout.IndexFile));
    }

    [Fact]
    public async Task Eight_at_once_lose_no_entry()
    {
        using StoreHarness store = new();
        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);

        await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(() => PutAsync(store, StoreHarness.Image($"{i}", "x")), StoreHarness.Token)));

        Assert.Equal(8, Manifests(store).Count);
    }

    private static Task PutAsync(StoreHarness store, PulledImage image) => LayoutIndex.PutAsync(store.Layout, image, store.Options, StoreHarness.Token);

    private static JsonArray Manifests(StoreHarness store) => JsonNode.Parse(File.ReadAllText(store.Layout.IndexFile))!["manifests"]!.AsArray();
}
