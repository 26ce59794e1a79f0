using System.Diagnostics;
using System.Text.RegularExpressions;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// The executable leaves out a part of OpenSSL (src/static/): what servers have must still be met, and openssl(1) of the machine is the witness.
/// </summary>
public sealed partial class CipherTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();

    [Theory]
    [InlineData("-newkey rsa:2048", "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384")]
    [InlineData("-newkey rsa:2048", "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256")]
    [InlineData("-newkey rsa:2048", "-tls1_2 -cipher ECDHE-RSA-AES128-SHA256")]
    [InlineData("-newkey rsa:2048", "-tls1_2 -cipher ECDHE-RSA-AES256-SHA384")]
    [InlineData("-newkey rsa:4096", "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256")]
    [InlineData("-newkey rsa:3072 -sha512", "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256")]
    [InlineData("-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048", "-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384")]
    [InlineData("-newkey ec -pkeyopt ec_paramgen_curve:P-256", "-tls1_3 -groups P-256")]
    [InlineData("-newkey ec -pkeyopt ec_paramgen_curve:P-256", "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256")]
    [InlineData("-newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha384", "-tls1_3 -groups P-384")]
    [InlineData("-newkey ec -pkeyopt ec_paramgen_curve:P-521 -sha512", "-tls1_3 -groups P-521")]
    [InlineData("-newkey ed25519", "-tls1_3 -groups X25519")]
    [InlineData("-newkey ed448", "-tls1_3 -groups X448")]
    public async Task A_server_with_any_key_cipher_and_curve_of_today_is_met(string key, string session)
    {
        (await Binary.ProgramAsync(
            "openssl",
            ["req", "-x509", .. key.Split(' '), "-nodes", "-keyout", directory["key"], "-out", directory["cert"], "-days", "30", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"])).Expect(0);
        const string manifest = """
            {"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[],"config":{"mediaType":"application/vnd.oci.empty.v1+json",
            "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="}}
            """;
        Directory.CreateDirectory(directory["v2/a/b/manifests"]);
        await File.WriteAllTextAsync(directory["v2/a/b/manifests/v1"], manifest, TestContext.Current.CancellationToken);
        using Process server = Process.Start(new ProcessStartInfo("openssl", ["s_server", "-accept", "127.0.0.1:0", "-WWW", "-cert", "cert", "-key", "key", .. session.Split(' ')])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = directory.Path,
        })!;
        try
        {
            Match listening;
            do
            {
                string? line = await server.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken);
                Assert.True(line is not null, "openssl s_server ended without listening");
                listening = Accepting().Match(line);
            }
            while (!listening.Success);

            BinaryResult shown = await Binary.RunAsync(
                "inspect", "--raw", "--remote", $"127.0.0.1:{listening.Groups[1].Value}/a/b:v1", "--anonymous", "--retries", "1", "--ca-file", directory["cert"], "--store", directory["s"]);

            Assert.Equal(manifest, shown.Expect(0).Out.TrimEnd('\n'));
        }
        finally
        {
            server.Kill();
            await server.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    public void Dispose() => directory.Dispose();

    [GeneratedRegex(@"^ACCEPT 127\.0\.0\.1:(\d+)")]
    private static partial Regex Accepting();
}
