using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

public sealed class RedirectTests
{
    private static readonly byte[] Index = """{"schemaVersion":2,"manifests":[]}"""u8.ToArray();

    [Fact]
    public async Task Storage_on_another_port_gets_the_range_but_not_the_token()
    {
        await using var it = new RegistryHarness(new FakeRegistry { Auth = new FakeAuth(), HasStorage = true });
        Descriptor blob = it.AddBlob();
        it.Fake.Faults.On("cdn ", new Fault { CutAfter = 50_000 });

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        IReadOnlyList<SeenRequest> storage = it.Fake.RequestsOf("cdn");
        Assert.Equal([null, "bytes=50000-"], storage.Select(request => request["Range"]));
        Assert.All(storage, request => Assert.Null(request["Authorization"]));
        Assert.All(storage, request => Assert.Contains("?signature=secret", request.Path, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Every_try_begins_at_the_registry_with_the_token()
    {
        await using var it = new RegistryHarness(new FakeRegistry { Auth = new FakeAuth(), HasStorage = true });
        Descriptor blob = it.AddBlob();
        it.Fake.Faults.On("cdn ", new Fault { Status = 503 }, times: 3);

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.Equal(["Bearer token-1", "Bearer token-1", "Bearer token-1", "Bearer token-1"], it.Fake.RequestsOf("registry").Skip(1).Select(request => request["Authorization"]));
        Assert.Equal(4, it.Fake.RequestsOf("cdn").Count);
    }

    [Theory]
    [InlineData(403)]
    [InlineData(401)]
    [InlineData(404)]
    public async Task A_link_that_ran_out_is_renewed_once_at_the_registry(int status)
    {
        await using var it = new RegistryHarness(new FakeRegistry { HasStorage = true });
        Descriptor blob = it.AddBlob();
        it.Fake.Faults.On("cdn ", new Fault { Status = status, Headers = [("WWW-Authenticate", "Basic realm=\"storage\"")] });

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.Empty(it.Time.Waits);
    }

    [Fact]
    public async Task A_storage_that_goes_on_refusing_is_denied_and_its_link_stays_secret()
    {
        await using var it = new RegistryHarness(new FakeRegistry { HasStorage = true });
        Descriptor blob = it.AddBlob();
        it.Fake.Faults.On("cdn ", new Fault { Status = 403 }, times: 100);

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ReadBlobAsync(blob));

        Assert.Equal(PullError.Denied, failure.Reason);
        Assert.Equal(2, it.Fake.RequestsOf("cdn").Count);
        Assert.DoesNotContain("secret", failure.Sentence, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(301)]
    [InlineData(302)]
    [InlineData(303)]
    [InlineData(307)]
    [InlineData(308)]
    public async Task Every_kind_of_redirect_is_followed_relative_ones_too(int status)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/latest", new Fault { Status = status, Headers = [("Location", "../manifests/moved?x=1")] });
        it.Fake.Faults.On("/manifests/moved?x=1", new Fault { Status = status, Headers = [("Location", "/v2/team/app/manifests/latest")] });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
        Assert.Equal(3, it.Fake.Requests.Count);
    }

    [Theory]
    [InlineData(10)]
    [InlineData(11)]
    public async Task Ten_redirects_are_followed_and_no_more(int redirects)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { RedirectTo = "latest" }, times: redirects);

        if (redirects == 10)
        {
            await it.ManifestAsync();
        }
        else
        {
            RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());
            Assert.Contains("more than 10 redirects", failure.Message, StringComparison.Ordinal);
        }

        Assert.Equal(11, it.Fake.Requests.Count);
    }

    [Theory]
    [InlineData("ftp://127.0.0.1/x", PullError.Unsupported)]
    [InlineData("file:///etc/passwd", PullError.Unsupported)]
    [InlineData("", PullError.Unavailable)]
    public async Task A_redirect_to_nowhere_sensible_is_refused(string location, object reason)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = 307, Headers = [("Location", location)] }, times: 100);

        Assert.Equal(reason, (await RegistryHarness.FailureAsync(() => it.ManifestAsync())).Reason);
    }

    [Fact]
    public async Task A_redirect_from_https_to_http_is_refused()
    {
        using var authority = new FakeCertificates();
        await using var it = new RegistryHarness(new FakeRegistry { Certificate = authority.Issue() }, options => options with { InsecureSkipTlsVerify = true });
        it.Fake.Faults.On("/manifests/", new Fault { RedirectTo = "http://127.0.0.1:9/x?signature=secret" });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Unsupported, failure.Reason);
        Assert.Contains("leaving https is refused", failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", failure.Sentence, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_realm_that_redirects_does_not_take_the_password_along()
    {
        await using var it = new RegistryHarness(new FakeRegistry { Auth = new FakeAuth() }, options => options with { Credentials = Credentials.Of(new Credential("ann", "right")) });
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        it.Fake.Faults.On("token ", new Fault { RedirectTo = $"{it.Fake.StorageUrl}/data/token" });

        await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.NotNull(it.Fake.RequestsOf("token")[0]["Authorization"]);
        Assert.Null(it.Fake.RequestsOf("cdn")[0]["Authorization"]);
    }

    private static RegistryHarness Ready()
    {
        var it = new RegistryHarness();
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        return it;
    }
}
