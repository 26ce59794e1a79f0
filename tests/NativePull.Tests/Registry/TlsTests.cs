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

    public static TheoryData<string, string[], string[]> Places => new()
    {
        { "a named bundle", ["ca.pem"], [] },
        { "a named directory", [], ["good"] },
        { "one of several directories", ["absent.pem"], ["absent", "other", "good"] },
        { "a directory besides a named bundle of others", ["other/1.pem"], ["good"] },
    };

    [Theory]
    [MemberData(nameof(Places))]
    public async Task Roots_may_be_named_in_many_places(string what, string[] files, string[] directories)
    {
        Lay();
        await using RegistryHarness it = Ready(authority.Issue(), options => options with { RootsAreNamed = true, RootFiles = At(files), RootDirectories = At(directories) });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
        Assert.NotEmpty(what);
    }

    [Fact]
    public async Task A_directory_serves_where_no_bundle_was_found_and_roots_that_were_named_have_no_stand_in()
    {
        Lay();
        await using RegistryHarness unnamed = Ready(authority.Issue(), options => options with { RootFiles = At("absent.pem"), RootDirectories = At("good") });
        await using RegistryHarness named = Ready(authority.Issue(), options => options with { RootsAreNamed = true, RootFiles = At("absent.pem") });

        Assert.Equal(Index, (await unnamed.ManifestAsync()).Content);
        PullException failure = await Assert.ThrowsAnyAsync<PullException>(() => named.ManifestAsync());
        Assert.Equal(PullError.TlsOther, failure.Reason);
        Assert.Contains("absent.pem: no certificate to trust", failure.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("PKCS#8")]
    [InlineData("PKCS#1")]
    [InlineData("EC")]
    public async Task What_certs_d_keeps_for_a_host_is_trusted_and_shown_there_and_nowhere_else(string form)
    {
        await using var it = new RegistryHarness(
            new FakeRegistry { Certificate = authority.Issue(), ClientIssuer = "CN=fake root", HasStorage = true },
            options => options with { RootsAreNamed = true, RootFiles = [Pem("roots.pem", authority.RootPem)], CertificateDirectories = At("absent", "certs.d") });
        KeepFor($"certs.d/{it.Fake.Address}", authority.RootPem, form);
        Descriptor blob = it.AddBlob();

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.Equal([""], it.Fake.ClientsSeenByStorage);
    }

    [Fact]
    public async Task The_authorities_of_a_given_directory_are_trusted_everywhere_but_the_client_certificate_is_for_the_registry()
    {
        KeepFor("given", authority.RootPem, "EC");
        await using var it = new RegistryHarness(
            new FakeRegistry { Certificate = authority.Issue(), ClientIssuer = "CN=fake root", HasStorage = true },
            options => options with { CertDirectory = At("given")[0] });
        Descriptor blob = it.AddBlob();

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.Equal([""], it.Fake.ClientsSeenByStorage);
    }

    [Fact]
    public async Task A_server_that_wants_a_client_certificate_says_so()
    {
        await using var it = new RegistryHarness(
            new FakeRegistry { Certificate = authority.Issue(), ClientIssuer = "CN=fake root" },
            options => options with { CaFile = Pem("ca.pem", authority.RootPem), Retry = new RetryPolicy { Tries = 1 } });

        PullException failure = await Assert.ThrowsAnyAsync<PullException>(() => it.ManifestAsync());

        // what a server of .NET does to a client without one is an end of the connection, as any other
        Assert.True(failure.Reason is PullError.TlsOther or PullError.Unavailable, failure.Sentence);
    }

    [Theory]
    [InlineData("a.cert", "a.key is missing")]
    [InlineData("encrypted", "without a password")]
    [InlineData("swapped", "cannot be used as a client certificate")]
    [InlineData("broken.crt", "cannot be used")]
    public async Task Certificates_that_cannot_be_used_are_told_by_name(string what, string expected)
    {
        Directory.CreateDirectory(At("given")[0]);
        if (what is "encrypted" or "swapped")
        {
            KeepFor("given", authority.RootPem, what == "encrypted" ? what : "EC");
            if (what == "swapped")
            {
                File.WriteAllText(At("given/client.key")[0], authority.IssueClient("EC").Key);
            }
        }
        else
        {
            Pem($"given/{what}", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        }

        await using RegistryHarness it = Ready(authority.Issue(), options => options with { CertDirectory = At("given")[0] });
        PullException failure = await Assert.ThrowsAnyAsync<PullException>(() => it.ManifestAsync());

        Assert.Equal(PullError.TlsOther, failure.Reason);
        Assert.Contains(expected, failure.Sentence, StringComparison.Ordinal);
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

    private string[] At(params string[] names) => [.. names.Select(name => Path.Combine(directory, name))];

    private void Lay()
    {
        using var other = new FakeCertificates("other root");
        Pem("ca.pem", authority.RootPem);
        Directory.CreateDirectory(At("good")[0]);
        Directory.CreateDirectory(At("other")[0]);
        Pem("good/README", "nothing here");
        Pem("good/root.pem", authority.RootPem);
        File.CreateSymbolicLink(At("good/0123abcd.0")[0], "root.pem");
        File.CreateSymbolicLink(At("good/dangling.0")[0], "nothing");
        Pem("other/1.pem", other.RootPem);
    }

    private void KeepFor(string place, string root, string form)
    {
        Directory.CreateDirectory(At(place)[0]);
        (string certificate, string key) = authority.IssueClient(form);
        Pem($"{place}/ca.crt", root);
        Pem($"{place}/client.cert", certificate);
        Pem($"{place}/client.key", key);
    }

    private string Pem(string name, string content)
    {
        string file = Path.Combine(directory, name);
        File.WriteAllText(file, content);
        return file;
    }
}
