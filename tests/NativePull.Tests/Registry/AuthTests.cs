using System.Text;
using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

public sealed class AuthTests
{
    private static readonly byte[] Index = """{"schemaVersion":2,"manifests":[]}"""u8.ToArray();

    [Fact]
    public async Task One_anonymous_token_serves_a_pull_of_many_blobs()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        Descriptor[] blobs = [.. Enumerable.Range(0, 20).Select(seed => it.Fake.AddBlob(RegistryHarness.Repository, FakeContent.Generated(seed, 1000)))];

        await it.ManifestAsync();
        byte[][] contents = await Task.WhenAll(blobs.Select(blob => it.ReadBlobAsync(blob)));

        Assert.All(blobs.Zip(contents), pair => Assert.True(pair.First.Digest.Matches(pair.Second)));
        SeenRequest asked = Assert.Single(it.Fake.RequestsOf("token"));
        Assert.Equal("/token?service=fake&scope=repository%3Ateam%2Fapp%3Apull", asked.Path);
        Assert.Null(asked["Authorization"]);
        Assert.Equal(1 + 1 + 20, it.Fake.RequestsOf("registry").Count);
        Assert.All(it.Fake.RequestsOf("registry").Skip(1), request => Assert.Equal("Bearer token-1", request["Authorization"]));
    }

    [Fact]
    public async Task Many_that_are_refused_at_once_share_one_token()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        Descriptor[] blobs = [.. Enumerable.Range(0, 8).Select(seed => it.Fake.AddBlob(RegistryHarness.Repository, FakeContent.Generated(seed, 1000)))];

        await Task.WhenAll(blobs.Select(blob => it.ReadBlobAsync(blob)));

        Assert.Single(it.Fake.RequestsOf("token"));
    }

    [Fact]
    public async Task Each_repository_has_its_own_token()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        it.Fake.AddManifest("other/app", "latest", Index, MediaTypes.OciIndex);

        await it.ManifestAsync();
        await it.Client.GetManifestAsync("other/app", "latest", RegistryHarness.Token);

        Assert.Equal(2, it.Fake.RequestsOf("token").Count);
        Assert.Equal("Bearer token-2", it.Fake.Requests[^1]["Authorization"]);
    }

    [Fact]
    public async Task A_token_refused_in_the_middle_is_renewed_once_for_all()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        Descriptor blob = it.AddBlob();
        await it.ManifestAsync();
        it.Fake.ExpireTokens();

        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => it.ReadBlobAsync(blob)));

        Assert.Equal(2, it.Fake.RequestsOf("token").Count);
    }

    [Fact]
    public async Task A_download_cut_after_its_token_ended_goes_on_with_a_new_one()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        Descriptor blob = it.AddBlob();
        it.Fake.Faults.On("/blobs/", new Fault { Status = 401, Headers = [("WWW-Authenticate", $"Bearer realm=\"{it.Fake.TokenUrl}/token\"")] });
        it.Fake.Faults.On("/blobs/", new Fault { CutAfter = 1000 });
        it.Notices.Reported = it.Fake.ExpireTokens;

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));
        Assert.Equal(2, it.Fake.RequestsOf("token").Count);
    }

    [Theory]
    [InlineData(99, 1)]
    [InlineData(291, 2)]
    public async Task A_token_past_its_time_is_renewed_before_it_is_refused(int seconds, int tokens)
    {
        await using RegistryHarness it = Ready(new FakeAuth { TokenAnswer = """{"token":"{token}","expires_in":300,"issued_at":"1970-01-01T00:00:00Z"}""" });
        await it.ManifestAsync();
        it.Time.Advance(TimeSpan.FromSeconds(seconds));

        await it.ManifestAsync();

        Assert.Equal(tokens, it.Fake.RequestsOf("token").Count);
        Assert.Single(it.Fake.RequestsOf("registry"), request => request.Status == 401);
    }

    [Theory]
    [InlineData("""{"token":"{token}"}""")]
    [InlineData("""{"access_token":"{token}"}""")]
    [InlineData("""{"token":"","access_token":"{token}"}""")]
    [InlineData("""{"token":"{token}","access_token":"other"}""")]
    [InlineData("""{"token":"{token}","expires_in":"300","refresh_token":null}""")]
    [InlineData("""{"token":"{token}","expires_in":-1}""")]
    public async Task A_token_is_found_under_either_name(string answer)
    {
        await using RegistryHarness it = Ready(new FakeAuth { TokenAnswer = answer });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
        Assert.Single(it.Fake.RequestsOf("token"));
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("")]
    [InlineData("<html>hotel</html>")]
    [InlineData("""{"token":"a b"}""")]
    [InlineData("""{"token":"a\r\nX-Injected: 1"}""")]
    [InlineData("""{"token":7}""")]
    public async Task An_answer_without_a_usable_token_is_told_without_quoting_it(string answer)
    {
        await using RegistryHarness it = Ready(new FakeAuth { TokenAnswer = answer });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Unavailable, failure.Reason);
        Assert.Contains("without a usable token", failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("Injected", failure.Sentence, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Bearer realm=\"{realm}\",service=\"a b&c\",scope=\"{scope}\"", "/token?service=a%20b%26c&scope=repository%3Ateam%2Fapp%3Apull")]
    [InlineData("Bearer realm=\"{realm}\"", "/token?scope=repository%3Ateam%2Fapp%3Apull")]
    [InlineData("bearer REALM={realm}, Service=x", "/token?service=x&scope=repository%3Ateam%2Fapp%3Apull")]
    [InlineData("Bearer realm=\"{realm}?account=me\",service=\"x\"", "/token?account=me&service=x&scope=repository%3Ateam%2Fapp%3Apull")]
    [InlineData("Bearer realm=\"{realm}\",scope=\"repository:team/app:pull,push repository:base:pull\"", "/token?scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Abase%3Apull")]
    [InlineData("Negotiate, Basic realm=\"x\", Bearer realm=\"{realm}\"", "/token?scope=repository%3Ateam%2Fapp%3Apull")]
    public async Task The_token_request_follows_the_challenge(string challenge, string expected)
    {
        await using RegistryHarness it = Ready(new FakeAuth { Challenge = challenge });

        await it.ManifestAsync();

        Assert.Equal(expected, it.Fake.RequestsOf("token")[0].Path);
    }

    [Fact]
    public async Task Credentials_go_to_the_realm_and_only_the_token_to_the_registry()
    {
        await using RegistryHarness it = Ready(new FakeAuth { User = "ann", Password = "pä:ss" }, new Credential("ann", "pä:ss"));

        await it.ManifestAsync();

        Assert.Equal("Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes("ann:pä:ss")), it.Fake.RequestsOf("token")[0]["Authorization"]);
        Assert.All(it.Fake.RequestsOf("registry").Skip(1), request => Assert.Equal("Bearer token-1", request["Authorization"]));
    }

    [Theory]
    [InlineData(null, "no credentials were sent")]
    [InlineData("wrong", "the credentials of user ann were sent")]
    public async Task A_realm_that_refuses_is_unauthorized_and_keeps_its_words(string? password, string who)
    {
        await using RegistryHarness it = Ready(new FakeAuth { User = "ann", Password = "right" }, password is null ? null : new Credential("ann", password));

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Unauthorized, failure.Reason);
        Assert.Contains("incorrect username or password", failure.Message, StringComparison.Ordinal);
        Assert.Contains(who, failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("wrong", failure.Sentence, StringComparison.Ordinal);
        Assert.Single(it.Fake.RequestsOf("token"));
    }

    [Fact]
    public async Task A_realm_that_forbids_is_denied()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        it.Fake.Faults.On("token ", new Fault { Status = 403, Body = """{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}""" });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Denied, failure.Reason);
        Assert.Contains("DENIED: requested access", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_realm_that_is_busy_is_asked_again()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        it.Fake.Faults.On("token ", new Fault { Status = 503 }, times: 2);
        it.Fake.Faults.On("token ", new Fault { CutAfter = 3 });

        await it.ManifestAsync();

        Assert.Equal(4, it.Fake.RequestsOf("token").Count);
        Assert.Equal(3, it.Time.Waits.Count);
    }

    [Fact]
    public async Task A_realm_that_stays_busy_is_asked_six_times_not_thirty_six()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        it.Fake.Faults.On("token ", new Fault { Status = 503 }, times: 100);

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Unavailable, failure.Reason);
        Assert.Equal(6, it.Fake.RequestsOf("token").Count);
    }

    [Fact]
    public async Task A_new_token_that_is_refused_too_is_the_end()
    {
        await using RegistryHarness it = Ready(new FakeAuth());
        it.Fake.Faults.On("/manifests/", new Fault { Status = 401, Body = """{"errors":[{"code":"UNAUTHORIZED","message":"not you"}]}""", Headers = [("WWW-Authenticate", $"Bearer realm=\"{it.Fake.TokenUrl}/token\"")] }, times: 100);

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Unauthorized, failure.Reason);
        Assert.Contains("UNAUTHORIZED: not you", failure.Message, StringComparison.Ordinal);
        Assert.Single(it.Fake.RequestsOf("token"));
    }

    [Fact]
    public async Task Basic_is_answered_with_the_credentials_from_then_on_at_once()
    {
        await using RegistryHarness it = Ready(new FakeAuth { IsBasic = true, User = "ann", Password = "right" }, new Credential("ann", "right"));

        await it.ManifestAsync();
        await it.ManifestAsync();

        Assert.Equal([401, 200, 200], it.Fake.Requests.Select(request => request.Status));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("wrong")]
    public async Task Basic_without_the_right_credentials_is_unauthorized(string? password)
    {
        await using RegistryHarness it = Ready(new FakeAuth { IsBasic = true, User = "ann", Password = "right" }, password is null ? null : new Credential("ann", password));

        Assert.Equal(PullError.Unauthorized, (await RegistryHarness.FailureAsync(() => it.ManifestAsync())).Reason);
        Assert.True(it.Fake.Requests.Count <= 2);
    }

    [Fact]
    public async Task An_identity_token_goes_to_the_realm_in_a_POST_and_nowhere_else()
    {
        await using RegistryHarness it = Ready(new FakeAuth { User = "ann", IdentityToken = "refresh-me" }, Credential.OfUser("<token>", "refresh-me"));

        await it.ManifestAsync();

        SeenRequest asked = Assert.Single(it.Fake.RequestsOf("token"));
        Assert.Equal("POST", asked.Method);
        Assert.Equal("/token", asked.Path);
        Assert.Null(asked["Authorization"]);
        Assert.Equal("client_id=nativepull&service=fake&scope=repository%3Ateam%2Fapp%3Apull&grant_type=refresh_token&refresh_token=refresh-me", asked.Body);
        Assert.All(it.Fake.RequestsOf("registry").Skip(1), request => Assert.Equal("Bearer token-1", request["Authorization"]));
    }

    [Fact]
    public async Task A_realm_that_gives_a_new_identity_token_gets_that_one_next()
    {
        await using RegistryHarness it = Ready(
            new FakeAuth { User = "ann", IdentityToken = "first", TokenAnswer = """{"access_token":"{token}","refresh_token":"second"}""" }, Credential.OfUser("<token>", "first"));
        await it.ManifestAsync();
        it.Fake.ExpireTokens();

        await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.EndsWith("refresh_token=second", it.Fake.RequestsOf("token")[1].Body, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(404)]
    [InlineData(405)]
    public async Task A_realm_that_knows_one_way_only_is_asked_in_that_way(int status)
    {
        await using RegistryHarness byGet = Ready(
            new FakeAuth { User = "<token>", Password = "identity", PostStatus = status }, Credential.OfUser("<token>", "identity"));
        await using RegistryHarness byPost = Ready(new FakeAuth { User = "ann", Password = "p&=ä", GetStatus = status }, new Credential("ann", "p&=ä"));

        await byGet.ManifestAsync();
        await byPost.ManifestAsync();

        Assert.Equal(["POST", "GET"], byGet.Fake.RequestsOf("token").Select(request => request.Method));
        Assert.Equal(["GET", "POST"], byPost.Fake.RequestsOf("token").Select(request => request.Method));
    }

    [Fact]
    public async Task An_identity_token_is_not_carried_along_a_redirect()
    {
        await using RegistryHarness it = Ready(new FakeAuth { User = "ann", IdentityToken = "refresh-me" }, Credential.OfUser("<token>", "refresh-me"));
        it.Fake.Faults.On("token ", new Fault { RedirectTo = it.Fake.StorageUrl + "/thief" });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Contains("not sent after it", failure.Message, StringComparison.Ordinal);
        Assert.Empty(it.Fake.RequestsOf("cdn"));
    }

    [Fact]
    public async Task A_password_is_not_carried_along_a_redirect_of_the_realm_to_another_host()
    {
        await using RegistryHarness it = Ready(new FakeAuth { User = "ann", Password = "right", PostStatus = 404 }, new Credential("ann", "right"));
        it.Fake.Faults.On("token ", new Fault { RedirectTo = it.Fake.StorageUrl + "/data/thief" });

        await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Null(Assert.Single(it.Fake.RequestsOf("cdn"))["Authorization"]);
    }

    [Fact]
    public async Task A_registry_token_is_sent_to_the_registry_itself_and_no_realm_is_asked()
    {
        await using RegistryHarness it = Ready(new FakeAuth(), Credential.OfRegistryToken("mine"));

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal([null, "Bearer mine"], it.Fake.Requests.Select(request => request["Authorization"]));
        Assert.Equal(PullError.Unauthorized, failure.Reason);
        Assert.Contains("a registry token was sent", failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("mine", failure.Sentence, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("2025-12-31T23:59:00Z", 231, 2)]
    [InlineData("2025-12-31T23:59:00Z", 229, 1)]
    [InlineData("2026-01-01T01:00:00.123456789Z", 289, 1)]
    [InlineData("yesterday", 289, 1)]
    public async Task A_token_that_was_old_when_it_came_ends_sooner(string issuedAt, int seconds, int tokens)
    {
        // the fake's Date is 2026-01-01T00:00:00Z
        await using RegistryHarness it = Ready(new FakeAuth { TokenAnswer = $$"""{"token":"{token}","expires_in":300,"issued_at":"{{issuedAt}}"}""" });
        await it.ManifestAsync();
        it.Time.Advance(TimeSpan.FromSeconds(seconds));

        await it.ManifestAsync();

        Assert.Equal(tokens, it.Fake.RequestsOf("token").Count);
    }

    [Fact]
    public async Task Signing_in_alone_asks_for_no_scope_and_tells_whether_it_was_asked()
    {
        await using RegistryHarness it = Ready(new FakeAuth { User = "ann", Password = "right" }, new Credential("ann", "right"));
        await using var open = new RegistryHarness();

        Assert.True(await it.Client.SignInAsync(RegistryHarness.Token));
        Assert.False(await open.Client.SignInAsync(RegistryHarness.Token));
        Assert.Equal("/token?service=fake", Assert.Single(it.Fake.RequestsOf("token")).Path);
    }

    [Theory]
    [InlineData("Negotiate")]
    [InlineData("Bearer service=\"no realm\"")]
    [InlineData("Bearer realm=\"file:///etc/passwd\"")]
    [InlineData("Bearer realm=\"http://[\"")]
    public async Task A_challenge_without_a_known_way_in_is_unauthorized(string challenge)
    {
        await using RegistryHarness it = Ready(new FakeAuth { Challenge = challenge });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Unauthorized, failure.Reason);
        Assert.Empty(it.Fake.RequestsOf("token"));
    }

    [Fact]
    public async Task A_password_is_not_sent_to_a_realm_without_TLS()
    {
        await using RegistryHarness it = Ready(new FakeAuth { Challenge = "Bearer realm=\"http://192.0.2.1/token\"" }, new Credential("ann", "right"));

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(PullError.Denied, failure.Reason);
        Assert.Contains("without TLS", failure.Message, StringComparison.Ordinal);
    }

    private static RegistryHarness Ready(FakeAuth auth, Credential? credential = null)
    {
        var it = new RegistryHarness(
            new FakeRegistry { Auth = auth },
            options => credential is null ? options : options with { Credentials = Credentials.Of(credential) });
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        return it;
    }
}
