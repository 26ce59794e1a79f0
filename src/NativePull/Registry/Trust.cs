using System.IO.Compression;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace NativePull.Registry;

/// <summary>
/// Which servers are believed: chains to our own roots and to no others, without asking the network about them. Roots are those
/// of the CA file, else of the first root file that has any, else the ones built in.
/// </summary>
internal sealed class Trust
{
    private const string EmbeddedRoots = "roots.pem.gz";
    private const string ServerAuthentication = "1.3.6.1.5.5.7.3.1"; // RFC 5280, 4.2.1.12: id-kp-serverAuth

    private readonly X509Certificate2Collection roots;
    private readonly string source;

    private Trust(X509Certificate2Collection roots, string source)
    {
        this.roots = roots;
        this.source = source;
    }

    internal bool UsesEmbeddedRoots => source == EmbeddedRoots;

    /// <exception cref="PullException">TlsOther: the CA file cannot be read, or has no certificate or a broken one.</exception>
    internal static Trust Load(RegistryOptions options)
    {
        if (options.InsecureSkipTlsVerify)
        {
            return new Trust([], "");
        }

        if (options.CaFile is { } caFile)
        {
            return new Trust(OfCaFile(caFile), caFile);
        }

        foreach (string file in options.RootFiles)
        {
            if (TryRead(file, out X509Certificate2Collection found))
            {
                return new Trust(found, file);
            }
        }

        return new Trust(BuiltIn(), EmbeddedRoots);
    }

    /// <summary>How to speak TLS with these roots. The options must be given to one handler only.</summary>
    internal SslClientAuthenticationOptions Options(bool insecure)
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
            string roots = UsesEmbeddedRoots ? "the built-in roots" : source;
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

    private static X509Certificate2Collection OfCaFile(string file)
    {
        try
        {
            X509Certificate2Collection found = Certificates(File.ReadAllText(file), skipBroken: false);
            return found.Count > 0 ? found : throw new PullException(PullError.TlsOther, $"{file}: no PEM certificate in it");
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new PullException(PullError.TlsOther, $"{file}: cannot be used as a CA file", unreadable);
        }
    }

    private static bool TryRead(string file, out X509Certificate2Collection found)
    {
        try
        {
            found = Certificates(File.ReadAllText(file), skipBroken: true);
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
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
        return Certificates(text.ReadToEnd(), skipBroken: false);
    }

    private static X509Certificate2Collection Certificates(ReadOnlySpan<char> pem, bool skipBroken)
    {
        var found = new X509Certificate2Collection();
        while (PemEncoding.TryFind(pem, out PemFields fields))
        {
            if (pem[fields.Label].SequenceEqual("CERTIFICATE"))
            {
                byte[] der = Convert.FromBase64String(pem[fields.Base64Data].ToString());
                try
                {
                    found.Add(X509CertificateLoader.LoadCertificate(der));
                }
                catch (CryptographicException) when (skipBroken)
                {
                    // one root of a system bundle that this OpenSSL cannot read does not make the others worse
                }
            }

            pem = pem[fields.Location.End..];
        }

        return found;
    }
}
