using System.Globalization;
using Microsoft.Data.Sqlite;

namespace NativePull.Store;

/// <summary>The tables, and how an older file becomes the present one. <c>user_version</c> names the schema.</summary>
internal static class CatalogSchema
{
    internal const int Version = 1;

    // Digests are BLOBs of 32 or 64 bytes. Documents are kept once, byte for byte, whatever points to them. Media types stay text: a few per
    // image, and a person with sqlite3 can read them. Tables of small rows found by their key alone are WITHOUT ROWID.
    // A layer is a blob with what an image says of it: two images may give the same blob other media types (Docker's and OCI's), and one may
    // lie about the diff ID, which must not become what the other is read with.
    private const string Tables = """
        CREATE TABLE configs (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,
            media_type TEXT NOT NULL,
            content BLOB NOT NULL
        ) STRICT;
        CREATE TABLE manifests (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,
            media_type TEXT NOT NULL,
            content BLOB NOT NULL,
            config INTEGER NOT NULL REFERENCES configs (id)
        ) STRICT;
        CREATE TABLE indexes (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,
            media_type TEXT NOT NULL,
            content BLOB NOT NULL
        ) STRICT;
        CREATE TABLE layers (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL,
            diff_id BLOB NOT NULL,
            media_type TEXT NOT NULL,
            size INTEGER NOT NULL,
            UNIQUE (digest, diff_id, media_type)
        ) STRICT;
        CREATE TABLE manifest_layers (
            manifest INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            layer INTEGER NOT NULL REFERENCES layers (id),
            PRIMARY KEY (manifest, position)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE images (
            reference TEXT NOT NULL,
            platform TEXT NOT NULL,
            name TEXT NOT NULL,
            manifest INTEGER NOT NULL REFERENCES manifests (id),
            index_document INTEGER REFERENCES indexes (id),
            pulled_at INTEGER NOT NULL,
            PRIMARY KEY (reference, platform)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE rootfs (
            path TEXT NOT NULL PRIMARY KEY,
            manifest BLOB NOT NULL,
            directory TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        """;

    /// <summary>Makes the tables in an empty file.</summary>
    /// <exception cref="PullException">StoreDamaged: the file is of a newer schema.</exception>
    internal static void Prepare(SqliteConnection connection)
    {
        if (IsPrepared(connection))
        {
            return;
        }

        using SqliteTransaction transaction = connection.BeginTransaction(deferred: false);
        // another process may have made them while this one waited for its turn
        if (VersionOf(connection) == 0)
        {
            using SqliteCommand command = connection.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = Tables + $"PRAGMA user_version = {Version.ToString(CultureInfo.InvariantCulture)};";
            command.ExecuteNonQuery();
        }

        transaction.Commit();
    }

    /// <summary>Whether the tables are there; a file that a killed process had only begun has none.</summary>
    /// <exception cref="PullException">StoreDamaged: the file is of a newer schema.</exception>
    internal static bool IsPrepared(SqliteConnection connection)
    {
        long found = VersionOf(connection);
        return found <= Version
            ? found > 0
            : throw new PullException(
                PullError.StoreDamaged,
                $"{connection.DataSource} has schema {found.ToString(CultureInfo.InvariantCulture)}, newer than this program's {Version.ToString(CultureInfo.InvariantCulture)}");
    }

    private static long VersionOf(SqliteConnection connection)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "PRAGMA user_version";
        return (long)command.ExecuteScalar()!;
    }
}
