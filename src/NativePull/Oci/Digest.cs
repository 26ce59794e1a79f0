using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;

namespace NativePull.Oci;

/// <summary>
/// The name of stored bytes: algorithm and lower-case hex (image-spec, descriptor.md, "Digests"). sha256 and sha512 are known.
/// <c>default</c> is no digest; using it throws.
/// </summary>
internal readonly record struct Digest
{
    private static readonly SearchValues<char> LowerHex = SearchValues.Create("0123456789abcdef");

    private readonly string? text;

    private Digest(string text) => this.text = text;

    private string Text => text ?? throw new InvalidOperationException("an empty digest was used");

    /// <summary>"sha256" or "sha512".</summary>
    internal string Algorithm => Text[..6];

    internal string Hex => Text[7..];

    /// <summary>The first 12 hex digits: enough to tell a person which.</summary>
    internal string Short => Hex[..12];

    internal HashAlgorithmName HashAlgorithm => Algorithm == "sha256" ? HashAlgorithmName.SHA256 : HashAlgorithmName.SHA512;

    /// <summary>Exact grammar: known algorithm, colon, lower-case hex of that algorithm's length.</summary>
    internal static bool TryParse([NotNullWhen(true)] string? text, out Digest digest)
    {
        digest = default;
        if (text is null || text.Length < 7 || text[6] != ':')
        {
            return false;
        }

        int length = text[..6] switch { "sha256" => 64, "sha512" => 128, _ => -1 };
        if (text.Length - 7 != length || text.AsSpan(7).ContainsAnyExcept(LowerHex))
        {
            return false;
        }

        digest = new Digest(text);
        return true;
    }

    /// <summary>The sha256 digest of bytes held in memory.</summary>
    internal static Digest Of(ReadOnlySpan<byte> content) => FromHash("sha256", SHA256.HashData(content));

    /// <param name="hash">32 bytes mean sha256, 64 mean sha512; any other length throws.</param>
    internal static Digest FromBytes(ReadOnlySpan<byte> hash) => hash.Length switch
    {
        32 => FromHash("sha256", hash),
        64 => FromHash("sha512", hash),
        _ => throw new ArgumentException($"a digest has 32 or 64 bytes, not {hash.Length}", nameof(hash)),
    };

    internal byte[] ToBytes() => Convert.FromHexString(Hex);

    internal IncrementalHash CreateHash() => IncrementalHash.CreateHash(HashAlgorithm);

    /// <summary>The digest, under this one's algorithm, of what <paramref name="hash"/> has been given; resets the hash.</summary>
    internal Digest Finish(IncrementalHash hash) => FromHash(Algorithm, hash.GetHashAndReset());

    /// <summary>Whether these bytes are the ones named.</summary>
    internal bool Matches(ReadOnlySpan<byte> content) => this == DigestOf(content);

    /// <summary>The digest of these bytes under this one's algorithm.</summary>
    internal Digest DigestOf(ReadOnlySpan<byte> content) => FromHash(Algorithm, CryptographicOperations.HashData(HashAlgorithm, content));

    public override string ToString() => Text;

    private static Digest FromHash(string algorithm, ReadOnlySpan<byte> hash) => new($"{algorithm}:{Convert.ToHexStringLower(hash)}");
}
