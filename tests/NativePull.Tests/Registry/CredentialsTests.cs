using System.Text;
using NativePull.Registry;

namespace NativePull.Tests.Registry;

public sealed class CredentialsTests : IDisposable
{
    private readonly string directory = Directory.CreateTempSubdirectory("nativepull-auth-").FullName;

    public static TheoryData<string, string, string, string?> Entries => new()
    {
        { Entry("ghcr.io", "ann:secret"), "ghcr.io", "a/b", "ann:secret" },
        { Entry("ghcr.io", "ann:with:colons:"), "ghcr.io", "a/b", "ann:with:colons:" },
        { Entry("ghcr.io", "ann:pä ss"), "ghcr.io", "a/b", "ann:pä ss" },
        { Entry("ghcr.io", "ann:padded\0\0"), "ghcr.io", "a/b", "ann:padded" },
        { Entry("ghcr.io", "ann:"), "ghcr.io", "a/b", "ann:" },
        { Entry("GHCR.io", "ann:secret"), "ghcr.io", "a/b", "ann:secret" },
        { Entry("https://ghcr.io", "ann:secret"), "ghcr.io", "a/b", "ann:secret" },
        { Entry("https://ghcr.io/v1/", "ann:secret"), "ghcr.io", "a/b", "ann:secret" },
        { Entry("https://ghcr.io/v2", "ann:secret"), "ghcr.io", "a/b", "ann:secret" },
        { Entry("http://127.0.0.1:5000/", "ann:secret"), "127.0.0.1:5000", "a/b", "ann:secret" },
        { Entry("127.0.0.1:5000", "ann:secret"), "127.0.0.1:5001", "a/b", null },
        { Entry("ghcr.io", "ann:secret"), "evil.ghcr.io", "a/b", null },
        { Entry("https://index.docker.io/v1/", "ann:secret"), "docker.io", "library/x", "ann:secret" },
        { Entry("index.docker.io/v1/", "ann:secret"), "docker.io", "library/x", "ann:secret" },
        { Entry("docker.io", "ann:secret"), "docker.io", "library/x", "ann:secret" },
        { Entry("registry-1.docker.io", "ann:secret"), "docker.io", "library/x", "ann:secret" },
        { Entry("docker.io", "ann:secret"), "registry-1.docker.io", "library/x", "ann:secret" }, // as a mirror's setting has it
        { Entry("docker.io/library", "ann:secret"), "docker.io", "library/x", "ann:secret" },
        { Entry("docker.io/library", "ann:secret"), "docker.io", "other/x", null },
        { Entry("ghcr.io/team", "ann:secret"), "ghcr.io", "team/app", "ann:secret" },
        { Entry("ghcr.io/team", "ann:secret"), "ghcr.io", "teams/app", null },
        { Entry("ghcr.io/team/app", "ann:secret"), "ghcr.io", "team/app", "ann:secret" },
        { Entry("ghcr.io/team/app", "ann:secret"), "ghcr.io", "team/app/deep", "ann:secret" },
        { Entry("ghcr.io/team/app", "ann:secret"), "ghcr.io", "team", null },
        { """{"auths":{"ghcr.io":{"username":"ann","password":"secret"}}}""", "ghcr.io", "a/b", "ann:secret" },
        { """{"auths":{"ghcr.io":{"auth":"","username":"ann","password":"secret"}}}""", "ghcr.io", "a/b", "ann:secret" },
        { """{"auths":{"ghcr.io":{"auth":"YW5uOnNlY3JldA==","email":"x","username":"bob","password":"other"}}}""", "ghcr.io", "a/b", "ann:secret" },
        { """{"auths":{"ghcr.io":{"auth":"YW5uOnNlY3JldA"}}}""", "ghcr.io", "a/b", "ann:secret" },
        { """{"auths":{"ghcr.io":{}}}""", "ghcr.io", "a/b", null },
        { """{"auths":{"ghcr.io":null}}""", "ghcr.io", "a/b", null },
        { """{"auths":{}}""", "ghcr.io", "a/b", null },
        { """{"auths":null}""", "ghcr.io", "a/b", null },
        { """{"credsStore":"desktop","HttpHeaders":{"a":"b"}}""", "ghcr.io", "a/b", null },
    };

    [Theory]
    [MemberData(nameof(Entries))]
    public async Task An_entry_is_found(string file, string registry, string repository, string? expected)
    {
        Credential? found = await FindAsync(Credentials.FromFiles([new AuthFile(Write("a.json", file), true)]), registry, repository);

        Assert.Equal(expected, found is null ? null : $"{found.Username}:{found.Password}");
    }

    [Fact]
    public async Task The_longest_key_wins_whatever_the_order()
    {
        string file = Write("a.json", """{"auths":{"h":{"auth":"b25lOjE="},"h/a/b":{"auth":"dGhyZWU6Mw=="},"h/a":{"auth":"dHdvOjI="}}}""");
        var credentials = Credentials.FromFiles([new AuthFile(file, true)]);

        foreach ((string repository, string expected) in new[] { ("a/b", "three"), ("a/b/c", "three"), ("a/x", "two"), ("x", "one") })
        {
            Assert.Equal(expected, (await FindAsync(credentials, "h", repository))!.Username);
        }
    }

    [Fact]
    public async Task The_first_file_with_an_entry_wins_even_by_a_shorter_key()
    {
        AuthFile[] files =
        [
            new(Path.Combine(directory, "absent.json"), false),
            new(Path.Combine(directory, "absent", "deep.json"), false),
            new(Write("other.json", Entry("other", "no:no")), false),
            new(Write("short.json", Entry("h", "first:1")), false),
            new(Write("long.json", Entry("h/a", "second:2")), false),
        ];

        Assert.Equal("first", (await FindAsync(Credentials.FromFiles(files), "h", "a"))!.Username);
    }

    [Fact]
    public async Task A_file_behind_the_one_that_answers_is_not_read()
    {
        AuthFile[] files = [new(Write("good.json", Entry("h", "ann:1")), false), new(Write("bad.json", "{"), false)];
        var credentials = Credentials.FromFiles(files);

        Assert.Equal("ann", (await FindAsync(credentials, "h", "a"))!.Username);
        await Assert.ThrowsAsync<PullException>(() => FindAsync(credentials, "other", "a"));
    }

    [Theory]
    [InlineData("\n")]
    [InlineData("{")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("""{"auths":[]}""")]
    [InlineData("""{"auths":{"ghcr.io":{"auth":"not base64!"}}}""")]
    [InlineData("""{"auths":{"ghcr.io":{"auth":"c2VjcmV0"}}}""")]
    [InlineData("""{"auths":{"ghcr.io":{"auth":{"secret":1}}}}""")]
    public async Task A_malformed_file_is_told_by_name_without_its_secrets(string content)
    {
        string file = Write("a.json", content);

        PullException failure = await Assert.ThrowsAsync<PullException>(() => FindAsync(Credentials.FromFiles([new AuthFile(file, false)]), "ghcr.io", "a"));

        Assert.Equal(PullError.Machine, failure.Reason);
        Assert.Contains(file, failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", failure.Sentence, StringComparison.Ordinal);
        Assert.DoesNotContain("c2VjcmV0", failure.Sentence, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_missing_file_is_a_failure_only_where_it_was_named()
    {
        string absent = Path.Combine(directory, "absent.json");

        Assert.Null(await FindAsync(Credentials.FromFiles([new AuthFile(absent, false)]), "h", "a"));
        PullException failure = await Assert.ThrowsAsync<PullException>(() => FindAsync(Credentials.FromFiles([new AuthFile(absent, true)]), "h", "a"));
        Assert.Equal(PullError.Usage, failure.Reason);
        Assert.Contains(absent, failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Anonymous_is_nobody_and_an_explicit_user_is_one_everywhere()
    {
        Assert.Null(await FindAsync(Credentials.Anonymous, "h", "a"));
        Assert.Equal("ann", (await FindAsync(Credentials.Of(new Credential("ann", "1")), "any", "where"))!.Username);
    }

    [Fact]
    public void A_credential_as_text_has_no_secret()
    {
        Assert.Equal("user ann", new Credential("ann", "secret").ToString());
        Assert.Equal("an identity token", Credential.OfUser("<token>", "secret").ToString());
        Assert.Equal("a registry token", Credential.OfRegistryToken("secret").ToString());
        Assert.DoesNotContain("secret", new Account(Credential.OfUser("<token>", "secret"), null).ToString(), StringComparison.Ordinal);
    }

    public static TheoryData<string, string?, string?> Tokens => new()
    {
        { """{"auths":{"h":{"identitytoken":"secret"}}}""", "secret", null },
        { """{"auths":{"h":{"auth":"MDAwMDo=","identitytoken":"secret"}}}""", "secret", null },
        { """{"auths":{"h":{"auth":"PHRva2VuPjpzZWNyZXQ="}}}""", "secret", null },
        { """{"auths":{"h":{"username":"<token>","password":"secret"}}}""", "secret", null },
        { """{"auths":{"h":{"registrytoken":"secret"}}}""", null, "secret" },
    };

    [Theory]
    [MemberData(nameof(Tokens))]
    public async Task Tokens_in_place_of_a_password_are_told_apart(string file, string? identity, string? own)
    {
        Credential? found = await FindAsync(Credentials.FromFiles([new AuthFile(Write("a.json", file), true)]), "h", "a");

        Assert.Equal((identity, own), (found?.IdentityToken, found?.RegistryToken));
    }

    public void Dispose() => Directory.Delete(directory, recursive: true);

    private static async Task<Credential?> FindAsync(Credentials credentials, string registry, string repository) =>
        (await credentials.FindAsync(registry, repository, TestContext.Current.CancellationToken)).Credential;

    private static string Base64(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    private static string Entry(string key, string credential) => "{\"auths\":{\"" + key + "\":{\"auth\":\"" + Base64(credential) + "\"}}}";

    private string Write(string name, string content)
    {
        string file = Path.Combine(directory, name);
        File.WriteAllText(file, content);
        return file;
    }
}
