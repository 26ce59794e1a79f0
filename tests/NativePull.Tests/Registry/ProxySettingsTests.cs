using System.Net;
using NativePull.Registry;

namespace NativePull.Tests.Registry;

public sealed class ProxySettingsTests
{
    public static TheoryData<string, string, int, bool> Exceptions => new()
    {
        { "", "a.example", 443, false },
        { "*", "a.example", 443, true },
        { "a.example", "a.example", 443, true },
        { "A.Example", "a.eXample", 443, true },
        { "a.example.", "a.example", 443, true },
        { "a.example", "a.example.", 443, true },
        { "a.example", "b.a.example", 443, true },
        { "a.example", "ba.example", 443, false },
        { ".a.example", "b.a.example", 443, true },
        { ".a.example", "a.example", 443, false },
        { "*.a.example", "c.b.a.example", 443, true },
        { "*.a.example", "a.example", 443, false },
        { "*.a.example", "ba.example", 443, false },
        { "a.example:5000", "a.example", 5000, true },
        { "a.example:5000", "b.a.example", 5000, true },
        { "a.example:5000", "a.example", 443, false },
        { ".a.example:5000", "b.a.example", 5000, true },
        { "x, a.example ,y", "a.example", 443, true },
        { "x a.example;y", "y", 443, true },
        { "x\na.example\r\ny", "a.example", 443, true },
        { ",,", "a.example", 443, false },
        { "192.0.2.7", "192.0.2.7", 443, true },
        { "192.0.2.7:80", "192.0.2.7", 443, false },
        { "192.0.2.7:80", "192.0.2.7", 80, true },
        { "92.0.2.7", "192.0.2.7", 443, false },
        { "192.0.2.0/24", "192.0.2.200", 443, true },
        { "192.0.2.0/24", "192.0.3.1", 443, false },
        { "192.0.2.0/24", "192.0.2.0.example", 443, false },
        { "0.0.0.0/0", "192.0.2.1", 443, true },
        { "0.0.0.0/0", "2001:db8::1", 443, false },
        { "2001:db8::/32", "[2001:db8::1]", 443, true },
        { "2001:db8::/32", "2001:db9::1", 443, false },
        { "2001:db8::1", "[2001:db8:0::1]", 443, true },
        { "[2001:db8::1]", "2001:db8::1", 443, true },
        { "[2001:db8::1]:5000", "2001:db8::1", 5000, true },
        { "[2001:db8::1]:5000", "2001:db8::1", 443, false },
        { ".", "a.example", 443, false },
        { ":5000", "a.example", 5000, false },
    };

    [Theory]
    [MemberData(nameof(Exceptions))]
    public void A_host_is_excepted(string list, string host, int port, bool expected) => Assert.Equal(expected, new ProxyExceptions(list).Match(host, port));

    public static TheoryData<string, string, string?> Choices => new()
    {
        { "HTTPS_PROXY=http://p:1", "https://r.example/", "http://p:1/" },
        { "HTTPS_PROXY=http://p:1", "http://r.example/", null },
        { "https_proxy=http://low:1 HTTPS_PROXY=http://up:1", "https://r.example/", "http://low:1/" },
        { "https_proxy= HTTPS_PROXY=http://up:1", "https://r.example/", "http://up:1/" },
        { "http_proxy=p:3128", "http://r.example/", "http://p:3128/" },
        { "HTTP_PROXY=p:3128", "http://r.example/", "http://p:3128/" },
        { "HTTP_PROXY=p:3128 REQUEST_METHOD=GET", "http://r.example/", null },
        { "http_proxy=p:3128 REQUEST_METHOD=GET", "http://r.example/", "http://p:3128/" },
        { "ALL_PROXY=p:1", "https://r.example/", "http://p:1/" },
        { "all_proxy=socks5://p:1", "http://r.example/", "socks5://p:1/" },
        { "all_proxy=socks5h://p:1", "http://r.example/", "socks5://p:1/" },
        { "all_proxy=a:1 https_proxy=b:1", "https://r.example/", "http://b:1/" },
        { "HTTPS_PROXY=https://p:1", "https://r.example/", "https://p:1/" },
        { "HTTPS_PROXY=http://u:p%40ss@p:1", "https://r.example/", "http://p:1/" },
        { "HTTPS_PROXY=p:1 NO_PROXY=r.example", "https://r.example/", null },
        { "HTTPS_PROXY=p:1 no_proxy=r.example", "https://r.example/", null },
        { "HTTPS_PROXY=p:1", "https://127.0.0.1:5000/", null },
        { "HTTPS_PROXY=p:1", "https://localhost/", null },
        { "HTTPS_PROXY=p:1", "https://[::1]/", null },
    };

    [Theory]
    [MemberData(nameof(Choices))]
    public void An_address_is_reached_through(string environment, string address, string? expected) =>
        Assert.Equal(expected, Of(environment)?.GetProxy(new Uri(address))?.AbsoluteUri);

    [Fact]
    public void Credentials_are_for_the_proxy_they_were_given_with()
    {
        ICredentials credentials = Of("https_proxy=http://u%3A:p%40ss@p:1 http_proxy=http://q:1")!.Credentials!;

        NetworkCredential? found = credentials.GetCredential(new Uri("http://p:1"), "Basic");

        Assert.Equal(("u:", "p@ss"), (found?.UserName, found?.Password));
        Assert.Null(credentials.GetCredential(new Uri("http://q:1"), "Basic"));
        Assert.Null(credentials.GetCredential(new Uri("https://r.example"), "Basic"));
    }

    [Theory]
    [InlineData("ftp://user:s3cret@p")]
    [InlineData("http://user:s3cret@")]
    [InlineData("http://s3cret host")]
    public void An_address_that_is_none_is_refused_without_quoting_it(string address)
    {
        PullException failure = Assert.Throws<PullException>(() => ProxySettings.Of(name => name == "https_proxy" ? address : null));

        Assert.Equal(PullError.Usage, failure.Reason);
        Assert.DoesNotContain("s3cret", failure.Sentence, StringComparison.Ordinal);
    }

    private static ProxySettings? Of(string environment)
    {
        Dictionary<string, string> variables = environment.Split(' ').Select(variable => variable.Split('=', 2)).ToDictionary(pair => pair[0], pair => pair[1]);
        return ProxySettings.Of(variables.GetValueOrDefault);
    }
}
