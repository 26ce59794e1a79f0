using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace NativePull.Tests.Fakes;

/// <summary>A certificate authority made for one test.</summary>
internal sealed class FakeCertificates : IDisposable
{
    private readonly ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly X509Certificate2 root;

    internal FakeCertificates(string name = "fake root")
    {
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
        root = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddYears(-10), DateTimeOffset.UtcNow.AddYears(10));
    }

    internal string RootPem => root.ExportCertificatePem();

    /// <summary>For servers: a certificate below the root.</summary>
    /// <param name="name">An address or a DNS name.</param>
    /// <param name="from">Days from now.</param>
    /// <param name="to">Days from now.</param>
    internal SslStreamCertificateContext Issue(string name = "127.0.0.1", int from = -1, int to = 30)
    {
        using var own = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=fake server", own, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        if (IPAddress.TryParse(name, out IPAddress? address))
        {
            names.AddIpAddress(address);
        }
        else
        {
            names.AddDnsName(name);
        }

        request.CertificateExtensions.Add(names.Build());
        using X509Certificate2 signed = request.Create(root, DateTimeOffset.UtcNow.AddDays(from), DateTimeOffset.UtcNow.AddDays(to), RandomNumberGenerator.GetBytes(8));
        return SslStreamCertificateContext.Create(signed.CopyWithPrivateKey(own), null, offline: true);
    }

    /// <summary>For a server of another kind: certificate and key in PEM.</summary>
    internal (string Certificate, string Key) IssueServer(string name)
    {
        SslStreamCertificateContext issued = Issue(name);
        using ECDsa own = issued.TargetCertificate.GetECDsaPrivateKey()!; // Issue made it so
        return (issued.TargetCertificate.ExportCertificatePem(), own.ExportPkcs8PrivateKeyPem());
    }

    /// <summary>For clients: certificate and key in PEM.</summary>
    /// <param name="form">Of the key: "PKCS#8", "PKCS#1" (then it is RSA) or "EC".</param>
    internal (string Certificate, string Key) IssueClient(string form)
    {
        using RSA? rsa = form == "EC" ? null : RSA.Create(2048);
        using ECDsa? curve = form == "EC" ? ECDsa.Create(ECCurve.NamedCurves.nistP256) : null;
        CertificateRequest request = rsa is null
            ? new CertificateRequest("CN=fake client", curve!, HashAlgorithmName.SHA256)
            : new CertificateRequest("CN=fake client", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        using X509Certificate2 signed = request.Create(
            root.SubjectName, X509SignatureGenerator.CreateForECDsa(key), DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(30), RandomNumberGenerator.GetBytes(8));
        string pem = form switch
        {
            "PKCS#1" => rsa!.ExportRSAPrivateKeyPem(),
            "EC" => curve!.ExportECPrivateKeyPem(),
            "encrypted" => rsa!.ExportEncryptedPkcs8PrivateKeyPem("x", new PbeParameters(PbeEncryptionAlgorithm.Aes128Cbc, HashAlgorithmName.SHA256, 1000)),
            _ => rsa!.ExportPkcs8PrivateKeyPem(),
        };
        return (signed.ExportCertificatePem(), pem);
    }

    public void Dispose()
    {
        root.Dispose();
        key.Dispose();
    }
}
