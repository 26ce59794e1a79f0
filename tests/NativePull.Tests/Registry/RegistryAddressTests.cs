using NativePull.Oci;
using NativePull.Registry;

namespace NativePull.Tests.Registry;

public sealed class RegistryAddressTests
{
    [Theory]
    [InlineData("ghcr.io", false, "https://ghcr.io/", null)]
    [InlineData("docker.io", false, "https://registry-1.docker.io/", null)]
    [InlineData("registry.example:5000", false, "https://registry.example:5000/", null)]
    [InlineData("registry.example:5000", true, "http://registry.example:5000/", null)]
    [InlineData("10.0.0.1:5000", false, "https://10.0.0.1:5000/", null)]
    [InlineData("128.0.0.1", false, "https://128.0.0.1/", null)]
    [InlineData("localhost", false, "https://localhost/", "http://localhost/")]
    [InlineData("localhost:443", false, "https://localhost/", "http://localhost:443/")]
    [InlineData("localhost:5000", true, "http://localhost:5000/", null)]
    [InlineData("localhost.example", false, "https://localhost.example/", null)]
    [InlineData("127.0.0.1:5000", false, "https://127.0.0.1:5000/", "http://127.0.0.1:5000/")]
    [InlineData("127.9.8.7", false, "https://127.9.8.7/", "http://127.9.8.7/")]
    [InlineData("[::1]:5000", false, "https://[::1]:5000/", "http://[::1]:5000/")]
    [InlineData("[::2]:5000", false, "https://[::2]:5000/", null)]
    public void A_registry_is_at(string registry, bool plainHttp, string expected, string? plain)
    {
        var address = RegistryAddress.Of(registry, plainHttp);

        Assert.Equal(expected, address.Base.AbsoluteUri);
        Assert.Equal(plain, address.Plain?.AbsoluteUri);
    }

    [Fact]
    public void Every_reference_that_is_accepted_has_an_address()
    {
        const int Seed = 20260103;
        var random = new Random(Seed);
        string[] pieces = ["a", "0", "9", "1.2.3.4", ".", "-", ":", "::", "[", "]", "[::1]", "5000", "localhost", "docker.io", "/", "/x", "_", "xn--", "255", "256", "ffff"];
        int accepted = 0;
        for (int i = 0; i < 50_000; i++)
        {
            string text = string.Concat(Enumerable.Range(0, random.Next(1, 9)).Select(_ => pieces[random.Next(pieces.Length)]));
            if (Reference.TryParse(text, out Reference? reference, out _))
            {
                accepted++;
                RegistryAddress address = RegistryAddress.Of(reference.Registry, plainHttp: false);
                Assert.True(new Uri(address.Base, $"v2/{reference.Repository}/manifests/x").AbsolutePath == $"/v2/{reference.Repository}/manifests/x", $"seed {Seed}: {text}");
            }
        }

        Assert.True(accepted > 1_000);
    }

    [Theory]
    [InlineData("https://a/x", "https://a/y?z", true)]
    [InlineData("https://a/", "https://A:443/", true)]
    [InlineData("https://a/", "http://a/", false)]
    [InlineData("https://a/", "https://a:444/", false)]
    [InlineData("https://a/", "https://b.a/", false)]
    [InlineData("http://127.0.0.1:5000/", "http://127.0.0.1:5001/", false)]
    [InlineData("http://127.0.0.1:5000/", "http://localhost:5000/", false)]
    public void An_origin_is_scheme_host_and_port(string one, string other, bool same) =>
        Assert.Equal(same, RegistryAddress.IsSameOrigin(new Uri(one), new Uri(other)));

    [Fact]
    public void An_address_is_shown_without_what_may_be_secret() =>
        Assert.Equal("https://host:8443/a/b", RegistryAddress.Shown(new Uri("https://user:password@host:8443/a/b?sig=secret#fragment")));
}
