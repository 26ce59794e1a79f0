using System.Net;

namespace NativePull.Registry;

/// <summary>
/// The sockets to registries, storage and token servers: HTTP/1.1, no cookies, no decompression (digests are of stored bytes), no
/// redirects of the library's own. TLS and its roots are set up when the first https address is asked for.
/// </summary>
internal sealed class Connections : IDisposable
{
    private readonly Lazy<HttpMessageInvoker> plain;
    private readonly Lazy<HttpMessageInvoker> secure;
    private readonly Lazy<Trust> trust;

    internal Connections(RegistryOptions options)
    {
        Dialer = new Dialer(options);
        trust = new Lazy<Trust>(() => Trust.Load(options));
        plain = new Lazy<HttpMessageInvoker>(() => new HttpMessageInvoker(Handler(options)));
        secure = new Lazy<HttpMessageInvoker>(() =>
        {
            SocketsHttpHandler handler = Handler(options);
            handler.SslOptions = trust.Value.Options(options.InsecureSkipTlsVerify);
            return new HttpMessageInvoker(handler);
        });
    }

    /// <summary>Makes every connection.</summary>
    internal Dialer Dialer { get; }

    /// <summary>TLS was needed, and the machine had no roots of its own.</summary>
    internal bool UsedEmbeddedRoots => trust.IsValueCreated && trust.Value.UsesEmbeddedRoots;

    /// <exception cref="PullException">TlsOther: the roots cannot be loaded.</exception>
    internal HttpMessageInvoker For(Uri address) => (address.Scheme == Uri.UriSchemeHttps ? secure : plain).Value;

    public void Dispose()
    {
        if (plain.IsValueCreated)
        {
            plain.Value.Dispose();
        }

        if (secure.IsValueCreated)
        {
            secure.Value.Dispose();
        }
    }

    private SocketsHttpHandler Handler(RegistryOptions options) => new()
    {
        AllowAutoRedirect = false,
        AutomaticDecompression = DecompressionMethods.None,
        UseCookies = false,
        MaxResponseDrainSize = 64 * 1024, // bytes; the rest of a redirect's or an error's body, not that of a blob given up half-way
        ConnectTimeout = options.ConnectTimeout,
        ConnectCallback = async (context, token) => await Dialer.ConnectAsync(context.DnsEndPoint, token),
        ActivityHeadersPropagator = null,
        Proxy = new LoopbackBypass(HttpClient.DefaultProxy),
    };

    // A proxy is never asked for what is on this machine (as Go's and curl's users expect).
    private sealed class LoopbackBypass(IWebProxy proxy) : IWebProxy
    {
        public ICredentials? Credentials { get => proxy.Credentials; set => proxy.Credentials = value; }

        public Uri? GetProxy(Uri destination) => IsBypassed(destination) ? null : proxy.GetProxy(destination);

        public bool IsBypassed(Uri host) => RegistryAddress.IsLoopback(host.Host) || proxy.IsBypassed(host);
    }
}
