using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace NativePull.Registry;

/// <summary>
/// What a machine keeps for one registry (containers-certs.d(5)): *.crt are authorities it may be below, besides the usual ones; *.cert with *.key
/// of the same name say who we are. Of several pairs the first by name counts.
/// </summary>
internal sealed record CertificateDirectory(string Path, X509Certificate2Collection Authorities, SslStreamCertificateContext? Identity)
{
    /// <exception cref="PullException">TlsOther: something in it cannot be used.</exception>
    internal static CertificateDirectory Read(string path)
    {
        try
        {
            var authorities = new X509Certificate2Collection();
            foreach (string file in Files(path, ".crt"))
            {
                authorities.AddRange(PemFile.Certificates(File.ReadAllText(file), skipBroken: false));
            }

            if (Files(path, ".key").FirstOrDefault(key => !File.Exists(System.IO.Path.ChangeExtension(key, ".cert"))) is { } alone)
            {
                // often it is there and called .crt, which makes an authority of it
                throw new PullException(PullError.TlsOther, $"{alone}: its certificate {System.IO.Path.ChangeExtension(alone, ".cert")} is missing");
            }

            string? pair = Files(path, ".cert").FirstOrDefault();
            return new CertificateDirectory(path, authorities, pair is null ? null : ReadIdentity(pair, System.IO.Path.ChangeExtension(pair, ".key")));
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new PullException(PullError.TlsOther, $"{path}: the certificates cannot be used", unreadable);
        }
    }

    /// <summary>A client certificate, with those between it and its root behind it, and its key without a password.</summary>
    /// <exception cref="PullException">TlsOther: they cannot be used.</exception>
    internal static SslStreamCertificateContext ReadIdentity(string certificateFile, string keyFile)
    {
        if (!File.Exists(keyFile))
        {
            throw new PullException(PullError.TlsOther, $"{certificateFile}: its key {keyFile} is missing");
        }

        try
        {
            X509Certificate2Collection chain = PemFile.Certificates(File.ReadAllText(certificateFile), skipBroken: false);
            if (chain.Count == 0)
            {
                throw new PullException(PullError.TlsOther, $"{certificateFile}: no PEM certificate in it");
            }

            X509Certificate2 own = PemFile.WithKey(chain[0], File.ReadAllText(keyFile), keyFile);
            chain.RemoveAt(0);
            return SslStreamCertificateContext.Create(own, chain, offline: true);
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException or CryptographicException or ArgumentException)
        {
            throw new PullException(PullError.TlsOther, $"{certificateFile} and {keyFile} cannot be used as a client certificate", unreadable);
        }
    }

    private static IEnumerable<string> Files(string path, string extension) =>
        Directory.EnumerateFiles(path).Where(file => file.EndsWith(extension, StringComparison.Ordinal)).Order(StringComparer.Ordinal);
}
