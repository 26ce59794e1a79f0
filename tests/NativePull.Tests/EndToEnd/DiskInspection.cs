using System.Text.Json;
using Microsoft.Data.Sqlite;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// Looks at a disk that a pull was writing to when its power was cut, in the layout that the tests of power cuts use: a store <c>s</c> (or <c>r.part</c>),
/// trees <c>r</c> and <c>l</c>, an archive <c>t.tar</c>. Whatever is visible must be whole, of the image before or of the one after.
/// </summary>
internal sealed class DiskInspection
{
    private static readonly string[] Names =
        [".l.nativepull", ".r.nativepull", ".t.tar.nativepull", "l", "lost+found", "r", "r.part", "s", "t.tar"];

    private readonly string root;
    private readonly UndisturbedPull? before;
    private readonly UndisturbedPull after;
    private readonly PowerScenario scenario;
    private readonly List<string> violations = [];
    private long missingBytes;

    private DiskInspection(string root, UndisturbedPull? before, UndisturbedPull after, PowerScenario scenario)
    {
        this.root = root;
        this.before = scenario.IsUpdate ? before : null;
        this.after = after;
        this.scenario = scenario;
        try
        {
            Look();
        }
        catch (IOException unreadable)
        {
            violations.Add($"it cannot be read: {unreadable.Message}");
        }
    }

    /// <summary>What must never be seen; empty where all is well.</summary>
    internal IReadOnlyList<string> Violations => violations;

    /// <summary>All that was asked for is there, of the image after.</summary>
    internal bool IsNew { get; private set; }

    /// <summary>Bytes of layers in progress that are right, from their first on.</summary>
    internal long RightBytes { get; private set; }

    /// <summary>Bytes by the length of their files.</summary>
    internal long PartBytes { get; private set; }

    /// <summary>Bytes of the image after's layers that must still be fetched.</summary>
    internal long ToFetch => missingBytes - RightBytes;

    /// <param name="root">Where the disk is mounted.</param>
    /// <param name="before">The image whose outputs were there, where the scenario is an update.</param>
    /// <param name="after">The image that was being pulled.</param>
    internal static DiskInspection Of(string root, UndisturbedPull? before, UndisturbedPull after, PowerScenario scenario) => new(root, before, after, scenario);

    private void Look()
    {
        foreach (string name in Directory.GetFileSystemEntries(root).Select(path => Path.GetFileName(path)).Except(Names))
        {
            violations.Add($"{name} is no name of ours");
        }

        string store = Directory.Exists(Below("r.part")) ? Below("r.part") : Below("s");
        missingBytes = after.Blobs.Skip(2).Where(hex => !File.Exists(BlobOf(store, hex))).Sum(hex => new FileInfo(after.TryBlob(hex)!).Length);
        bool recorded = Directory.Exists(store) && LookAtStore(store);
        bool rootfs = LookAtTree("r", pull => pull.Rootfs);
        bool layers = LookAtTree("l", pull => pull.Layers);
        bool tar = LookAtArchive();
        IsNew = (recorded || !scenario.KeepsStore) && (rootfs || !scenario.Makes("--rootfs")) && (layers || !scenario.Makes("--layers")) && (tar || !scenario.Makes("--tar"));
    }

    private bool LookAtStore(string store)
    {
        foreach (string blob in Files(store, "blobs/sha256"))
        {
            string name = Path.GetFileName(blob);
            if (UndisturbedPull.Hash(blob) is { } hash && hash != name)
            {
                violations.Add($"blob {name} of {new FileInfo(blob).Length} bytes hashes to {hash}");
            }
        }

        foreach (string hex in after.Blobs.Skip(2))
        {
            string part = Path.Combine(store, $"parts/sha256-{hex}");
            if (File.Exists(part))
            {
                PartBytes += new FileInfo(part).Length;
                RightBytes += CommonBytes(part, after.TryBlob(hex)!);
            }
        }

        foreach (string chain in Directory.Exists(Path.Combine(store, "layers/sha256")) ? Directory.GetDirectories(Path.Combine(store, "layers/sha256")) : [])
        {
            string name = Path.GetFileName(chain);
            if (name.StartsWith('.'))
            {
                continue; // being made
            }

            if ((after.Chains.GetValueOrDefault(name) ?? before?.Chains.GetValueOrDefault(name)) is not { } expected)
            {
                violations.Add($"layer directory {name} belongs to neither image");
            }
            else if (expected.Differences(UndisturbedPull.ListTree(chain)) is { Count: > 0 } differences)
            {
                violations.Add($"layer directory {name}: {differences[0]} and {differences.Count - 1} more");
            }
        }

        return LookAtIndex(store) & LookAtCatalog(store);
    }

    // True: it names the image after.
    private bool LookAtIndex(string store)
    {
        if (!File.Exists(Path.Combine(store, "oci-layout")))
        {
            return false; // a store half made
        }

        try
        {
            _ = JsonDocument.Parse(File.ReadAllText(Path.Combine(store, "oci-layout"))).RootElement.GetProperty("imageLayoutVersion");
            string[] named = [.. JsonDocument.Parse(File.ReadAllText(Path.Combine(store, "index.json"))).RootElement.GetProperty("manifests").EnumerateArray()
                .Select(manifest => manifest.GetProperty("digest").GetString()!["sha256:".Length..])];
            CheckNamed(store, "index.json", named);
            return named.Contains(after.Blobs[0]);
        }
        catch (Exception damaged) when (damaged is JsonException or IOException or KeyNotFoundException)
        {
            violations.Add($"the layout: {damaged.Message}");
            return false;
        }
    }

    // True: it knows the image after. Looked at in a copy, for SQLite tidies up behind a power cut.
    private bool LookAtCatalog(string store)
    {
        using TemporaryDirectory copy = new();
        foreach (string file in Directory.GetFiles(store, "nativepull.db*").Where(file => !file.EndsWith("-shm", StringComparison.Ordinal)))
        {
            File.Copy(file, copy[Path.GetFileName(file)]);
        }

        if (!File.Exists(copy["nativepull.db"]))
        {
            return false;
        }

        try
        {
            SQLitePCL.Batteries_V2.Init();
            using SqliteConnection connection = new($"Data Source={copy["nativepull.db"]};Pooling=False");
            connection.Open();
            foreach (string check in new[] { "PRAGMA integrity_check", "PRAGMA foreign_key_check" })
            {
                violations.AddRange(Rows(connection, check).Where(row => row != "ok").Select(row => $"catalog, {check}: {row}"));
            }

            if (Rows(connection, "PRAGMA user_version")[0] == "0")
            {
                return false;
            }

            string[] named = [.. Rows(connection, "SELECT lower(hex(m.digest)) FROM images JOIN manifests m ON m.id = manifest")];
            CheckNamed(store, "the catalog", named);
            return named.Contains(after.Blobs[0]);
        }
        catch (SqliteException damaged)
        {
            violations.Add($"catalog: {damaged.Message}");
            return false;
        }
    }

    private void CheckNamed(string store, string where, string[] manifests)
    {
        foreach (string manifest in manifests)
        {
            if (new[] { before, after }.FirstOrDefault(pull => pull?.Blobs[0] == manifest) is not { } image)
            {
                violations.Add($"{where} names manifest {manifest}, of neither image");
                continue;
            }

            violations.AddRange(image.Blobs.Where(hex => !File.Exists(BlobOf(store, hex))).Select(hex => $"{where} names manifest {manifest}, whose blob {hex} is not there"));
        }
    }

    private bool LookAtTree(string name, Func<UndisturbedPull, TreeListing> of)
    {
        string path = Below(name);
        if (!Directory.Exists(path) || !Directory.EnumerateFileSystemEntries(path).Any())
        {
            if (before is not null)
            {
                violations.Add($"{name} is gone");
            }

            return false;
        }

        TreeListing found = UndisturbedPull.ListTree(path);
        IReadOnlyList<string> toNew = of(after).Differences(found);
        if (toNew.Count > 0 && (before is null || of(before).Differences(found).Count > 0))
        {
            violations.Add($"{name} is neither tree; to the new one: {toNew[0]} and {toNew.Count - 1} more");
        }

        return toNew.Count == 0;
    }

    private bool LookAtArchive()
    {
        string? hash = File.Exists(Below("t.tar")) ? UndisturbedPull.Hash(Below("t.tar")) : null;
        if (hash != after.Tar && hash != before?.Tar)
        {
            violations.Add(hash is null ? "t.tar is gone" : $"t.tar of {new FileInfo(Below("t.tar")).Length} bytes is neither archive");
        }

        return hash == after.Tar;
    }

    private string Below(string name) => Path.Combine(root, name);

    private static string BlobOf(string store, string hex) => Path.Combine(store, "blobs/sha256", hex);

    private static string[] Files(string store, string below) => Directory.Exists(Path.Combine(store, below)) ? Directory.GetFiles(Path.Combine(store, below)) : [];

    private static long CommonBytes(string one, string other)
    {
        using FileStream first = File.OpenRead(one);
        using FileStream second = File.OpenRead(other);
        byte[] left = new byte[64 * 1024];
        byte[] right = new byte[64 * 1024];
        for (long at = 0; ;)
        {
            int read = first.ReadAtLeast(left, left.Length, throwOnEndOfStream: false);
            int same = left.AsSpan(0, read).CommonPrefixLength(right.AsSpan(0, second.ReadAtLeast(right, right.Length, throwOnEndOfStream: false)));
            at += same;
            if (same < left.Length)
            {
                return at;
            }
        }
    }

    private static List<string> Rows(SqliteConnection connection, string query)
    {
        using SqliteCommand command = connection.CreateCommand();
#pragma warning disable CA2100 // constants of this file
        command.CommandText = query;
#pragma warning restore CA2100
        using SqliteDataReader reader = command.ExecuteReader();
        List<string> rows = [];
        while (reader.Read())
        {
            rows.Add(Convert.ToString(reader.GetValue(0), System.Globalization.CultureInfo.InvariantCulture)!);
        }

        return rows;
    }
}
