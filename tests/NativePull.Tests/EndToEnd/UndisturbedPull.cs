using System.Security.Cryptography;
using System.Text.Json;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What a pull makes that nothing disturbs, with every output there is: the measure for those that something did.</summary>
internal sealed class UndisturbedPull : IDisposable
{
    private readonly TemporaryDirectory scratch = new();

    private UndisturbedPull() { }

    /// <summary>Of what the reference named.</summary>
    internal string Digest { get; private set; } = "";

    /// <summary>Bytes of the layers.</summary>
    internal long TotalBytes { get; private set; }

    /// <summary>Hex of the manifest, the config and the layers: what a store that names the image must have.</summary>
    internal IReadOnlyList<string> Blobs { get; private set; } = [];

    /// <summary>The root file system.</summary>
    internal TreeListing Rootfs { get; private set; } = null!;

    /// <summary>What --layers makes.</summary>
    internal TreeListing Layers { get; private set; } = null!;

    /// <summary>The store's own layer directories by name.</summary>
    internal Dictionary<string, TreeListing> Chains { get; } = [];

    /// <summary>sha256 of the archive.</summary>
    internal string Tar { get; private set; } = "";

    /// <param name="pull">The command up to where it says what is wanted.</param>
    internal static async Task<UndisturbedPull> MakeAsync(params string[] pull)
    {
        UndisturbedPull made = new();
        TemporaryDirectory scratch = made.scratch;
        BinaryResult result = (await Binary.RunAsync(
            [.. pull, "--store", scratch["s"], "--extract", "--rootfs", scratch["r"], "--layers", scratch["l"], "--tar", scratch["t.tar"], "--json"])).Expect(0);
        JsonElement json = JsonDocument.Parse(result.Out).RootElement;
        made.Digest = json.GetProperty("digest").GetString()!;
        made.TotalBytes = json.GetProperty("bytes").GetProperty("total").GetInt64();
        made.Blobs = [.. new[] { json.GetProperty("manifest"), json.GetProperty("config") }
            .Concat(json.GetProperty("layers").EnumerateArray().Select(layer => layer.GetProperty("digest")))
            .Select(digest => digest.GetString()!["sha256:".Length..])
            .Distinct()];
        made.Rootfs = ListTree(scratch["r"]);
        made.Layers = ListTree(scratch["l"]);
        made.Tar = Hash(scratch["t.tar"]);
        foreach (string chain in Directory.GetDirectories(scratch["s/layers/sha256"]))
        {
            made.Chains.Add(Path.GetFileName(chain), ListTree(chain));
        }

        return made;
    }

    /// <summary>A blob's bytes, in a file; null where it is none of the image's.</summary>
    internal string? TryBlob(string hex) => File.Exists(scratch[$"s/blobs/sha256/{hex}"]) ? scratch[$"s/blobs/sha256/{hex}"] : null;

    /// <summary>A listing without what is of no image but of the moment: the times of whiteouts, and of the directory that --layers makes around the layers'.</summary>
    internal static TreeListing ListTree(string path)
    {
        TreeListing tree = TreeListing.Of(path);
        bool isOfLayers = tree.Entries.All(entry => entry.Path == "." || entry.Path[0] == '0');
        return tree.Select(entry => entry is { Type: 'c', Content: "0:0" } || (isOfLayers && entry.Path == ".") ? entry with { Modified = "" } : entry);
    }

    internal static string Hash(string file)
    {
        using FileStream stream = File.OpenRead(file);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }

    public void Dispose() => scratch.Dispose();
}
