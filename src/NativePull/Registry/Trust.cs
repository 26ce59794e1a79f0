using System.IO.Compression;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace NativePull.Registry;

/// <summary>
/// Which servers are believed: chains to our own roots and to no others, without asking the network about them. Roots are those
/// of the CA file, else of the first root file that has any and of the root directories, else the ones built in; besides, for one registry, what
/// the machine keeps for it.
/// </summary>
internal sealed class Trust
{
    private const string EmbeddedRoots = "roots.pem.gz";
    private const string ServerAuthentication = "1.3.6.1.5.5.7.3.1"; // RFC 5280, 4.2.1.12: id-kp-serverAuth

    private readonly X509Certificate2Collection roots;
    private readonly string source;
    private readonly bool insecure;
    private readonly SslStreamCertificateContext? identity;

    private Trust(X509Certificate2Collection roots, string source, bool insecure, SslStreamCertificateContext? identity)
    {
        this.roots = roots;
        this.source = source;
        this.insecure = insecure;
        this.identity = identity;
    }

    internal bool UsesEmbeddedRoots => source.StartsWith(EmbeddedRoots, StringComparison.Ordinal);

    /// <exception cref="PullException">TlsOther: the CA file cannot be read, or has no certificate or a broken one.</exception>
    internal static Trust Load(RegistryOptions options)
    {
        if (options.InsecureSkipTlsVerify)
        {
            return new Trust([], "", insecure: true, null);
        }

        if (options.CaFile is { } caFile)
        {
            return new Trust(OfCaFile(caFile), caFile, insecure: false, null);
        }

        (X509Certificate2Collection found, string source) = OfMachine(options);
        return found.Count > 0 ? new Trust(found, source, insecure: false, null)
            : options.RootsAreNamed ? throw new PullException(PullError.TlsOther, $"{string.Join(" and ", options.RootFiles.Concat(options.RootDirectories))}: no certificate to trust in it")
            : new Trust(BuiltIn(), EmbeddedRoots, insecure: false, null);
    }

    /// <summary>The same, and besides what is kept for one registry.</summary>
    /// <param name="from">Where the authorities are.</param>
    /// <param name="who">The client certificate; null: as before.</param>
    internal Trust With(X509Certificate2Collection authorities, string from, SslStreamCertificateContext? who) =>
        new([.. roots, .. authorities], authorities.Count > 0 ? $"{source} or {from}" : source, insecure, who ?? identity);

    /// <summary>How to speak TLS with these roots. The options must be given to one handler only.</summary>
    internal SslClientAuthenticationOptions Options()
    {
        var policy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        };
        policy.ApplicationPolicy.Add(new Oid(ServerAuthentication));
        policy.CustomTrustStore.AddRange(roots);
        return new SslClientAuthenticationOptions
        {
            EnabledSslProtocols = System.Security.Authentication.SslProtocols.Tls12 | System.Security.Authentication.SslProtocols.Tls13,
            CertificateChainPolicy = policy,
            ClientCertificateContext = identity,
            RemoteCertificateValidationCallback = (connection, certificate, chain, errors) =>
                insecure || errors == SslPolicyErrors.None
                    ? true
                    : throw Refusal(((SslStream)connection).TargetHostName, certificate as X509Certificate2, chain, errors),
        };
    }

    // Why a server is not believed. The chain is judged before the name: a stranger's name means nothing.
    private PullException Refusal(string host, X509Certificate2? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (certificate is null)
        {
            return new PullException(PullError.TlsOther, $"{host}: the server shows no certificate");
        }

        X509ChainStatusFlags status = chain?.ChainStatus.Aggregate(X509ChainStatusFlags.NoError, (all, one) => all | one.Status) ?? X509ChainStatusFlags.NoError;
        if ((status & (X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.PartialChain)) != 0)
        {
            string roots = source.Replace(EmbeddedRoots, "the built-in roots", StringComparison.Ordinal);
            return new PullException(PullError.TlsUnknownIssuer, $"{host}: the certificate's issuer is not trusted: {certificate.Issuer} is not below {roots}");
        }

        if ((status & X509ChainStatusFlags.NotTimeValid) != 0)
        {
            return OutOfTime(host, chain!);
        }

        if (status == X509ChainStatusFlags.NoError && errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch))
        {
            return new PullException(PullError.TlsWrongName, $"{host}: the certificate is for another name: {Names(certificate)}");
        }

        return new PullException(PullError.TlsOther, $"{host}: the certificate is not acceptable: {(status == X509ChainStatusFlags.NoError ? errors.ToString() : status.ToString())}");
    }

    private static PullException OutOfTime(string host, X509Chain chain)
    {
        DateTime now = DateTime.UtcNow;
        X509Certificate2 certificate = chain.ChainElements
            .First(element => element.ChainElementStatus.Any(status => status.Status == X509ChainStatusFlags.NotTimeValid)).Certificate;
        DateTime from = certificate.NotBefore.ToUniversalTime();
        DateTime to = certificate.NotAfter.ToUniversalTime();
        return now < from
            ? new PullException(PullError.TlsNotYetValid, $"{host}: the certificate is valid from {from:yyyy-MM-dd HH:mm} UTC, this machine's clock says {now:yyyy-MM-dd HH:mm}: is the clock right?")
            : new PullException(PullError.TlsExpired, $"{host}: the certificate expired at {to:yyyy-MM-dd HH:mm} UTC, this machine's clock says {now:yyyy-MM-dd HH:mm}");
    }

    private static string Names(X509Certificate2 certificate)
    {
        X509SubjectAlternativeNameExtension? names = certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().FirstOrDefault();
        return names is null
            ? certificate.Subject
            : string.Join(", ", names.EnumerateDnsNames().Concat(names.EnumerateIPAddresses().Select(address => address.ToString())));
    }

    internal static X509Certificate2Collection OfCaFile(string file)
    {
        try
        {
            X509Certificate2Collection found = PemFile.Certificates(File.ReadAllText(file), skipBroken: false);
            return found.Count > 0 ? found : throw new PullException(PullError.TlsOther, $"{file}: no PEM certificate in it");
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new PullException(PullError.TlsOther, $"{file}: cannot be used as a CA file", unreadable);
        }
    }

    // As Go's programs do: the first bundle that has any, and the directories where they are named or there is no bundle.
    private static (X509Certificate2Collection Found, string Source) OfMachine(RegistryOptions options)
    {
        var sources = new List<string>();
        X509Certificate2Collection all = [];
        foreach (string file in options.RootFiles)
        {
            if (TryRead(file, out all))
            {
                sources.Add(file);
                break;
            }
        }

        if (all.Count == 0 || options.RootsAreNamed)
        {
            var known = all.Select(one => one.Thumbprint).ToHashSet();
            foreach (string directory in options.RootDirectories.Where(Directory.Exists))
            {
                // the same certificate is there under several names: its own, its hash
                sources.Add(directory);
                foreach (string file in Directory.EnumerateFiles(directory))
                {
                    _ = TryRead(file, out X509Certificate2Collection found);
                    all.AddRange(found.Where(one => known.Add(one.Thumbprint)).ToArray());
                }
            }
        }

        return (all, string.Join(" or ", sources));
    }

    private static bool TryRead(string file, out X509Certificate2Collection found)
    {
        try
        {
            found = PemFile.Certificates(File.ReadAllText(file), skipBroken: true);
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException or FormatException)
        {
            found = []; // only a candidate: the next one is asked
        }

        return found.Count > 0;
    }

    // Absent in builds that scripts/build.sh did not prepare: then nobody is trusted.
    private static X509Certificate2Collection BuiltIn()
    {
        using Stream? resource = typeof(Trust).Assembly.GetManifestResourceStream(EmbeddedRoots);
        if (resource is null)
        {
            return [];
        }

        using var text = new StreamReader(new GZipStream(resource, CompressionMode.Decompress), Encoding.ASCII);
        return PemFile.Certificates(text.ReadToEnd(), skipBroken: false);
    }
}
