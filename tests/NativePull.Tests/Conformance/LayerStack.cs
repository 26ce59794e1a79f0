using System.Globalization;
using System.Text;
using NativePull.Layers;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>Layers, bottom first, as archives; applied as the conductor applies them.</summary>
internal static class LayerStack
{
    internal static byte[][] Of(params Func<TarBuilder, TarBuilder>[] layers) => [.. layers.Select(layer => layer(new TarBuilder()).End().ToArray())];

    /// <summary>All layers onto one root, made below <paramref name="work"/>.</summary>
    internal static string Flat(TemporaryDirectory work, IReadOnlyList<byte[]> layers, ExtractOptions? options = null, string name = "flat")
    {
        options = (options ?? new()) with { Format = LayerFormat.Flat };
        string target = Directory.CreateDirectory(work[name]).FullName;
        using RootDirectory root = RootDirectory.Open(target, options.KernelResolution);
        root.SetDefaults();
        foreach (byte[] layer in layers)
        {
            using LayerApplier applier = new(root, options);
            applier.Apply(new MemoryStream(layer), CancellationToken.None);
            applier.Settle([], CancellationToken.None);
        }

        return target;
    }

    /// <summary>
    /// A directory a layer, below <paramref name="work"/>, bottom first. Each is applied before any below it is there, the top one first, as can happen
    /// when they are applied in parallel.
    /// </summary>
    internal static List<string> Overlay(TemporaryDirectory work, IReadOnlyList<byte[]> layers, ExtractOptions? options = null, string name = "layers")
    {
        options = (options ?? new()) with { Format = LayerFormat.Overlay };
        List<string> paths = [.. layers.Select((_, i) => Directory.CreateDirectory(work[string.Create(CultureInfo.InvariantCulture, $"{name}/{i}")]).FullName)];
        List<RootDirectory> roots = [.. paths.Select(path => RootDirectory.Open(path, options.KernelResolution))];
        List<LayerApplier> appliers = [.. roots.Select(root => new LayerApplier(root, options))];
        try
        {
            for (int i = layers.Count - 1; i >= 0; i--)
            {
                appliers[i].Apply(new MemoryStream(layers[i]), CancellationToken.None);
            }

            for (int i = 0; i < layers.Count; i++)
            {
                appliers[i].Settle([.. roots[..i].AsEnumerable().Reverse()], CancellationToken.None);
            }
        }
        finally
        {
            appliers.ForEach(applier => applier.Dispose());
            roots.ForEach(root => root.Dispose());
        }

        return paths;
    }

    /// <summary>
    /// A tree in words: "d/", "f=content", "l->target", "p|", "c1:3", and after a blank what is not usual (0755 or 0644, owner 0:0) such as "700" or "5:6".
    /// Files that share an inode end in "@" and the first of their names.
    /// </summary>
    internal static string[] Words(string tree) => [.. TreeListing.Of(tree).Entries.Where(entry => entry.Path != ".").Select(entry =>
    {
        string what = entry.Type switch
        {
            'd' => "/",
            'f' => "=" + File.ReadAllText(Path.Combine(tree, entry.Path), Encoding.Latin1),
            'l' => entry.Content.Replace("-> ", "->", StringComparison.Ordinal),
            'p' => "|",
            _ => entry.Type + entry.Content,
        };
        uint usual = entry.Type switch { 'd' => 0x1EDu, 'l' => 0x1FFu, 'c' => 0x1B6u, 'b' => 0x1B0u, _ => 0x1A4u };
        string mode = entry.Mode == usual ? "" : " " + Convert.ToString(entry.Mode, 8);
        string owner = entry is { Uid: 0, Gid: 0 } ? "" : string.Create(CultureInfo.InvariantCulture, $" {entry.Uid}:{entry.Gid}");
        return entry.Path + what + mode + owner + (entry.LinkedTo.Length == 0 ? "" : "@" + entry.LinkedTo);
    })];
}
