using NativePull.Registry;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Registry;

/// <summary>Helpers are real programs here: small shell scripts on a search path of the test's own.</summary>
public sealed class CredentialHelperTests : IDisposable
{
    private const string Answer = """echo '{"ServerURL":"x","Username":"ann","Secret":"s3cret"}'""";

    private readonly TemporaryDirectory directory = new();
    private readonly Warnings warnings = new();

    public static TheoryData<string, string, string> Keys => new()
    {
        { """{"credHelpers":{"h.example":"fake"}}""", "h.example", "h.example" },
        { """{"credHelpers":{"https://index.docker.io/v1/":"fake"}}""", "docker.io", "https://index.docker.io/v1/" },
        { """{"credHelpers":{"h.example/team":"fake"}}""", "h.example", "h.example/team" },
        { """{"credsStore":"fake"}""", "h.example:5000", "h.example:5000" },
        { """{"credsStore":"fake"}""", "docker.io", "https://index.docker.io/v1/" },
        { """{"credsStore":"other","credHelpers":{"h.example":"fake"}}""", "h.example", "h.example" },
        { """{"credsStore":"fake","auths":{"h.example":{}}}""", "h.example", "h.example" },
    };

    [Theory]
    [MemberData(nameof(Keys))]
    public async Task A_helper_is_asked_for_the_server_on_its_standard_input(string file, string registry, string server)
    {
        Helper("fake", $"""test "$1" = get && test "$#" = 1 && test "$(cat)" = "{server}" && {Answer}""");

        Account account = await FindAsync(file, registry);

        Assert.Equal(("ann", "s3cret"), (account.Credential?.Username, account.Credential?.Password));
        Assert.Empty(warnings);
    }

    [Fact]
    public async Task The_user_token_means_an_identity_token()
    {
        Helper("fake", """echo '{"Username":"<token>","Secret":"s3cret"}'""");

        Assert.Equal("s3cret", (await FindAsync("""{"credsStore":"fake"}""")).Credential?.IdentityToken);
    }

    [Fact]
    public async Task An_entry_of_the_file_itself_needs_no_helper()
    {
        Helper("fake", $"touch {directory["asked"]}; {Answer}");

        Account account = await FindAsync("""{"credsStore":"fake","auths":{"h.example":{"username":"bob","password":"b"}}}""");

        Assert.Equal("bob", account.Credential?.Username);
        Assert.False(File.Exists(directory["asked"]));
    }

    public static TheoryData<string, string?, string?> Failures => new()
    {
        { "missing", null, "is not on PATH" },
        { "not executable as a program", "-", "cannot be run" },
        { "broken", "echo oh no: s3cret; exit 3", "failed with exit code 3" },
        { "no JSON", "echo s3cret", "no usable answer" },
        { "killed", "kill -9 $$", "no usable answer" },
        { "without a secret", """echo '{"Username":"ann"}'""", "no usable answer" },
        { "endless", "while :; do echo s3crets3crets3crets3crets3crets3crets3crets3crets3crets3crets3cret; done", "said more than" },
        { "it knows nobody", "echo credentials not found in native keychain; exit 1", null },
        { "it knows nobody, by empty words", """echo '{"Username":"","Secret":""}'""", null },
        { "it floods its standard error", "head -c 1000000 /dev/zero >&2; echo 'credentials not found'; exit 1", null },
    };

    [Theory]
    [MemberData(nameof(Failures))]
    public async Task A_helper_that_fails_is_one_warning_and_then_nobody(string what, string? script, string? warning)
    {
        if (script == "-")
        {
            File.WriteAllText(directory["docker-credential-fake"], "no program");
            File.SetUnixFileMode(directory["docker-credential-fake"], (UnixFileMode)0b111_101_101);
        }
        else if (script is not null)
        {
            Helper("fake", script);
        }

        Credentials credentials = Of("""{"credsStore":"fake"}""");
        Account first = await credentials.FindAsync("h.example", "team/app", TestContext.Current.CancellationToken);
        Account second = await credentials.FindAsync("h.example", "team/other", TestContext.Current.CancellationToken);

        Assert.Null(first.Credential);
        Assert.Equal(first, second);
        Assert.Equal(warning is null ? 0 : 1, warnings.Count);
        Assert.All(warnings, text => Assert.Contains(warning!, text, StringComparison.Ordinal));
        Assert.True(warnings.TrueForAll(text => !text.Contains("s3cret", StringComparison.Ordinal)), what);
    }

    [Fact]
    public async Task A_helper_that_hangs_is_killed_together_with_what_it_started()
    {
        Helper("fake", $"sleep 1000 & echo $! >{directory["child"]}; echo $$ >{directory["self"]}; sleep 1000");

        Account account = await FindAsync("""{"credsStore":"fake"}""", limit: TimeSpan.FromSeconds(1));

        Assert.Contains("did not answer within 1 s", account.Trouble, StringComparison.Ordinal);
        Assert.Contains("did not answer", Assert.Single(warnings), StringComparison.Ordinal);
        Assert.All([directory["child"], directory["self"]], file => Assert.True(IsGone(File.ReadAllText(file).Trim()), file));
    }

    [Theory]
    [InlineData("../fake")]
    [InlineData("fake get")]
    [InlineData("/bin/sh")]
    public async Task A_name_that_is_none_is_not_run(string name)
    {
        Account account = await FindAsync($$"""{"credsStore":"{{name}}"}""");

        Assert.Contains("not the name of a credential helper", account.Trouble, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_next_file_is_looked_at_when_a_helper_gives_nobody()
    {
        File.WriteAllText(directory["first.json"], """{"credsStore":"missing"}""");
        File.WriteAllText(directory["second.json"], """{"auths":{"h.example":{"username":"bob","password":"b"}}}""");
        var credentials = Credentials.FromFiles([new AuthFile(directory["first.json"], true), new AuthFile(directory["second.json"], true)], Settings(), warnings);

        Assert.Equal("bob", (await credentials.FindAsync("h.example", "a/b", TestContext.Current.CancellationToken)).Credential?.Username);
    }

    [Fact]
    public async Task Many_that_ask_at_once_start_one_helper()
    {
        Helper("fake", $"echo x >>{directory["asked"]}; sleep 0.1; {Answer}");
        Credentials credentials = Of("""{"credsStore":"fake"}""");

        Account[] accounts = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => credentials.FindAsync("h.example", $"a/{i}", TestContext.Current.CancellationToken)));

        Assert.All(accounts, account => Assert.Equal("ann", account.Credential?.Username));
        Assert.Single(File.ReadAllLines(directory["asked"]));
    }

    [Fact]
    public async Task A_question_that_was_given_up_is_asked_again_by_the_next()
    {
        Helper("fake", $"if [ -e {directory["second"]} ]; then {Answer}; else touch {directory["begun"]}; sleep 1000; fi");
        Credentials credentials = Of("""{"credsStore":"fake"}""");
        using var givenUp = new CancellationTokenSource();
        Task<Account> first = credentials.FindAsync("h.example", "a/1", givenUp.Token);
        while (!File.Exists(directory["begun"]))
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        File.WriteAllText(directory["second"], "");
        await givenUp.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        Account second = await credentials.FindAsync("h.example", "a/2", TestContext.Current.CancellationToken);

        Assert.Equal("ann", second.Credential?.Username);
    }

    public void Dispose() => directory.Dispose();

    private static bool IsGone(string process)
    {
        // what its parent has not yet waited for is dead all the same
        for (int i = 0; i < 500; i++)
        {
            string status = $"/proc/{process}/status";
            if (!File.Exists(status) || File.ReadAllText(status).Contains("\nState:\tZ", StringComparison.Ordinal))
            {
                return true;
            }

            Thread.Sleep(10);
        }

        return false;
    }

    private void Helper(string name, string script)
    {
        string file = directory[$"docker-credential-{name}"];
        File.WriteAllText(file, "#!/bin/sh\n" + script + "\n");
        File.SetUnixFileMode(file, (UnixFileMode)0b111_101_101);
    }

    private HelperSettings Settings(TimeSpan? limit = null) => new($"relative::{directory.Path}", ["PATH=/usr/bin:/bin"]) { TimeLimit = limit ?? TimeSpan.FromSeconds(20) };

    private Credentials Of(string file, TimeSpan? limit = null)
    {
        File.WriteAllText(directory["config.json"], file);
        return Credentials.FromFiles([new AuthFile(directory["config.json"], true)], Settings(limit), warnings);
    }

    private Task<Account> FindAsync(string file, string registry = "h.example", TimeSpan? limit = null) =>
        Of(file, limit).FindAsync(registry, "team/app", TestContext.Current.CancellationToken);

    private sealed class Warnings : List<string>, IProgress<string>
    {
        public void Report(string value)
        {
            lock (this)
            {
                Add(value);
            }
        }
    }
}
