using System.Net;

namespace NativePull.Registry;

/// <summary>
/// Which proxy, if any, an address is reached through. The addresses of proxies are told without their user and password, which go to the
/// proxy alone.
/// </summary>
internal sealed class ProxySettings : IWebProxy
{
    /// <summary>For a message about a proxy that wants a user (407).</summary>
    internal const string WhatIsKnown = " (it wants a user that it accepts, in its address in the environment; known are Basic and Digest)";

    private readonly Uri? forHttp;
    private readonly Uri? forHttps;
    private readonly ProxyExceptions exceptions;

    private ProxySettings(Uri? forHttp, Uri? forHttps, ProxyExceptions exceptions)
    {
        this.forHttp = WithoutUser(forHttp);
        this.forHttps = WithoutUser(forHttps);
        this.exceptions = exceptions;
        Credentials = new ProxyCredentials(new[] { forHttp, forHttps }.OfType<Uri>().Where(proxy => proxy.UserInfo.Length > 0).ToList());
    }

    /// <summary>Sent when a proxy asks for them (407), and to that proxy only.</summary>
    public ICredentials? Credentials { get; set; }

    /// <summary>The settings that people have in their environment; null: no proxy at all.</summary>
    /// <param name="variable">The value of an environment variable; null: not set.</param>
    /// <exception cref="PullException">Usage: a proxy's address is none.</exception>
    internal static ProxySettings? Of(Func<string, string?> variable)
    {
        // HTTP_PROXY is also what a web server makes of a request's header "Proxy" (httpoxy)
        string? http = Value("http_proxy") ?? (Value("REQUEST_METHOD") is null ? Value("HTTP_PROXY") : null) ?? Either("all_proxy");
        string? https = Either("https_proxy") ?? Either("all_proxy");
        return http is null && https is null ? null
            : new ProxySettings(Parse(http), Parse(https), new ProxyExceptions(Either("no_proxy") ?? ""));

        string? Either(string name) => Value(name) ?? Value(name.ToUpperInvariant());

        string? Value(string name) => variable(name) is { Length: > 0 } value ? value : null;
    }

    public Uri? GetProxy(Uri destination) => IsBypassed(destination) ? null : Of(destination);

    /// <summary>A proxy is never asked for what is on this machine (as Go's programs behave).</summary>
    public bool IsBypassed(Uri host) => Of(host) is null || RegistryAddress.IsLoopback(host.Host) || exceptions.Match(host.IdnHost, host.Port);

    private Uri? Of(Uri destination) => destination.Scheme == Uri.UriSchemeHttps ? forHttps : forHttp;

    private static Uri? Parse(string? text)
    {
        if (text is null)
        {
            return null;
        }

        // the library's socks5 leaves names to the proxy, which is what h stands for
        string address = text.StartsWith("socks5h://", StringComparison.OrdinalIgnoreCase) ? "socks5://" + text["socks5h://".Length..] : text;
        address = address.Contains("://", StringComparison.Ordinal) ? address : "http://" + address;
        return Uri.TryCreate(address, UriKind.Absolute, out Uri? proxy) && proxy.Scheme is "http" or "https" or "socks5" or "socks4" or "socks4a" && proxy.Host.Length > 0
            ? proxy
            : throw new PullException(PullError.Usage, "a proxy in the environment is not HOST:PORT, http://…, https://… or socks5://…"); // its text may hold a password
    }

    private static Uri? WithoutUser(Uri? proxy) => proxy is null ? null : new UriBuilder(proxy) { UserName = "", Password = "" }.Uri;

    private sealed class ProxyCredentials(IReadOnlyList<Uri> proxies) : ICredentials
    {
        // The library prefers Negotiate and NTLM to what works here: both need GSSAPI, a shared library. Without credentials for them it takes the next.
        private static readonly string[] Impossible = ["Negotiate", "NTLM", "Kerberos"];

        public NetworkCredential? GetCredential(Uri uri, string authType)
        {
            if (Impossible.Contains(authType, StringComparer.OrdinalIgnoreCase))
            {
                return null;
            }

            string[]? parts = proxies.FirstOrDefault(proxy => RegistryAddress.IsSameOrigin(proxy, uri))?.UserInfo.Split(':', 2);
            return parts is null ? null : new NetworkCredential(Uri.UnescapeDataString(parts[0]), parts.Length > 1 ? Uri.UnescapeDataString(parts[1]) : "");
        }
    }
}
