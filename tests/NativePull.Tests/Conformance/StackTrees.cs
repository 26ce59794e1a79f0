using NativePull.Layers;

namespace NativePull.Tests.Conformance;

/// <summary>A stack of archives as trees: flat, and as directories for an overlay; applied as Pull's two extractions do.</summary>
internal static class StackTrees
{
    internal static void Flat(string target, IEnumerable<byte[]> archives, ExtractOptions options)
    {
        ExtractOptions flat = options with { Format = LayerFormat.Flat };
        Directory.CreateDirectory(target);
        using RootDirectory root = RootDirectory.Open(target, flat.KernelResolution);
        root.SetDefaults();
        foreach (byte[] archive in archives)
        {
            using LayerApplier applier = new(root, flat);
            applier.Apply(new MemoryStream(archive), CancellationToken.None);
            applier.Settle([], CancellationToken.None);
        }
    }

    /// <returns>One directory a layer, the lowest first.</returns>
    internal static List<string> Layers(string target, IReadOnlyList<byte[]> archives, ExtractOptions options)
    {
        ExtractOptions overlay = options with { Format = LayerFormat.Overlay };
        List<string> paths = [];
        List<RootDirectory> roots = [];
        List<LayerApplier> appliers = [];
        try
        {
            // each layer by itself, the topmost first, so that nothing can lean on the layers below before they are settled
            for (int i = 0; i < archives.Count; i++)
            {
                paths.Add(Path.Combine(target, $"{i}"));
                Directory.CreateDirectory(paths[i]);
                roots.Add(RootDirectory.Open(paths[i], overlay.KernelResolution));
                appliers.Add(new LayerApplier(roots[i], overlay));
            }

            for (int i = archives.Count - 1; i >= 0; i--)
            {
                appliers[i].Apply(new MemoryStream(archives[i]), CancellationToken.None);
            }

            for (int i = 0; i < archives.Count; i++)
            {
                appliers[i].Settle([.. roots[..i].AsEnumerable().Reverse()], CancellationToken.None);
            }

            return paths;
        }
        finally
        {
            appliers.ForEach(applier => applier.Dispose());
            roots.ForEach(root => root.Dispose());
        }
    }
}
