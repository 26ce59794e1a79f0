using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Which server the executable believes, wherever its roots come from, and what it says of those it does not.</summary>
public sealed class TrustTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();
    private readonly FakeCertificates authority = new();
    private readonly FakeCertificates stranger = new("stranger");

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>Settings as VARIABLE=VALUE or --option=VALUE ($D: the test's directory, $A: the registry), the exit code, the reason, what is said.</summary>
    public static TheoryData<string, string[], int, string, string> Settings => new()
    {
        { "none of ours", [], 9, "tls-unknown-issuer", "fake root" },
        { "a CA file", ["--ca-file=$D/ca.pem"], 0, "", "" },
        { "another's CA file", ["--ca-file=$D/stranger.pem"], 9, "tls-unknown-issuer", "fake root" },
        { "SSL_CERT_FILE", ["SSL_CERT_FILE=$D/ca.pem"], 0, "", "" },
        { "SSL_CERT_DIR", ["SSL_CERT_DIR=$D/absent:$D/roots"], 0, "", "" },
        { "SSL_CERT_FILE of another", ["SSL_CERT_FILE=$D/stranger.pem"], 9, "tls-unknown-issuer", "fake root" },
        { "a CA file wins over the environment", ["SSL_CERT_FILE=$D/ca.pem", "--ca-file=$D/stranger.pem"], 9, "tls-unknown-issuer", "fake root" },
        { "roots that are named and not there", ["SSL_CERT_FILE=$D/absent.pem"], 9, "tls-other", "absent.pem" },
        { "certs.d of the user", ["HOME=$D"], 0, "", "" },
        { "a directory of certificates", ["--cert-dir=$D/given"], 0, "", "" },
        { "no verification", ["--insecure-skip-tls-verify=true"], 0, "", "" },
        { "the environment's spelling of an option", ["NATIVEPULL_CA_FILE=$D/ca.pem"], 0, "", "" },
    };

    [Theory]
    [MemberData(nameof(Settings))]
    public async Task Roots_come_from_where_they_are_said_to_be(string what, string[] settings, int code, string reason, string said)
    {
        Assert.NotEmpty(what);
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(), Auth = new FakeAuth(), HasStorage = true }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        await PutAsync("ca.pem", authority.RootPem);
        await PutAsync("stranger.pem", stranger.RootPem);
        await PutAsync("roots/one.pem", stranger.RootPem);
        await PutAsync("roots/two.pem", authority.RootPem);
        await PutAsync("given/ca.crt", authority.RootPem);
        await PutAsync($".config/containers/certs.d/{registry.Address}/ca.crt", authority.RootPem);
        // what is kept for a host is for it alone: storage and token server have their own
        await PutAsync($".config/containers/certs.d/127.0.0.1:{registry.StoragePort}/ca.crt", authority.RootPem);
        await PutAsync($".config/containers/certs.d/{new Uri(registry.TokenUrl).Authority}/ca.crt", authority.RootPem);
        string[] filled = [.. settings.Select(setting => setting.Replace("$D", directory.Path, StringComparison.Ordinal))];

        BinaryResult result = await Binary.RunAsync(
            filled.Where(setting => !setting.StartsWith('-')).ToDictionary(setting => setting.Split('=')[0], setting => setting.Split('=')[1]),
            ["pull", reference, "--store", directory["s"], "--json", .. filled.Where(setting => setting.StartsWith('-'))]);

        result.Expect(code);
        Assert.Contains(reason.Length == 0 ? "\"digest\"" : $"\"reason\":\"{reason}\"", result.Out, StringComparison.Ordinal);
        Assert.Contains(said, result.Error, StringComparison.Ordinal);
        Assert.True(code == 0 || registry.Requests.Count == 0);
    }

    /// <summary>The certificate's name, days from now, the reason, and what is said.</summary>
    public static TheoryData<string, int, int, string, string> Certificates => new()
    {
        { "other.example", -1, 10, "tls-wrong-name", "other.example" },
        { "127.0.0.2", -1, 10, "tls-wrong-name", "127.0.0.2" },
        { "127.0.0.1", -10, -1, "tls-expired", "expired at" },
        { "127.0.0.1", 1, 10, "tls-not-yet-valid", "clock" },
    };

    [Theory]
    [MemberData(nameof(Certificates))]
    public async Task What_is_wrong_with_a_certificate_is_said(string name, int from, int to, string reason, string said)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(name, from, to) }.Start();
        await PutAsync("ca.pem", authority.RootPem);

        BinaryResult result = await Binary.RunAsync("pull", $"{registry.Address}/a/b", "--store", directory["s"], "--json", "--ca-file", directory["ca.pem"]);

        Assert.Contains($"\"reason\":\"{reason}\"", result.Expect(9).Out, StringComparison.Ordinal);
        Assert.Contains(said, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("try 2", result.Error, StringComparison.Ordinal); // that does not pass
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 9)]
    public async Task A_client_certificate_of_certs_d_is_shown_to_its_host_alone(bool isKept, int code)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(), ClientIssuer = "CN=fake root", HasStorage = true }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        (string certificate, string key) = authority.IssueClient("EC");
        string place = $".config/containers/certs.d/{registry.Address}";
        await PutAsync("ca.pem", authority.RootPem);
        await PutAsync($"{place}/ca.crt", authority.RootPem);
        if (isKept)
        {
            await PutAsync($"{place}/client.cert", certificate);
            await PutAsync($"{place}/client.key", key);
        }

        BinaryResult result = await Binary.RunAsync(
            new Dictionary<string, string> { ["HOME"] = directory.Path, ["SSL_CERT_FILE"] = directory["ca.pem"] }, "pull", reference, "--store", directory["s"], "--retries", "1");

        // a server of .NET only hangs up on whom it does not know; what nginx says is in PullThroughTests
        Assert.True(result.Code == code || (code == 9 && result.Code == 5), result.Error);
        Assert.All(registry.ClientsSeenByStorage, Assert.Empty);
    }

    [Fact]
    public async Task A_redirect_out_of_TLS_is_refused()
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue() }.Start();
        await using FakeRegistry plain = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        new FakeImage(plain, "a/b").Layer(("f", [1])).Publish();
        registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { RedirectTo = $"{plain.Url}/v2/a/b/blobs/{image.Layers[0].Digest}" }, 99);
        await PutAsync("ca.pem", authority.RootPem);

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", directory["s"], "--ca-file", directory["ca.pem"]);

        Assert.Contains("leaving https is refused", result.Expect(7).Error, StringComparison.Ordinal);
        Assert.Empty(plain.Requests);
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 9)]
    public async Task A_registry_without_TLS_elsewhere_is_spoken_to_only_where_that_is_wanted(bool isWanted, int code)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        string name = $"registry.test:{registry.Port}";

        BinaryResult result = await Binary.RunAsync(
            ["pull", $"{name}/a/b", "--store", directory["s"], "--resolve", $"{name}:127.0.0.1", "--retries", "1", .. isWanted ? ["--plain-http"] : Array.Empty<string>()]);

        Assert.Equal(!isWanted, result.Expect(code).Error.Contains("needs --plain-http", StringComparison.Ordinal));
        Assert.Equal(isWanted, registry.Requests.Count > 0);
    }

    /// <summary>What is missing of the files of certs.d; the other is there.</summary>
    [Theory]
    [InlineData("client.key", "its key ")]
    [InlineData("client.cert", "its certificate ")]
    public async Task Half_a_client_certificate_is_named(string missing, string said)
    {
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue() }.Start();
        (string certificate, string key) = authority.IssueClient("EC");
        string place = $".config/containers/certs.d/{registry.Address}";
        await PutAsync($"{place}/client.cert", certificate);
        await PutAsync($"{place}/client.key", key);
        File.Delete(directory[$"{place}/{missing}"]);

        BinaryResult result = await Binary.RunAsync(new Dictionary<string, string> { ["HOME"] = directory.Path }, "pull", $"{registry.Address}/a/b", "--store", directory["s"]);

        Assert.Contains($"{said}{directory[$"{place}/{missing}"]} is missing", result.Expect(9).Error, StringComparison.Ordinal);
        Assert.Empty(registry.Requests);
    }

    public void Dispose()
    {
        authority.Dispose();
        stranger.Dispose();
        directory.Dispose();
    }

    private async Task PutAsync(string file, string content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(directory[file])!);
        await File.WriteAllTextAsync(directory[file], content, Token);
    }
}
