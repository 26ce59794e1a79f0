using NativePull.Oci;

namespace NativePull.Store;

/// <summary>Every path below the store directory; nowhere else is one put together.</summary>
internal sealed record StoreLayout(string Root)
{
    internal string LayoutFile => Path.Combine(Root, "oci-layout");

    internal string IndexFile => Path.Combine(Root, "index.json");

    /// <summary>Held while index.json is rewritten or the skeleton is made; the first file of a store, so that one half made is known for ours.</summary>
    internal string LockFile => Path.Combine(Root, "nativepull.lock");

    internal string Database => Path.Combine(Root, "nativepull.db");

    internal string Parts => Path.Combine(Root, "parts");

    internal string Layers => Path.Combine(Root, "layers");

    internal string AllBlobs => Path.Combine(Root, "blobs");

    internal string Blobs(string algorithm) => Path.Combine(AllBlobs, algorithm);

    internal string Blob(Digest digest) => Path.Combine(Blobs(digest.Algorithm), digest.Hex);

    internal string Part(Digest digest) => Path.Combine(Parts, $"{digest.Algorithm}-{digest.Hex}");

    /// <summary>Which stretches of the part are held, while it has holes.</summary>
    internal string PartRecord(Digest digest) => Part(digest) + ".ranges";

    /// <param name="variant">Lower-case words joined by dashes; empty for a layer extracted under the strictest policies.</param>
    internal string Layer(ChainId chain, string variant) =>
        Path.Combine(Layers, chain.Value.Algorithm, variant.Length == 0 ? chain.Value.Hex : $"{chain.Value.Hex}-{variant}");
}
