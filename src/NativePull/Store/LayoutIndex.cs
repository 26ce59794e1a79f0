using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;
using NativePull.Oci;

namespace NativePull.Store;

/// <summary>
/// oci-layout and index.json (image-spec, image-layout.md), so that other tools read the store in place. Each reference names its platform's
/// manifest there. What other tools put into index.json stays.
/// </summary>
internal static class LayoutIndex
{
    private const string RefName = "org.opencontainers.image.ref.name";
    private const string LayoutVersion = """{"imageLayoutVersion":"1.0.0"}""";
    private const string EmptyIndex = """{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}""";

    /// <summary>Makes what a store consists of where it is missing. The file that makes it an OCI layout comes last, when all else is there.</summary>
    /// <exception cref="PullException">Machine: the directory holds something else. Locked.</exception>
    internal static async Task EnsureStoreAsync(StoreLayout layout, StoreOptions options, CancellationToken token)
    {
        if (File.Exists(layout.LayoutFile) && File.Exists(layout.IndexFile) && Directory.Exists(layout.Parts) && Directory.Exists(layout.AllBlobs))
        {
            return;
        }

        // looked at in this order: whoever makes a store beside us made the lock file first
        if (HoldsAnything(layout.Root) && !File.Exists(layout.LockFile) && !File.Exists(layout.LayoutFile))
        {
            throw new PullException(PullError.Machine, $"{layout.Root} is not empty and is no store (it has no oci-layout file)");
        }

        Directory.CreateDirectory(layout.Root);
        using SafeFileHandle held = await LockAsync(layout, options, token);
        if (options.Sync)
        {
            // the first file in a power cut's eyes too: a file system may have what was flushed and not what was made before it (btrfs does so)
            Libc.Flush(held, layout.LockFile);
            Libc.FlushDirectory(layout.Root);
        }

        Directory.CreateDirectory(layout.Blobs("sha256"));
        Directory.CreateDirectory(layout.Parts);
        if (!File.Exists(layout.IndexFile))
        {
            Replace(layout.IndexFile, EmptyIndex, options.Sync);
        }

        if (!File.Exists(layout.LayoutFile))
        {
            Replace(layout.LayoutFile, LayoutVersion, options.Sync);
        }

        if (options.Sync)
        {
            // the new directories' own names, up to the first that was there before
            using SafeFileHandle root = Libc.TryOpenDirectory(layout.Root) ?? throw new PullException(PullError.Machine, $"{layout.Root} vanished");
            Libc.FlushFileSystem(root, layout.Root);
        }
    }

    /// <summary>Names the image in index.json; writes nothing where it says so already.</summary>
    /// <exception cref="PullException">StoreDamaged: it is no index. Locked.</exception>
    internal static async Task PutAsync(StoreLayout layout, PulledImage image, StoreOptions options, CancellationToken token)
    {
        using SafeFileHandle held = await LockAsync(layout, options, token);
        string before = await File.ReadAllTextAsync(layout.IndexFile, token);
        string after;
        try
        {
            after = With(before, image, layout);
        }
        catch (ArgumentException)
        {
            throw Damaged(layout.IndexFile, "a member has a name that occurs twice"); // which the library finds out where it is looked for
        }

        if (after != before)
        {
            Replace(layout.IndexFile, after, options.Sync);
        }
    }

    // A new file system's own directory does not count.
    private static bool HoldsAnything(string directory) =>
        Directory.Exists(directory) && Directory.EnumerateFileSystemEntries(directory).Any(path => Path.GetFileName(path) != "lost+found");

    private static string With(string text, PulledImage image, StoreLayout layout)
    {
        JsonObject index = Parse(text, layout.IndexFile, out JsonArray manifests);
        JsonObject descriptor = Describe(image);
        for (int i = manifests.Count - 1; i >= 0; i--)
        {
            if (IsSame(manifests[i], descriptor))
            {
                if (JsonNode.DeepEquals(manifests[i], descriptor))
                {
                    return text;
                }

                manifests.RemoveAt(i);
            }
        }

        manifests.Add((JsonNode)descriptor);
        return index.ToJsonString();
    }

    private static JsonObject Parse(string text, string file, out JsonArray manifests)
    {
        string problem = "manifests is no list of objects";
        try
        {
            if (JsonNode.Parse(text) is JsonObject index && index["manifests"] is JsonArray array
                && array.All(entry => entry is JsonObject described && described["annotations"] is null or JsonObject))
            {
                manifests = array;
                return index;
            }
        }
        catch (JsonException malformed)
        {
            problem = $"malformed JSON: {JsonFault.Describe(System.Text.Encoding.UTF8.GetBytes(text), malformed)}";
        }

        throw Damaged(file, problem);
    }

    private static PullException Damaged(string file, string problem) => new(PullError.StoreDamaged, $"{file} is not an OCI index: {problem}");

    private static JsonObject Describe(PulledImage image)
    {
        JsonObject platform = new() { ["architecture"] = image.Platform.Architecture, ["os"] = image.Platform.Os };
        if (image.Platform.Variant is { } variant)
        {
            platform["variant"] = variant;
        }

        return new JsonObject
        {
            ["mediaType"] = image.Manifest.MediaType,
            ["digest"] = image.Manifest.Digest.ToString(),
            ["size"] = image.Manifest.Content.Length,
            ["platform"] = platform,
            ["annotations"] = new JsonObject { [RefName] = image.Reference },
        };
    }

    // The same name for the same platform: what a moved tag replaces.
    private static bool IsSame(JsonNode? entry, JsonObject descriptor) =>
        entry?["annotations"]?[RefName] is { } name
        && JsonNode.DeepEquals(name, descriptor["annotations"]![RefName])
        && JsonNode.DeepEquals(entry["platform"], descriptor["platform"]);

    private static void Replace(string path, string content, bool sync)
    {
        string directory = Path.GetDirectoryName(path)!;
        string fresh = Path.Combine(directory, ".new-" + Path.GetFileName(path));
        using (FileStream file = new(fresh, FileMode.Create, FileAccess.Write))
        {
            file.Write(System.Text.Encoding.UTF8.GetBytes(content));
            file.Flush();
            if (sync)
            {
                Libc.Flush(file.SafeFileHandle, fresh);
            }
        }

        Libc.Rename(fresh, path);
        if (sync)
        {
            Libc.FlushDirectory(directory);
        }
    }

    private static async Task<SafeFileHandle> LockAsync(StoreLayout layout, StoreOptions options, CancellationToken token)
    {
        LockWait wait = new(options, layout.LockFile, () => 0);
        while (true)
        {
            try
            {
                return File.OpenHandle(layout.LockFile, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException held) when (held.HResult == BlobStore.SharingViolation)
            {
                await wait.OnceMoreAsync(token);
            }
        }
    }
}
