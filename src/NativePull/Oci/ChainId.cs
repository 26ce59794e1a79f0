using System.Text;

namespace NativePull.Oci;

/// <summary>A layer together with all below it (image-spec, config.md, "Layer ChainID"). It names an extracted layer directory.</summary>
internal readonly record struct ChainId(Digest Value)
{
    /// <summary>The chain IDs of a stack, bottom first: the first is its diff ID, each next the digest of "chain-below SP diff-id".</summary>
    internal static IReadOnlyList<ChainId> Of(IReadOnlyList<Digest> diffIds)
    {
        var chain = new List<ChainId>(diffIds.Count);
        foreach (Digest diffId in diffIds)
        {
            chain.Add(chain.Count == 0
                ? new ChainId(diffId)
                : new ChainId(Digest.Of(Encoding.ASCII.GetBytes($"{chain[^1].Value} {diffId}"))));
        }

        return chain;
    }

    public override string ToString() => Value.ToString();
}
