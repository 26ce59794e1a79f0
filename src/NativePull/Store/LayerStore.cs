using System.Diagnostics.CodeAnalysis;
using NativePull.Oci;

namespace NativePull.Store;

/// <summary>
/// Extracted overlay directories by chain ID and variant (the policies under which it was extracted; empty for the strictest): there means
/// complete, for they are published by rename.
/// </summary>
internal sealed class LayerStore(StoreLayout layout, StoreOptions options)
{
    internal bool TryFind(ChainId layer, string variant, [NotNullWhen(true)] out string? path)
    {
        path = layout.Layer(layer, variant);
        if (Directory.Exists(path))
        {
            return true;
        }

        path = null;
        return false;
    }

    /// <summary>The variants in which a layer is here, in order of their names.</summary>
    internal IReadOnlyList<string> Variants(ChainId layer)
    {
        string strictest = layout.Layer(layer, "");
        string parent = Path.GetDirectoryName(strictest)!;
        string name = Path.GetFileName(strictest);
        return !Directory.Exists(parent)
            ? []
            : [.. Directory.EnumerateDirectories(parent, name + "*").Select(path => Path.GetFileName(path)[name.Length..].TrimStart('-')).Order(StringComparer.Ordinal)];
    }

    /// <summary>A staging directory for the layer. Waits for a process that is making it; null: it is there, now or after that wait.</summary>
    internal Task<StagedDirectory?> BeginAsync(ChainId layer, string variant, CancellationToken token) =>
        StagedDirectory.BeginAsync(layout.Layer(layer, variant), options, () => TryFind(layer, variant, out _), token);
}
