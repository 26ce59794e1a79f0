using System.Security.Cryptography;
using NativePull.Oci;

namespace NativePull.Tests.Oci;

public sealed class DigestTests
{
    private const string EmptySha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; // FIPS 180-4, of no bytes

    private const string EmptySha512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    [Theory]
    [InlineData(EmptySha256)]
    [InlineData(EmptySha512)]
    public void A_digest_is_parsed_and_names_its_bytes(string text)
    {
        Assert.True(Digest.TryParse(text, out Digest digest));
        Assert.Equal(text, digest.ToString());
        Assert.Equal(text[..6], digest.Algorithm);
        Assert.Equal(text[7..], digest.Hex);
        Assert.Equal(text[7..19], digest.Short);
        Assert.True(digest.Matches([]));
        Assert.False(digest.Matches([0]));
        Assert.Equal(digest, digest.DigestOf([]));
        Assert.Equal(digest, Digest.FromBytes(digest.ToBytes()));
        using IncrementalHash hash = digest.CreateHash();
        Assert.Equal(digest, digest.Finish(hash));
        hash.AppendData([1]);
        Assert.NotEqual(digest, digest.Finish(hash));
        Assert.Equal(digest, digest.Finish(hash));
    }

    [Fact]
    public void Digests_of_the_same_text_are_equal()
    {
        Assert.True(Digest.TryParse(EmptySha256, out Digest one));
        Assert.Equal(one, Digest.Of([]));
        Assert.Equal(one.GetHashCode(), Digest.Of([]).GetHashCode());
        Assert.NotEqual(one, Digest.Of([1]));
    }

    public static TheoryData<string> NoDigests =>
    [
        "",
        "sha256",
        "sha256:",
        EmptySha256[..^1],
        EmptySha256 + "0",
        EmptySha256.ToUpperInvariant(),
        "SHA256" + EmptySha256[6..],
        EmptySha256[..^1] + "E",
        EmptySha256[..^1] + "g",
        EmptySha256[..^1] + " ",
        EmptySha256 + "\n",
        " " + EmptySha256,
        "sha512" + EmptySha256[6..],
        "sha256" + EmptySha512[6..],
        "sha384:" + new string('0', 96),
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        EmptySha256.Replace(':', '-'),
        "sha256:../../" + new string('0', 58),
        "sha256:" + new string('٠', 64),
    ];

    [Theory]
    [MemberData(nameof(NoDigests))]
    public void Anything_else_is_none(string text) => Assert.False(Digest.TryParse(text, out _));

    [Fact]
    public void Nothing_is_none() => Assert.False(Digest.TryParse(null, out _));

    [Theory]
    [InlineData(0)]
    [InlineData(20)]
    [InlineData(48)]
    [InlineData(63)]
    public void Bytes_of_another_length_are_none(int length) => Assert.Throws<ArgumentException>(() => Digest.FromBytes(new byte[length]));

    [Fact]
    public void An_empty_digest_cannot_be_used()
    {
        Assert.Throws<InvalidOperationException>(() => default(Digest).ToString());
        Assert.Throws<InvalidOperationException>(() => default(Digest).Hex);
    }
}
