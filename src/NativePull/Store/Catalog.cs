using Microsoft.Data.Sqlite;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;
using NativePull.Oci;

namespace NativePull.Store;

/// <summary>
/// Which images the store has: references, indexes, manifests, configs and layers in SQLite. A reader never sees an image without all of its
/// layers; recording the same again writes nothing.
/// </summary>
internal sealed class Catalog : IDisposable
{
    private const int BusySeconds = 60;

    private readonly SqliteConnection connection;
    private readonly StoreLayout layout;
    private readonly StoreOptions options;

    private Catalog(SqliteConnection connection, StoreLayout layout, StoreOptions options)
    {
        this.connection = connection;
        this.layout = layout;
        this.options = options;
    }

    /// <summary>Opens, and makes store and tables where they are not there yet.</summary>
    /// <exception cref="PullException">StoreDamaged, Locked, NoSpace, Permission, Machine.</exception>
    internal static async Task<Catalog> OpenAsync(StoreLayout layout, StoreOptions options, CancellationToken token)
    {
        await LayoutIndex.EnsureStoreAsync(layout, options, token);
        return Guard(layout, () =>
        {
            SqliteConnection connection = Connect(layout.Database, SqliteOpenMode.ReadWriteCreate);
            try
            {
                // write-ahead where the file system can share memory; SQLite stays with its rollback journal elsewhere, which is as safe
                Execute(connection, "PRAGMA journal_mode = WAL");
                Execute(connection, "PRAGMA synchronous = FULL");
                Execute(connection, "PRAGMA foreign_keys = ON");
                CatalogSchema.Prepare(connection);
                return new Catalog(connection, layout, options);
            }
            catch
            {
                connection.Dispose();
                throw;
            }
        });
    }

    /// <summary>Opens for looking; null where there is no catalog, or an empty one. Works in a directory that cannot be written.</summary>
    /// <exception cref="PullException">StoreDamaged, Machine.</exception>
    internal static Catalog? OpenReadOnly(StoreLayout layout, StoreOptions options)
    {
        if (!File.Exists(layout.Database))
        {
            return null;
        }

        return Guard(layout, () =>
        {
            SqliteConnection connection = Connect(layout.Database, SqliteOpenMode.ReadOnly);
            bool isKept = false;
            try
            {
                try
                {
                    isKept = CatalogSchema.IsPrepared(connection);
                }
                catch (SqliteException unwritable) when (unwritable.SqliteErrorCode is 8 or 14)
                {
                    // READONLY, CANTOPEN: the directory takes no shared-memory file; nobody can be writing there, so the file is immutable
                    connection.Dispose();
                    connection = Connect(Immutable(layout.Database), SqliteOpenMode.ReadOnly);
                    isKept = CatalogSchema.IsPrepared(connection);
                }

                return isKept ? new Catalog(connection, layout, options) : null;
            }
            finally
            {
                if (!isKept)
                {
                    connection.Dispose();
                }
            }
        });
    }

    /// <summary>Records an image whose blobs are all in the store: one transaction, then index.json.</summary>
    /// <exception cref="PullException">StoreDamaged, Locked, NoSpace, Permission, Machine.</exception>
    internal Task RecordAsync(PulledImage image, CancellationToken token)
    {
        if (!Guard(layout, () => IsRecorded(image)))
        {
            Guard(layout, () => Write(image));
        }

        return LayoutIndex.PutAsync(layout, image, options, token);
    }

    /// <summary>The image a reference means for a platform: the reference as recorded, or any of the same name that has the digest asked for.</summary>
    internal PulledImage? Find(Reference reference, Platform platform) => Guard(layout, () =>
    {
        List<PulledImage> candidates = Query(
            """
            WHERE reference = $reference
               OR ($digest IS NOT NULL AND name = $name AND (m.digest = $digest OR i.digest = $digest))
            """,
            ("$reference", reference.ToString()),
            ("$name", reference.Name),
            ("$digest", (object?)reference.Digest?.ToBytes() ?? DBNull.Value));
        if (reference.Digest is { } digest)
        {
            candidates.RemoveAll(image => image.Digest != digest && image.Manifest.Digest != digest);
        }

        int picked = platform.PickFrom([.. candidates.Select(image => image.Platform)]);
        return picked < 0 ? null : candidates[picked];
    });

    /// <summary>All images, by reference and platform.</summary>
    internal IReadOnlyList<PulledImage> List() => Guard(layout, () => Query("ORDER BY reference, platform"));

    /// <summary>Says that the directory of this identity is, or is about to be, the root file system of a manifest at a path, made under the variant's policies.</summary>
    internal void RecordRootfs(string path, Digest manifest, string variant, string directory) => Guard(layout, () =>
    {
        using SqliteCommand command = Command(
            "INSERT OR REPLACE INTO rootfs (path, manifest, directory) VALUES ($path, $manifest, $directory)",
            ("$path", path),
            ("$manifest", manifest.ToBytes()),
            ("$directory", Mark(directory, variant)));
        return command.ExecuteNonQuery();
    });

    /// <summary>Whether the directory at the path is the very one that was published there for this manifest and variant.</summary>
    internal bool HasRootfs(string path, Digest manifest, string variant) => Guard(layout, () =>
    {
        if (Libc.TryIdentityOf(path) is not { } present)
        {
            return false;
        }

        using SqliteCommand command = Command(
            "SELECT count(*) FROM rootfs WHERE path = $path AND manifest = $manifest AND directory = $directory",
            ("$path", path),
            ("$manifest", manifest.ToBytes()),
            ("$directory", Mark(present.Lasting, variant)));
        return (long)command.ExecuteScalar()! > 0;
    });

    public void Dispose() => connection.Dispose();

    private static string Mark(string directory, string variant) => variant.Length == 0 ? directory : $"{directory} {variant}";

    private bool IsRecorded(PulledImage image)
    {
        using SqliteCommand command = Command(
            """
            SELECT count(*) FROM images JOIN manifests m ON m.id = manifest LEFT JOIN indexes i ON i.id = index_document
            WHERE reference = $reference AND platform = $platform AND m.digest = $manifest AND i.digest IS $index
            """,
            ("$reference", image.Reference),
            ("$platform", image.Platform.ToString()),
            ("$manifest", image.Manifest.Digest.ToBytes()),
            ("$index", (object?)image.Index?.Digest.ToBytes() ?? DBNull.Value));
        return (long)command.ExecuteScalar()! > 0;
    }

    private bool Write(PulledImage image)
    {
        using SqliteTransaction transaction = connection.BeginTransaction(deferred: false);
        long config = PutDocument("configs", image.Config);
        long manifest = PutManifest(image.Manifest, config);
        long? index = image.Index is { } document ? PutDocument("indexes", document) : null;
        for (int position = 0; position < image.Layers.Count; position++)
        {
            long layer = PutLayer(image.Layers[position]);
            using SqliteCommand link = Command(
                "INSERT OR IGNORE INTO manifest_layers (manifest, position, layer) VALUES ($manifest, $position, $layer)",
                ("$manifest", manifest),
                ("$position", position),
                ("$layer", layer));
            link.ExecuteNonQuery();
        }

        using SqliteCommand put = Command(
            """
            INSERT OR REPLACE INTO images (reference, platform, name, manifest, index_document, pulled_at)
            VALUES ($reference, $platform, $name, $manifest, $index, $at)
            """,
            ("$reference", image.Reference),
            ("$platform", image.Platform.ToString()),
            ("$name", image.Name),
            ("$manifest", manifest),
            ("$index", (object?)index ?? DBNull.Value),
            ("$at", image.PulledAt.ToUnixTimeSeconds()));
        put.ExecuteNonQuery();
        transaction.Commit();
        return true;
    }

    private long PutDocument(string table, StoredDocument document)
    {
        using SqliteCommand put = Command(
            $"INSERT OR IGNORE INTO {table} (digest, media_type, content) VALUES ($digest, $type, $content)",
            ("$digest", document.Digest.ToBytes()),
            ("$type", document.MediaType),
            ("$content", document.Content));
        put.ExecuteNonQuery();
        return IdOf(table, document.Digest);
    }

    private long PutManifest(StoredDocument document, long config)
    {
        using SqliteCommand put = Command(
            "INSERT OR IGNORE INTO manifests (digest, media_type, content, config) VALUES ($digest, $type, $content, $config)",
            ("$digest", document.Digest.ToBytes()),
            ("$type", document.MediaType),
            ("$content", document.Content),
            ("$config", config));
        put.ExecuteNonQuery();
        return IdOf("manifests", document.Digest);
    }

    private long PutLayer(StoredLayer layer)
    {
        using SqliteCommand put = Command(
            "INSERT OR IGNORE INTO layers (digest, diff_id, media_type, size) VALUES ($digest, $diff, $type, $size)",
            ("$digest", layer.Blob.Digest.ToBytes()),
            ("$diff", layer.DiffId.ToBytes()),
            ("$type", layer.Blob.MediaType),
            ("$size", layer.Blob.Size));
        put.ExecuteNonQuery();
        using SqliteCommand command = Command(
            "SELECT id FROM layers WHERE digest = $digest AND diff_id = $diff AND media_type = $type",
            ("$digest", layer.Blob.Digest.ToBytes()),
            ("$diff", layer.DiffId.ToBytes()),
            ("$type", layer.Blob.MediaType));
        return (long)command.ExecuteScalar()!;
    }

    private long IdOf(string table, Digest digest)
    {
        using SqliteCommand command = Command($"SELECT id FROM {table} WHERE digest = $digest", ("$digest", digest.ToBytes()));
        return (long)command.ExecuteScalar()!;
    }

    private List<PulledImage> Query(string condition, params (string Name, object Value)[] parameters)
    {
        List<(PulledImage Image, long Manifest)> found = [];
        using (SqliteCommand command = Command(
            $"""
            SELECT reference, name, platform, pulled_at, m.id, m.media_type, m.digest, m.content,
                   c.media_type, c.digest, c.content, i.media_type, i.digest, i.content
            FROM images JOIN manifests m ON m.id = manifest JOIN configs c ON c.id = m.config LEFT JOIN indexes i ON i.id = index_document
            {condition}
            """,
            parameters))
        using (SqliteDataReader row = command.ExecuteReader())
        {
            while (row.Read())
            {
                PulledImage image = new(
                    row.GetString(0),
                    row.GetString(1),
                    PlatformOf(row.GetString(2)),
                    row.IsDBNull(11) ? null : Document(row, 11),
                    Document(row, 5),
                    Document(row, 8),
                    [],
                    TimeAt(row, 3));
                found.Add((image, row.GetInt64(4)));
            }
        }

        return [.. found.Select(item => item.Image with { Layers = LayersOf(item.Manifest) })];
    }

    private List<StoredLayer> LayersOf(long manifest)
    {
        using SqliteCommand command = Command(
            """
            SELECT digest, diff_id, media_type, size FROM manifest_layers JOIN layers ON layers.id = layer
            WHERE manifest = $manifest ORDER BY position
            """,
            ("$manifest", manifest));
        using SqliteDataReader row = command.ExecuteReader();
        List<StoredLayer> layers = [];
        while (row.Read())
        {
            layers.Add(new StoredLayer(
                new Descriptor(row.GetString(2), DigestAt(row, 0), row.GetInt64(3)),
                DigestAt(row, 1)));
        }

        return layers;
    }

    private static StoredDocument Document(SqliteDataReader row, int first) =>
        new(row.GetString(first), DigestAt(row, first + 1), (byte[])row.GetValue(first + 2));

    // What SQLite has no opinion on: it keeps any bytes and any number.
    private static Digest DigestAt(SqliteDataReader row, int column) => row.GetValue(column) is byte[] { Length: 32 or 64 } bytes
        ? Digest.FromBytes(bytes)
        : throw new PullException(PullError.StoreDamaged, $"the catalog has a {row.GetName(column)} that is no digest of 32 or 64 bytes");

    private static DateTimeOffset TimeAt(SqliteDataReader row, int column) =>
        row.GetInt64(column) is var seconds && seconds >= DateTimeOffset.MinValue.ToUnixTimeSeconds() && seconds <= DateTimeOffset.MaxValue.ToUnixTimeSeconds()
            ? DateTimeOffset.FromUnixTimeSeconds(seconds)
            : throw new PullException(PullError.StoreDamaged, $"the catalog names a time of {seconds} s, which is none");

    private static Platform PlatformOf(string text) => Platform.TryParse(text, out Platform? platform)
        ? platform
        : throw new PullException(PullError.StoreDamaged, $"the catalog names a platform \"{text}\"");

    private SqliteCommand Command(string text, params (string Name, object Value)[] parameters)
    {
        SqliteCommand command = connection.CreateCommand();
#pragma warning disable CA2100 // the texts are this file's own; values are always parameters
        command.CommandText = text;
#pragma warning restore CA2100
        foreach ((string name, object value) in parameters)
        {
            command.Parameters.AddWithValue(name, value);
        }

        return command;
    }

    private static SqliteConnection Connect(string database, SqliteOpenMode mode)
    {
        SQLitePCL.Batteries_V2.Init();
        SqliteConnectionStringBuilder text = new() { DataSource = database, Mode = mode, Pooling = false, DefaultTimeout = BusySeconds };
        SqliteConnection connection = new(text.ToString());
        try
        {
            connection.Open();
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    // sqlite.org/uri.html
    private static string Immutable(string path) => $"file:{Uri.EscapeDataString(path).Replace("%2F", "/", StringComparison.Ordinal)}?immutable=1";

    private static void Execute(SqliteConnection connection, string pragma)
    {
        using SqliteCommand command = connection.CreateCommand();
#pragma warning disable CA2100 // constants of this file
        command.CommandText = pragma;
#pragma warning restore CA2100
        _ = command.ExecuteScalar();
    }

    // SQLite's result codes (sqlite.org/rescode.html) as reasons.
    private static T Guard<T>(StoreLayout layout, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (SqliteException failure)
        {
            PullError reason = failure.SqliteErrorCode switch
            {
                5 or 6 => PullError.Locked, // BUSY, LOCKED
                8 or 3 => PullError.Permission, // READONLY, PERM
                11 or 26 => PullError.StoreDamaged, // CORRUPT, NOTADB
                13 => PullError.NoSpace, // FULL
                // IOERR, CANTOPEN: also what becomes of ENOSPC when the shared memory or a journal is made, and of EROFS
                10 or 14 when IsFull(layout) => PullError.NoSpace,
                14 when File.Exists(layout.Database) => PullError.Permission,
                _ => PullError.Machine,
            };
            throw new PullException(reason, $"catalog {layout.Database}", failure);
        }
    }

    private static bool IsFull(StoreLayout layout)
    {
        using SafeFileHandle? root = Libc.TryOpenDirectory(layout.Root);
        // less than one index of the write-ahead log, which is made whole (sqlite.org/walformat.html, "The WAL-Index File Format")
        return root is not null && Libc.FreeBytes(root) is < 64 * 1024;
    }
}
