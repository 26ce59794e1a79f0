using System.Collections.Concurrent;
using System.Net;

namespace NativePull.Registry;

/// <summary>
/// The sockets to registries, storage and token servers: HTTP/1.1, no cookies, no decompression (digests are of stored bytes), no
/// redirects of the library's own. TLS and its roots are set up when the first https address is asked for.
/// </summary>
/// <param name="own">The registry itself, which alone may see a client certificate that was given for it.</param>
internal sealed class Connections(Uri own, RegistryOptions options) : IDisposable
{
    private const string Plain = "";
    private const string Usual = "*";

    private readonly ConcurrentDictionary<string, Lazy<HttpMessageInvoker>> invokers = new();
    private readonly Lazy<Trust> trust = new(() => Trust.Load(options));

    /// <summary>Makes every connection.</summary>
    internal Dialer Dialer { get; } = new(options);

    /// <summary>TLS was needed, and the machine had no roots of its own.</summary>
    internal bool UsedEmbeddedRoots => trust.IsValueCreated && trust.Value.UsesEmbeddedRoots;

    /// <exception cref="PullException">TlsOther: roots or a client certificate cannot be loaded.</exception>
    internal HttpMessageInvoker For(Uri address)
    {
        if (address.Scheme != Uri.UriSchemeHttps)
        {
            return Get(Plain, () => Handler());
        }

        // hosts for which the machine keeps nothing share their settings and connections
        bool isOwn = RegistryAddress.IsSameOrigin(address, own);
        string? directory = DirectoryOf(address);
        return directory is null && !isOwn ? Get(Usual, () => Secure(UsualTrust())) : Get(address.Authority, () => Secure(TrustOf(directory, isOwn)));
    }

    public void Dispose()
    {
        foreach (Lazy<HttpMessageInvoker> made in invokers.Values.Where(made => made.IsValueCreated))
        {
            made.Value.Dispose();
        }
    }

    private HttpMessageInvoker Get(string key, Func<SocketsHttpHandler> make) =>
        invokers.GetOrAdd(key, _ => new Lazy<HttpMessageInvoker>(() => new HttpMessageInvoker(make()))).Value;

    private Trust TrustOf(string? directory, bool isOwn)
    {
        Trust found = UsualTrust();
        if (directory is not null)
        {
            var kept = CertificateDirectory.Read(directory);
            found = found.With(options.CaFile is null ? kept.Authorities : [], directory, kept.Identity);
        }

        if (isOwn && options.CertDirectory is { } given)
        {
            found = found.With([], given, CertificateDirectory.Read(given).Identity);
        }

        return isOwn && options.ClientCertificate is { } pair
            ? found.With([], pair.Certificate, CertificateDirectory.ReadIdentity(pair.Certificate, pair.Key))
            : found;
    }

    // Storage and token servers of a private registry are below its authority as well.
    private Trust UsualTrust()
    {
        Trust found = trust.Value;
        if (options.CertDirectory is { } given)
        {
            found = found.With(CertificateDirectory.Read(given).Authorities, given, null);
        }

        foreach (string file in options.MoreCaFiles)
        {
            found = found.With(Trust.OfCaFile(file), file, null);
        }

        return found;
    }

    private string? DirectoryOf(Uri address)
    {
        string[] names =
        [
            address.Authority,
            $"{address.Host}:{address.Port}",
            .. address.Host == RegistryAddress.DockerHubHost ? new[] { RegistryAddress.DockerHub } : [],
        ];
        return options.CertificateDirectories.SelectMany(place => names.Select(name => Path.Combine(place, name))).FirstOrDefault(Directory.Exists);
    }

    private SocketsHttpHandler Secure(Trust believed)
    {
        SocketsHttpHandler handler = Handler();
        handler.SslOptions = believed.Options();
        return handler;
    }

    private SocketsHttpHandler Handler() => new()
    {
        AllowAutoRedirect = false,
        AutomaticDecompression = DecompressionMethods.None,
        UseCookies = false,
        MaxResponseDrainSize = 64 * 1024, // bytes; the rest of a redirect's or an error's body, not that of a blob given up half-way
        ConnectTimeout = options.ConnectTimeout,
        ConnectCallback = async (context, token) => await Dialer.ConnectAsync(context.DnsEndPoint, token),
        ActivityHeadersPropagator = null,
        UseProxy = options.Proxy is not null,
        Proxy = options.Proxy,
    };
}
