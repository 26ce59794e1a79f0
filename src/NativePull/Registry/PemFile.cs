using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace NativePull.Registry;

/// <summary>Certificates and keys in PEM (RFC 7468).</summary>
internal static class PemFile
{
    /// <param name="skipBroken">One that cannot be read does not make the others worse; else it is a <see cref="CryptographicException"/>.</param>
    internal static X509Certificate2Collection Certificates(ReadOnlySpan<char> pem, bool skipBroken)
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
                    // left out
                }
            }

            pem = pem[fields.Location.End..];
        }

        return found;
    }

    /// <summary>The certificate together with its key: PKCS#8, or the older forms of RSA and elliptic curves.</summary>
    /// <exception cref="PullException">TlsOther: no such key.</exception>
    internal static X509Certificate2 WithKey(X509Certificate2 certificate, ReadOnlySpan<char> pem, string file)
    {
        while (PemEncoding.TryFind(pem, out PemFields fields))
        {
            string label = pem[fields.Label].ToString();
            if (label == "ENCRYPTED PRIVATE KEY" || pem[fields.Location].Contains("Proc-Type: 4,ENCRYPTED", StringComparison.Ordinal))
            {
                break;
            }

            if (label.EndsWith("PRIVATE KEY", StringComparison.Ordinal))
            {
                byte[] der = Convert.FromBase64String(pem[fields.Base64Data].ToString());
                return label != "EC PRIVATE KEY" && certificate.GetRSAPublicKey() is { } publicKey ? WithRsa(certificate, publicKey, label, der) : WithCurve(certificate, label, der);
            }

            pem = pem[fields.Location.End..];
        }

        throw new PullException(PullError.TlsOther, $"{file}: no PEM private key without a password in it");
    }

    private static X509Certificate2 WithRsa(X509Certificate2 certificate, RSA publicKey, string label, byte[] der)
    {
        publicKey.Dispose();
        using var key = RSA.Create();
        if (label == "RSA PRIVATE KEY")
        {
            key.ImportRSAPrivateKey(der, out _);
        }
        else
        {
            key.ImportPkcs8PrivateKey(der, out _);
        }

        return certificate.CopyWithPrivateKey(key);
    }

    private static X509Certificate2 WithCurve(X509Certificate2 certificate, string label, byte[] der)
    {
        using var key = ECDsa.Create();
        if (label == "EC PRIVATE KEY")
        {
            key.ImportECPrivateKey(der, out _);
        }
        else
        {
            key.ImportPkcs8PrivateKey(der, out _);
        }

        return certificate.CopyWithPrivateKey(key);
    }
}
