using System.Security.Cryptography;
using System.Text;
using NativePull.Oci;

namespace NativePull.Tests.Oci;

public sealed class ChainIdTests
{
    [Fact]
    public void The_first_is_its_diff_ID_and_each_next_hashes_the_chain_below_and_its_own()
    {
        Digest[] diffIds = [Digest.Of([1]), Digest.Of([2]), Digest.Of([2])];

        string[] chain = [.. ChainId.Of(diffIds).Select(id => id.ToString())];

        string second = Sha256($"{diffIds[0]} {diffIds[1]}");
        Assert.Equal([diffIds[0].ToString(), second, Sha256($"{second} {diffIds[2]}")], chain);
    }

    [Fact]
    public void A_known_chain()
    {
        // sha256 of the text "sha256:<hex of 'a'> sha256:<hex of 'b'>", computed with sha256sum
        Digest[] diffIds = [Digest.Of("a"u8), Digest.Of("b"u8)];

        Assert.Equal("sha256:51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676", ChainId.Of(diffIds)[1].ToString());
    }

    [Fact]
    public void Nothing_has_no_chain() => Assert.Empty(ChainId.Of([]));

    [Fact]
    public void The_same_layer_on_another_base_is_another_chain() =>
        Assert.NotEqual(ChainId.Of([Digest.Of([1]), Digest.Of([3])])[1], ChainId.Of([Digest.Of([2]), Digest.Of([3])])[1]);

    private static string Sha256(string text) => "sha256:" + Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(text)));
}
