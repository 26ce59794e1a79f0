using NativePull.Oci;

namespace NativePull.Pull;

/// <summary>When the registry is asked.</summary>
internal enum PullPolicy
{
    /// <summary>Ask what the reference points to now; fetch only what is not here.</summary>
    Newer,

    /// <summary>Ask only if the store does not have the reference.</summary>
    Missing,

    /// <summary>As <see cref="Newer"/>, for a digest too.</summary>
    Always,

    /// <summary>Open no socket.</summary>
    Never,
}

/// <summary>Everything a pull can be told; made and validated in Cli alone.</summary>
internal sealed record PullOptions
{
    internal required Platform Platform { get; init; }

    /// <summary>The user named the platform: then nothing else will do, even where a registry offers a single manifest.</summary>
    internal bool PlatformIsExplicit { get; init; }

    /// <summary>Null: newer for a tag, missing for a digest.</summary>
    internal PullPolicy? Policy { get; init; }

    /// <summary>The digest the reference must resolve to; null: any.</summary>
    internal Digest? Expect { get; init; }

    /// <summary>One overlay-ready directory a layer, inside the store.</summary>
    internal bool ExtractLayers { get; init; }

    /// <summary>Blobs downloaded at once at most, 1 to 64.</summary>
    internal int Jobs { get; init; } = 8;

    /// <summary>Connections for one large blob at most, 1 to 16; 1: never more than one.</summary>
    internal int Connections { get; init; } = 8;

    /// <summary>A reference with a tag and a digest fails unless the tag points to the digest now.</summary>
    internal bool CheckTag { get; init; }

    /// <summary>Bytes per second over all downloads together; null: unlimited.</summary>
    internal long? LimitRate { get; init; }

    /// <summary>What the image shall become outside the store, and how layers become files inside it.</summary>
    internal OutputOptions Outputs { get; init; } = new();
}
