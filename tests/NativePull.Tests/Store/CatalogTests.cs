using Microsoft.Data.Sqlite;
using NativePull.Oci;
using NativePull.Store;

namespace NativePull.Tests.Store;

/// <summary>What the store knows: compact, whole, and unchanged by what it knows already.</summary>
public sealed class CatalogTests
{
    private static readonly string[] Tables = ["configs", "images", "indexes", "layers", "manifest_layers", "manifests", "rootfs"];

    [Fact]
    public async Task An_image_comes_back_as_it_was_recorded()
    {
        using StoreHarness store = new();
        PulledImage image = StoreHarness.Image("1", "x", StoreHarness.Layer("c"), StoreHarness.Layer("a"), StoreHarness.Layer("b"));
        using Catalog catalog = await store.OpenAsync();

        await catalog.RecordAsync(image, StoreHarness.Token);

        PulledImage found = Find(catalog, "example.com/a/b:1")!;
        AssertLayers(image.Layers, found.Layers);
        Assert.Equal(image.Manifest.Content, found.Manifest.Content);
        Assert.Equal(image.Config.Content, found.Config.Content);
        Assert.Equal(image.Index!.Content, found.Index!.Content);
        Assert.Equal((image.Reference, image.Name, image.Platform, image.PulledAt, image.Digest), (found.Reference, found.Name, found.Platform, found.PulledAt, found.Digest));
    }

    [Fact]
    public async Task The_same_blob_twice_in_a_manifest_keeps_both_positions_and_is_one_row()
    {
        using StoreHarness store = new();
        StoredLayer same = StoreHarness.Layer("same");
        StoredLayer other = StoreHarness.Layer("other");
        using Catalog catalog = await store.OpenAsync();

        await catalog.RecordAsync(StoreHarness.Image("1", "x", same, other, same), StoreHarness.Token);

        AssertLayers([same, other, same], Find(catalog, "example.com/a/b:1")!.Layers);
        Assert.Equal(2, Rows(store)["layers"]);
        Assert.Equal([0, 1, 2], Numbers(store, "SELECT position FROM manifest_layers ORDER BY position"));
    }

    [Fact]
    public async Task Recording_the_same_again_adds_no_row_and_writes_nothing()
    {
        using StoreHarness store = new();
        using (Catalog catalog = await store.OpenAsync())
        {
            await catalog.RecordAsync(StoreHarness.Image("1", "x"), StoreHarness.Token);
        }

        Dictionary<string, long> rows = Rows(store);
        byte[] file = File.ReadAllBytes(store.Layout.Database);
        using (Catalog catalog = await store.OpenAsync())
        {
            await catalog.RecordAsync(StoreHarness.Image("1", "x") with { PulledAt = DateTimeOffset.UtcNow }, StoreHarness.Token);
        }

        Assert.Equal(rows, Rows(store));
        Assert.Equal(file, File.ReadAllBytes(store.Layout.Database));
    }

    [Fact]
    public async Task A_moved_tag_names_the_new_image_and_what_both_share_is_kept_once()
    {
        using StoreHarness store = new();
        using Catalog catalog = await store.OpenAsync();
        await catalog.RecordAsync(StoreHarness.Image("1", "old"), StoreHarness.Token);

        await catalog.RecordAsync(StoreHarness.Image("1", "new"), StoreHarness.Token);

        Assert.Equal(StoreHarness.Image("1", "new").Digest, Find(catalog, "example.com/a/b:1")!.Digest);
        Assert.Equal(StoreHarness.Image("1", "new").Reference, Assert.Single(catalog.List()).Reference);
        // the old one's documents stay until pruned, as its blobs do; the shared layer has one row
        Assert.Equal((1L, 2L, 3L), (Rows(store)["images"], Rows(store)["manifests"], Rows(store)["layers"]));
    }

    [Fact]
    public async Task A_reader_sees_the_old_image_or_the_new_one_and_each_with_all_its_layers()
    {
        using StoreHarness store = new();
        using Catalog writer = await store.OpenAsync();
        await writer.RecordAsync(StoreHarness.Image("1", "0"), StoreHarness.Token);
        using CancellationTokenSource done = new();
        Task reading = Task.Run(
            () =>
            {
                int seen = 0;
                while (!done.IsCancellationRequested || seen < 10)
                {
                    using Catalog reader = Catalog.OpenReadOnly(store.Layout, store.Options)!;
                    PulledImage image = Assert.Single(reader.List());
                    Assert.Equal(2, image.Layers.Count);
                    seen++;
                }
            },
            StoreHarness.Token);

        for (int i = 1; i < 40; i++)
        {
            await writer.RecordAsync(StoreHarness.Image("1", $"{i}"), StoreHarness.Token);
        }

        await done.CancelAsync();
        await reading;
    }

    [Fact]
    public async Task A_digest_finds_the_image_by_its_index_and_by_its_manifest_under_any_tag_of_the_name()
    {
        using StoreHarness store = new();
        using Catalog catalog = await store.OpenAsync();
        PulledImage image = StoreHarness.Image("1", "x");
        await catalog.RecordAsync(image, StoreHarness.Token);

        Assert.NotNull(Find(catalog, $"example.com/a/b@{image.Index!.Digest}"));
        Assert.NotNull(Find(catalog, $"example.com/a/b@{image.Manifest.Digest}"));
        Assert.Null(Find(catalog, $"example.com/a/c@{image.Manifest.Digest}"));
        Assert.Null(Find(catalog, $"example.com/a/b@{image.Config.Digest}"));
        Assert.Null(Find(catalog, "example.com/a/b:2"));
    }

    [Fact]
    public async Task Platforms_of_one_reference_stand_beside_each_other()
    {
        using StoreHarness store = new();
        using Catalog catalog = await store.OpenAsync();
        Assert.True(Platform.TryParse("linux/s390x", out Platform? other));
        await catalog.RecordAsync(StoreHarness.Image("1", "ours"), StoreHarness.Token);
        await catalog.RecordAsync(StoreHarness.Image("1", "theirs") with { Platform = other }, StoreHarness.Token);

        Assert.Equal(2, catalog.List().Count);
        Assert.Equal(StoreHarness.Document("manifest ours").Digest, Find(catalog, "example.com/a/b:1")!.Manifest.Digest);
        Assert.True(Reference.TryParse("example.com/a/b:1", out Reference? reference, out _));
        Assert.Equal(StoreHarness.Document("manifest theirs").Digest, catalog.Find(reference, other)!.Manifest.Digest);
    }

    [Fact]
    public async Task One_blob_under_two_media_types_or_with_a_false_diff_id_is_what_each_manifest_says()
    {
        using StoreHarness store = new();
        using Catalog catalog = await store.OpenAsync();
        StoredLayer oci = StoreHarness.Layer("same");
        StoredLayer docker = StoreHarness.Layer("same", "application/vnd.docker.image.rootfs.diff.tar.gzip");
        StoredLayer lie = oci with { DiffId = Digest.Of([6, 6, 6]) };

        await catalog.RecordAsync(StoreHarness.Image("lie", "lie", lie), StoreHarness.Token);
        await catalog.RecordAsync(StoreHarness.Image("docker", "docker", docker), StoreHarness.Token);
        await catalog.RecordAsync(StoreHarness.Image("oci", "oci", oci), StoreHarness.Token);

        AssertLayers([lie], Find(catalog, "example.com/a/b:lie")!.Layers);
        AssertLayers([docker], Find(catalog, "example.com/a/b:docker")!.Layers);
        AssertLayers([oci], Find(catalog, "example.com/a/b:oci")!.Layers);
    }

    [Fact]
    public async Task Digests_are_blobs_and_the_schema_has_a_version()
    {
        using StoreHarness store = new();
        using Catalog catalog = await store.OpenAsync();
        await catalog.RecordAsync(StoreHarness.Image("1", "x"), StoreHarness.Token);

        Assert.Equal([CatalogSchema.Version], Numbers(store, "PRAGMA user_version"));
        foreach (string table in new[] { "configs", "indexes", "layers", "manifests" })
        {
            Assert.All(Numbers(store, $"SELECT length(digest) * (typeof(digest) = 'blob') FROM {table}"), length => Assert.Equal(32, length));
        }
    }

    [Fact]
    public async Task A_root_file_system_is_known_by_path_manifest_and_directory()
    {
        using StoreHarness store = new();
        using Catalog catalog = await store.OpenAsync();
        Digest manifest = Digest.Of([1]);
        Directory.CreateDirectory(store["r"]);
        catalog.RecordRootfs(store["r"], manifest, "", NativePull.Native.Libc.TryIdentityOf(store["r"])!.Value.Lasting);

        Assert.True(catalog.HasRootfs(store["r"], manifest, ""));
        Assert.False(catalog.HasRootfs(store["r"], Digest.Of([2]), ""));
        Assert.False(catalog.HasRootfs(store["other"], manifest, ""));
        Directory.Move(store["r"], store["elsewhere"]);
        Directory.CreateDirectory(store["r"]);
        Assert.False(catalog.HasRootfs(store["r"], manifest, ""));
    }

    [Fact]
    public async Task A_newer_schema_is_refused_for_writing_and_for_reading()
    {
        using StoreHarness store = new();
        (await store.OpenAsync()).Dispose();
        Run(store, $"PRAGMA user_version = {CatalogSchema.Version + 1}");

        PullException writing = await Assert.ThrowsAsync<PullException>(store.OpenAsync);
        PullException reading = Assert.Throws<PullException>(() => Catalog.OpenReadOnly(store.Layout, store.Options));

        Assert.Equal((PullError.StoreDamaged, PullError.StoreDamaged), (writing.Reason, reading.Reason));
        Assert.Contains("newer", writing.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_that_is_no_database_is_a_damaged_store_and_stays_as_it_is()
    {
        using StoreHarness store = new();
        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);
        string text = new('x', 5000);
        File.WriteAllText(store.Layout.Database, text);

        PullException writing = await Assert.ThrowsAsync<PullException>(store.OpenAsync);
        PullException reading = Assert.Throws<PullException>(() => Catalog.OpenReadOnly(store.Layout, store.Options));

        Assert.Equal((PullError.StoreDamaged, PullError.StoreDamaged), (writing.Reason, reading.Reason));
        Assert.Equal(text, File.ReadAllText(store.Layout.Database));
    }

    [Fact]
    public async Task A_file_that_a_killed_process_had_only_begun_is_no_catalog_for_a_reader_and_completed_by_a_writer()
    {
        using StoreHarness store = new();
        await LayoutIndex.EnsureStoreAsync(store.Layout, store.Options, StoreHarness.Token);
        File.WriteAllBytes(store.Layout.Database, []);

        Assert.Null(Catalog.OpenReadOnly(store.Layout, store.Options));
        using Catalog catalog = await store.OpenAsync();
        Assert.Empty(catalog.List());
    }

    [Fact]
    public async Task Eight_at_once_open_and_record()
    {
        using StoreHarness store = new();

        await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(
            async () =>
            {
                using Catalog catalog = await store.OpenAsync();
                await catalog.RecordAsync(StoreHarness.Image($"{i}", $"{i % 4}"), StoreHarness.Token);
            },
            StoreHarness.Token)));

        using Catalog all = await store.OpenAsync();
        Assert.Equal(8, all.List().Count);
        Assert.Equal(4, Rows(store)["manifests"]);
    }

    private static PulledImage? Find(Catalog catalog, string text) => Reference.TryParse(text, out Reference? reference, out string? problem)
        ? catalog.Find(reference, Platform.OfThisMachine)
        : throw new ArgumentException(problem);

    private static void AssertLayers(IReadOnlyList<StoredLayer> expected, IReadOnlyList<StoredLayer> actual) =>
        Assert.Equal(expected.Select(Facts), actual.Select(Facts));

    private static (string, Digest, long, Digest) Facts(StoredLayer layer) => (layer.Blob.MediaType, layer.Blob.Digest, layer.Blob.Size, layer.DiffId);

    private static Dictionary<string, long> Rows(StoreHarness store) => Tables.ToDictionary(table => table, table => Numbers(store, $"SELECT count(*) FROM {table}")[0]);

    private static List<long> Numbers(StoreHarness store, string query)
    {
        using SqliteConnection connection = new($"Data Source={store.Layout.Database};Pooling=false");
        connection.Open();
        using SqliteCommand command = connection.CreateCommand();
#pragma warning disable CA2100 // the tests' own texts
        command.CommandText = query;
#pragma warning restore CA2100
        using SqliteDataReader row = command.ExecuteReader();
        List<long> numbers = [];
        while (row.Read())
        {
            numbers.Add(row.GetInt64(0));
        }

        return numbers;
    }

    private static void Run(StoreHarness store, string statement) => _ = Numbers(store, statement);
}
