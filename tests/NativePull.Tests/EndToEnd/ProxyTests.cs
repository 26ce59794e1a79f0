using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>The executable behind proxies. The registry's name exists for the proxy alone, so what arrives came through it.</summary>
public sealed class ProxyTests : IDisposable
{
    private const string Host = "registry.test";

    private readonly TemporaryDirectory directory = new();
    private readonly FakeCertificates authority = new();

    public static TheoryData<string, string, string> Kinds => new()
    {
        { "HTTPS_PROXY", "http://{proxy}", "CONNECT registry.test:" },
        { "https_proxy", "{proxy}", "CONNECT registry.test:" },
        { "ALL_PROXY", "http://{proxy}", "CONNECT registry.test:" },
        { "all_proxy", "socks5://{proxy}", "SOCKS registry.test:" },
        { "HTTPS_PROXY", "socks5h://{proxy}", "SOCKS registry.test:" },
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Everything_goes_through_the_proxy_of_the_environment(string variable, string value, string expected)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();
        await using FakeProxy proxy = new(registry.Port);

        BinaryResult result = await PullAsync(registry, new() { [variable] = value.Replace("{proxy}", proxy.Address, StringComparison.Ordinal) });

        result.Expect(0);
        Assert.NotEmpty(proxy.Seen);
        Assert.All(proxy.Seen, line => Assert.StartsWith(expected, line, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_registry_without_TLS_is_asked_for_by_its_whole_address()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeProxy proxy = new(registry.Port) { User = "me:p@ss" };

        BinaryResult result = await PullAsync(registry, new() { ["http_proxy"] = $"http://me:p%40ss@{proxy.Address}" }, "--plain-http");

        result.Expect(0);
        Assert.All(proxy.Seen, line => Assert.StartsWith($"GET http://{Host}:", line, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("me:right@", 0)]
    [InlineData("me:wr0ng@", 4)]
    [InlineData("", 4)]
    public async Task A_proxy_that_wants_a_user_gets_the_one_in_its_address_and_nobody_sees_the_password(string user, int code)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();
        await using FakeProxy proxy = new(registry.Port) { User = "me:right" };

        BinaryResult result = await PullAsync(registry, new() { ["HTTPS_PROXY"] = $"http://{user}{proxy.Address}" }, "-v", "--json");

        result.Expect(code);
        Assert.DoesNotContain("right", result.Out + result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("wr0ng", result.Out + result.Error, StringComparison.Ordinal);
        if (code != 0)
        {
            Assert.Contains("proxy", result.Error, StringComparison.Ordinal);
            Assert.True(proxy.Seen.Count <= 2, string.Join('\n', proxy.Seen)); // not tried again and again
        }
    }

    /// <summary>Proxies of companies offer these first; the library would choose them, and load what a static executable cannot.</summary>
    [Theory]
    [InlineData(true, 0, "Negotiate", "NTLM", "Basic realm=\"proxy\"")]
    [InlineData(false, 0, "NTLM", "Basic realm=\"proxy\"")]
    [InlineData(true, 4, "Negotiate")]
    [InlineData(false, 4, "Negotiate", "NTLM")]
    [InlineData(false, 4)]
    public async Task Of_the_ways_a_proxy_offers_one_that_works_here_is_taken(bool hasTls, int code, params string[] offered)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = hasTls ? authority.Issue(Host) : null }.Start();
        await using FakeProxy proxy = new(registry.Port) { User = "me:right", Offered = offered };

        BinaryResult result = await PullAsync(
            registry, new() { [hasTls ? "HTTPS_PROXY" : "http_proxy"] = $"http://me:right@{proxy.Address}" }, [.. hasTls ? Array.Empty<string>() : ["--plain-http"], "-q"]);

        Assert.DoesNotContain("library", result.Expect(code).Error, StringComparison.Ordinal);
        Assert.Equal(code != 0, result.Error.Contains("known are Basic and Digest", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("me:r%40ght", 0)]
    [InlineData("me:wr0ng", 5)]
    public async Task A_SOCKS_proxy_gets_the_user_of_its_address_too(string user, int code)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();
        await using FakeProxy proxy = new(registry.Port) { User = "me:r@ght" };

        BinaryResult result = await PullAsync(registry, new() { ["ALL_PROXY"] = $"socks5://{user}@{proxy.Address}" }, "-v", "--retries", "1");

        Assert.DoesNotContain("wr0ng", result.Expect(code).Error, StringComparison.Ordinal);
        Assert.NotEmpty(proxy.Seen);
    }

    [Theory]
    [InlineData(403, 4, 1)]
    [InlineData(503, 5, 2)]
    public async Task A_proxy_that_gives_no_way_is_told_and_only_what_passes_is_tried_again(int status, int code, int tries)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();
        await using FakeProxy proxy = new(registry.Port) { Status = status };

        BinaryResult result = await PullAsync(registry, new() { ["HTTPS_PROXY"] = proxy.Address }, "--retries", "2");

        Assert.Contains("the proxy gives no way there", result.Expect(code).Error, StringComparison.Ordinal);
        Assert.Equal(tries, proxy.Seen.Count);
    }

    [Theory]
    [InlineData("http://me:s3cret@127.0.0.1:1", "cannot connect (proxy http://127.0.0.1:1/): ")]
    [InlineData("http://me:s3cret@proxy.invalid:3128", "the name proxy.invalid cannot be resolved (proxy http://proxy.invalid:3128/): ")]
    [InlineData("socks5://me:s3cret@127.0.0.1:1", "cannot connect (proxy socks5://127.0.0.1:1/): ")]
    public async Task A_proxy_out_of_reach_is_named(string address, string said)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();

        BinaryResult result = await PullAsync(registry, new() { ["HTTPS_PROXY"] = address }, "--retries", "1");

        Assert.Contains(said, result.Expect(5).Error, StringComparison.Ordinal);
        Assert.DoesNotContain("s3cret", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("127.0.0.1", 0)]
    [InlineData("another.proxy", 9)]
    public async Task A_proxy_behind_TLS_is_held_to_the_same_roots(string name, int code)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();
        await using FakeProxy proxy = new(registry.Port) { User = "me:s3cret" };
        await using TlsFront front = new(proxy.Port, authority.Issue(name));

        BinaryResult result = await PullAsync(registry, new() { ["HTTPS_PROXY"] = $"https://me:s3cret@{front.Address}" }, "--retries", "1");

        result.Expect(code);
        Assert.Equal(code == 0, proxy.Seen.Count > 0);
        Assert.DoesNotContain("s3cret", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("other, .test")]
    [InlineData("test")]
    [InlineData("*.test")]
    [InlineData("REGISTRY.test.:{port}")]
    [InlineData("a;b\nregistry.test\n")]
    [InlineData("*")]
    public async Task An_excepted_host_is_reached_directly(string exceptions)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();
        await using FakeProxy proxy = new(registry.Port);

        BinaryResult result = await PullAsync(
            registry, new() { ["HTTPS_PROXY"] = proxy.Address, ["NO_PROXY"] = exceptions.Replace("{port}", $"{registry.Port}", StringComparison.Ordinal) }, "--resolve", $"{Host}:{registry.Port}:127.0.0.1");

        result.Expect(0);
        Assert.Empty(proxy.Seen);
    }

    [Fact]
    public async Task A_proxy_that_is_no_address_is_wrong_usage()
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(Host) }.Start();

        BinaryResult result = await PullAsync(registry, new() { ["HTTPS_PROXY"] = "gopher://user:s3cret@x" });

        Assert.DoesNotContain("s3cret", result.Expect(2).Error, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        authority.Dispose();
        directory.Dispose();
    }

    private async Task<BinaryResult> PullAsync(FakeRegistry registry, Dictionary<string, string> environment, params string[] options)
    {
        new FakeImage(registry, "a/b").RandomLayer("f", 300_000).Publish();
        await File.WriteAllTextAsync(directory["ca.pem"], authority.RootPem, TestContext.Current.CancellationToken);
        return await Binary.RunAsync(environment, ["pull", $"{Host}:{registry.Port}/a/b", "--ca-file", directory["ca.pem"], "--store", directory["store"], .. options]);
    }

    /// <summary>Takes TLS off what goes to a port of this machine.</summary>
    private sealed class TlsFront : LoopbackServer
    {
        private readonly int target;
        private readonly SslStreamCertificateContext certificate;

        internal TlsFront(int target, SslStreamCertificateContext certificate)
        {
            (this.target, this.certificate) = (target, certificate);
            Start();
        }

        protected override async Task ServeAsync(Socket client, int number)
        {
            try
            {
                await using SslStream tls = new(new NetworkStream(client, ownsSocket: true));
                await tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificateContext = certificate }, Stopping);
                using TcpClient behind = new();
                await behind.ConnectAsync(IPAddress.Loopback, target, Stopping);
                await using NetworkStream plain = behind.GetStream();
                await Task.WhenAny(tls.CopyToAsync(plain, Stopping), plain.CopyToAsync(tls, Stopping));
            }
            catch (Exception gone) when (gone is IOException or SocketException or OperationCanceledException or System.Security.Authentication.AuthenticationException)
            {
                // the client went away, or the test is over
            }
        }
    }
}
