using System.Net.Security;
using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

public sealed class TlsTests : IDisposable
{
    private static readonly byte[] Index = """{"schemaVersion":2,"manifests":[]}"""u8.ToArray();

    private readonly FakeCertificates authority = new();
    private readonly string directory = Directory.CreateTempSubdirectory("nativepull-tls-").FullName;

    [Fact]
    public async Task A_server_below_the_CA_file_is_trusted()
    {
        await using RegistryHarness it = Ready(authority.Issue(), options => options with { CaFile = Pem("ca.pem", authority.RootPem) });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
        Assert.False(it.Client.UsedEmbeddedRoots);
    }

    [Fact]
    public async Task The_first_root_file_with_certificates_is_used()
    {
        using var other = new FakeCertificates("other root");
        string[] files = [Path.Combine(directory, "absent.pem"), directory, Pem("empty.pem", "nothing here"), Pem("good.pem", "# comment\n" + authority.RootPem), Pem("other.pem", other.RootPem)];
        await using RegistryHarness it = Ready(authority.Issue(), options => options with { RootFiles = files });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
    }

    [Fact]
    public async Task A_broken_certificate_in_a_bundle_does_not_take_the_others_along()
    {
        string bundle = Pem("bundle.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + authority.RootPem);
        await using RegistryHarness it = Ready(authority.Issue(), options => options with { RootFiles = [bundle] });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
    }

    public static TheoryData<string, object, string> Distrust => new()
    {
        { "another issuer", PullError.TlsUnknownIssuer, "fake root" },
        { "another name", PullError.TlsWrongName, "other.example" },
        { "expired", PullError.TlsExpired, "expired at" },
        { "not yet valid", PullError.TlsNotYetValid, "clock" },
    };

    [Theory]
    [MemberData(nameof(Distrust))]
    public async Task A_server_that_is_not_trusted_is_told_why_and_never_asked_again(string fault, object reason, string sentence)
    {
        using var stranger = new FakeCertificates("stranger");
        SslStreamCertificateContext certificate = fault switch
        {
            "another name" => authority.Issue("other.example"),
            "expired" => authority.Issue(from: -10, to: -1),
            "not yet valid" => authority.Issue(from: 1, to: 10),
            _ => authority.Issue(),
        };
        string root = fault == "another issuer" ? stranger.RootPem : authority.RootPem;
        await using RegistryHarness it = Ready(certificate, options => options with { CaFile = Pem("ca.pem", root) });

        PullException failure = await Assert.ThrowsAnyAsync<PullException>(() => it.ManifestAsync());

        Assert.Equal(reason, failure.Reason);
        Assert.Contains(sentence, failure.Message, StringComparison.Ordinal);
        Assert.Empty(it.Fake.Requests);
        Assert.Empty(it.Time.Waits);
    }

    [Fact]
    public async Task Without_any_roots_of_the_machine_the_built_in_ones_decide()
    {
        await using RegistryHarness it = Ready(authority.Issue(), options => options);

        PullException failure = await Assert.ThrowsAnyAsync<PullException>(() => it.ManifestAsync());

        Assert.Equal(PullError.TlsUnknownIssuer, failure.Reason);
        Assert.True(it.Client.UsedEmbeddedRoots);
    }

    [Fact]
    public async Task Verification_can_be_skipped()
    {
        await using RegistryHarness it = Ready(authority.Issue("other.example", from: -10, to: -1), options => options with { InsecureSkipTlsVerify = true });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("no certificate")]
    [InlineData("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    public async Task A_CA_file_that_is_of_no_use_is_told_by_name(string? content)
    {
        string file = content is null ? Path.Combine(directory, "absent.pem") : Pem("ca.pem", content);
        await using RegistryHarness it = Ready(authority.Issue(), options => options with { CaFile = file });

        PullException failure = await Assert.ThrowsAnyAsync<PullException>(() => it.ManifestAsync());

        Assert.Equal(PullError.TlsOther, failure.Reason);
        Assert.Contains(file, failure.Sentence, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Storage_and_token_server_are_held_to_the_same_roots()
    {
        await using var it = new RegistryHarness(
            new FakeRegistry { Certificate = authority.Issue(), Auth = new FakeAuth { User = "ann", Password = "right" }, HasStorage = true },
            options => options with { CaFile = Pem("ca.pem", authority.RootPem), Credentials = Credentials.Of(new Credential("ann", "right")) });
        Descriptor blob = it.AddBlob();

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_loopback_registry_without_TLS_is_found_to_be_one(bool silent)
    {
        await using var it = new RegistryHarness(new FakeRegistry { IsSilentToTls = silent }, options => options with { PlainHttp = false, ConnectTimeout = TimeSpan.FromSeconds(silent ? 0.2 : 10) });
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
        Assert.Single(it.Fake.Requests);
    }

    [Fact]
    public async Task A_loopback_registry_with_TLS_is_never_spoken_to_without()
    {
        await using RegistryHarness it = Ready(authority.Issue(), options => options);

        Assert.Equal(PullError.TlsUnknownIssuer, (await Assert.ThrowsAnyAsync<PullException>(() => it.ManifestAsync())).Reason);
        Assert.Empty(it.Fake.Requests);
    }

    [Fact]
    public async Task Localhost_needs_no_resolver()
    {
        await using var it = new RegistryHarness();
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        using var client = new RegistryClient($"localhost:{it.Fake.Port}", it.Options with { PlainHttp = false });

        FetchedManifest fetched = await client.GetManifestAsync(RegistryHarness.Repository, "latest", RegistryHarness.Token);

        Assert.Equal(Index, fetched.Content);
        Assert.Equal($"localhost:{it.Fake.Port}", it.Fake.Requests[0]["Host"]);
    }

    [Fact]
    public async Task TLS_spoken_to_a_plain_port_is_told_and_not_tried_again()
    {
        await using var it = new RegistryHarness();
        it.Fake.Faults.On("/manifests/", new Fault { RedirectTo = it.Fake.StorageUrl.Replace("http:", "https:", StringComparison.Ordinal) });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.TlsOther, failure.Reason);
        Assert.Empty(it.Time.Waits);
    }

    public void Dispose()
    {
        authority.Dispose();
        Directory.Delete(directory, recursive: true);
    }

    private static RegistryHarness Ready(SslStreamCertificateContext certificate, Func<RegistryOptions, RegistryOptions> change)
    {
        var it = new RegistryHarness(new FakeRegistry { Certificate = certificate }, change);
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        return it;
    }

    private string Pem(string name, string content)
    {
        string file = Path.Combine(directory, name);
        File.WriteAllText(file, content);
        return file;
    }
}
