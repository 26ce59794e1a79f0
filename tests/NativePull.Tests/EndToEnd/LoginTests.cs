using System.Diagnostics;
using System.Globalization;
using System.Text;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Signing in through the executable: login, logout, helpers; and that nothing secret is to be found anywhere afterwards.</summary>
public sealed class LoginTests : IDisposable
{
    private const string Password = "s3cret-pässword";

    private readonly TemporaryDirectory directory = new();

    [Fact]
    public async Task Many_logins_at_the_same_moment_lose_no_entry()
    {
        await using FakeRegistry registry = Private();
        string[] teams = [.. Enumerable.Range(0, 8).Select(number => $"{registry.Address}/team{number}")];

        BinaryResult[] results = await Task.WhenAll(teams.Select(team => RunAsync(null, Password, "login", team, "--username", "ann", "--password-stdin", "--authfile", directory["auth.json"])));

        Assert.All(results, result => result.Expect(0));
        string content = await File.ReadAllTextAsync(directory["auth.json"], TestContext.Current.CancellationToken);
        Assert.All(teams, team => Assert.Contains($"\"{team}\"", content, StringComparison.Ordinal));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(directory["auth.json"]));
        Assert.Equal([directory["auth.json"]], Directory.GetFiles(directory.Path));
    }

    [Fact]
    public async Task What_is_no_file_is_not_replaced_by_one()
    {
        await using FakeRegistry registry = Private();
        (await Binary.ProgramAsync("mkfifo", directory["pipe"])).Expect(0);

        BinaryResult result = await RunAsync(null, Password, "login", registry.Address, "--username", "ann", "--password-stdin", "--authfile", directory["pipe"]);

        Assert.Contains($"{directory["pipe"]}: the auth file cannot be written: it is there and no file", result.Expect(8).Error, StringComparison.Ordinal);
        (await Binary.ProgramAsync("test", "-p", directory["pipe"])).Expect(0);
    }

    [Fact]
    public async Task After_login_a_pull_gets_in_and_after_logout_no_longer()
    {
        await using FakeRegistry registry = Private();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        Dictionary<string, string> environment = new() { ["HOME"] = directory["home"] };
        string[] pull = ["pull", image.Reference(), "--policy", "always", "--store", directory["store"]];

        (await RunAsync(environment, Password + "\n", "login", registry.Address, "--username", "ann", "--password-stdin")).Expect(0);
        string file = directory["home/.config/containers/auth.json"];
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        (await Binary.RunAsync(environment, pull)).Expect(0);
        BinaryResult logout = (await Binary.RunAsync(environment, "logout", registry.Address)).Expect(0);
        BinaryResult refused = (await Binary.RunAsync(environment, pull)).Expect(4);

        Assert.Contains(file, logout.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(registry.Address, await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken), StringComparison.Ordinal);
        Assert.Contains("no credentials were sent", refused.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_wrong_password_is_exit_4_and_nothing_is_written()
    {
        await using FakeRegistry registry = Private();

        BinaryResult result = await RunAsync(null, "wrong", "login", registry.Address, "--username", "ann", "--password-stdin", "--authfile", directory["auth.json"]);

        result.Expect(4);
        Assert.False(File.Exists(directory["auth.json"]));
    }

    public static TheoryData<string, string[]> WrongUsage => new()
    {
        { "no password", ["127.0.0.1:1", "--username", "ann"] },
        { "no user", ["127.0.0.1:1", "--password-stdin"] },
        { "a user with a colon", ["127.0.0.1:1", "--password-stdin", "--username", "a:b"] },
        { "an empty password", ["127.0.0.1:1", "--password-stdin", "--username", "ann"] },
        { "a path that is no registry", ["team/app", "--password-stdin", "--username", "ann"] },
        { "a word", ["registry", "--password-stdin", "--username", "ann"] },
    };

    [Theory]
    [MemberData(nameof(WrongUsage))]
    public async Task Login_without_what_it_needs_is_exit_2(string what, string[] arguments)
    {
        BinaryResult result = await RunAsync(null, "\n", ["login", .. arguments, "--authfile", directory["auth.json"]]);

        result.Expect(2);
        Assert.True(result.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length == 1, what);
    }

    [Theory]
    [InlineData("login")]
    [InlineData("pull")]
    public async Task A_password_that_does_not_come_is_waited_for_until_the_deadline(string command)
    {
        (await Binary.ProgramAsync("mkfifo", directory["fifo"])).Expect(0);
        string call = $"exec {Binary.File} {command} 127.0.0.1:1{(command == "pull" ? "/a/b" : "")} --username ann --password-stdin --store {directory["store"]} --deadline 1s --json <>{directory["fifo"]}";

        BinaryResult result = await Binary.ProgramAsync("sh", "-c", call);

        Assert.Contains("\"reference\":\"127.0.0.1:1", result.Expect(5).Out, StringComparison.Ordinal);
        Assert.Contains("\"reason\":\"deadline\"", result.Out, StringComparison.Ordinal);
    }

    /// <summary>What standard input is, and what is said.</summary>
    public static TheoryData<string, string> NoPasswords => new()
    {
        { "</dev/null", "the password is empty" },
        { "<&-", "the password is empty" },
        { "</dev/zero", "more than 65536 bytes on standard input are no password" },
    };

    [Theory]
    [MemberData(nameof(NoPasswords))]
    public async Task Standard_input_that_is_no_password_is_a_wrong_call(string input, string said)
    {
        foreach (string call in new[] { "login 127.0.0.1:1", $"pull 127.0.0.1:1/a/b --store {directory["store"]}" })
        {
            BinaryResult result = await Binary.ProgramAsync("sh", "-c", $"exec {Binary.File} {call} --username ann --password-stdin {input}");

            Assert.Equal($"nativepull: --password-stdin: {said}\n", result.Expect(2).Error);
        }
    }

    [Fact]
    public async Task A_password_that_comes_late_and_in_pieces_is_one()
    {
        await using FakeRegistry registry = Private();
        string script = $"(sleep 0.3; printf 's3cret-'; sleep 0.3; printf 'pässword\\r\\n') | {Binary.File} login {registry.Address} --username ann --password-stdin --authfile {directory["auth.json"]}";

        (await Binary.ProgramAsync("sh", "-c", script)).Expect(0);
    }

    [Fact]
    public async Task At_a_terminal_the_password_is_asked_for_and_not_shown()
    {
        await using FakeRegistry registry = Private();
        string command = $"{Binary.File} login {registry.Address} --authfile {directory["auth.json"]} --json";
        string script = $"(sleep 0.5; echo ann; sleep 0.5; printf '%s\\n' '{Password}'; sleep 1) | script -qec '{command}' /dev/null";

        BinaryResult result = (await Binary.ProgramAsync("bash", "-c", script)).Expect(0);

        Assert.Contains("Username: ", result.Out, StringComparison.Ordinal);
        Assert.Contains("Password: ", result.Out, StringComparison.Ordinal);
        Assert.Contains("\"verified\":true", result.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("s3cret", result.Out, StringComparison.Ordinal);
        Assert.True(File.Exists(directory["auth.json"]));
    }

    [Fact]
    public async Task A_pull_through_a_helper_leaves_no_secret_anywhere()
    {
        await using FakeRegistry registry = Private();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 100_000).Publish();
        registry.Faults.On("/blobs/", new Fault { CutAfter = 10, Status = null });
        Helper($$"""
            for process in /proc/[0-9]*; do tr '\0' ' ' <$process/cmdline; done >>{{directory["cmdlines"]}} 2>/dev/null
            echo '{"Username":"ann","Secret":"{{Password}}"}'
            """);

        BinaryResult result = await Binary.RunAsync(WithHelper(), "pull", image.Reference(), "-v", "--json", "--extract", "--store", directory["store"]);

        result.Expect(0);
        string token = "token-1";
        Assert.Contains("Bearer " + token, registry.Requests.Select(request => request["Authorization"]));
        string[] secrets = [Password, Convert.ToBase64String(Encoding.UTF8.GetBytes("ann:" + Password)), token];
        string[] files = Directory.GetFiles(directory["store"], "*", SearchOption.AllDirectories);
        Assert.Contains(files, file => file.EndsWith("nativepull.db", StringComparison.Ordinal));
        Assert.Contains("pull", await File.ReadAllTextAsync(directory["cmdlines"], TestContext.Current.CancellationToken), StringComparison.Ordinal);
        foreach (string secret in secrets)
        {
            Assert.DoesNotContain(secret, result.Out, StringComparison.Ordinal);
            Assert.DoesNotContain(secret, result.Error, StringComparison.Ordinal);
            Assert.All([.. files, directory["cmdlines"]], file => Assert.True(File.ReadAllBytes(file).AsSpan().IndexOf(Encoding.UTF8.GetBytes(secret)) < 0, file));
        }
    }

    [Fact]
    public async Task A_broken_helper_is_a_warning_where_everyone_may_read_and_part_of_the_error_where_not()
    {
        await using FakeRegistry open = new FakeRegistry { Auth = new FakeAuth() }.Start();
        await using FakeRegistry closed = Private();
        string one = new FakeImage(open, "a/b").Layer(("f", [1])).Publish().Reference();
        string other = new FakeImage(closed, "a/b").Layer(("f", [1])).Publish().Reference();
        Helper("exit 7");

        BinaryResult pulled = await Binary.RunAsync(WithHelper(), "pull", one, "--json", "--store", directory["store"]);
        BinaryResult refused = await Binary.RunAsync(WithHelper(), "pull", other, "--json", "--store", directory["store"]);

        Assert.Contains("\"warnings\":[\"docker-credential-fake failed with exit code 7; going on without credentials for", pulled.Expect(0).Out, StringComparison.Ordinal);
        Assert.Single(pulled.Error.Split('\n'), line => line.Contains("docker-credential-fake", StringComparison.Ordinal));
        Assert.Contains("no credentials were sent; docker-credential-fake failed with exit code 7", refused.Expect(4).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task As_pid_1_of_an_empty_root_a_helper_runs_and_the_children_of_others_are_left_alone()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "chroot needs root");
        await using FakeRegistry registry = Private();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        // the first process of the namespace has a child and becomes nativepull; the child dies meanwhile, and must still be there, unreaped, for the helper to see
        File.Copy("/bin/busybox", directory["busybox"]);
        File.Copy(Binary.File, directory["nativepull"]);
        File.CreateSymbolicLink(directory["sh"], "busybox");
        // a shell gives this to what it puts into the background, and ends that at once where it is not there
        Directory.CreateDirectory(directory["dev"]);
        await File.WriteAllBytesAsync(directory["dev/null"], [], TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(directory["config.json"], """{"credsStore":"fake"}""", TestContext.Current.CancellationToken);
        string helper = directory["docker-credential-fake"];
        await File.WriteAllTextAsync(
            helper,
            $$"""
            #!/sh
            /busybox sleep 1
            if /busybox kill -0 "$(/busybox cat /other)"; then echo there >/seen; fi
            echo '{"Username":"ann","Secret":"{{Password}}"}'
            """,
            TestContext.Current.CancellationToken);
        File.SetUnixFileMode(helper, (UnixFileMode)0b111_101_101);
        string start = $"/busybox sleep 0.5 & echo $! >/other; PATH=/ exec /nativepull pull {image.Reference()} --authfile /config.json";

        BinaryResult result = await Binary.ProgramAsync("unshare", "--pid", "--fork", "--kill-child", "chroot", directory.Path, "/busybox", "sh", "-c", start);

        result.Expect(0);
        Assert.True(File.Exists(directory["seen"]), "the child of another was reaped");
    }

    [Fact]
    public async Task A_registry_token_file_is_sent_as_it_is_and_one_secret_is_not_for_two_registries()
    {
        await using FakeRegistry registry = Private();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        await File.WriteAllTextAsync(directory["token"], "my-own-token\n", TestContext.Current.CancellationToken);

        BinaryResult refused = await Binary.RunAsync("pull", image.Reference(), "--registry-token-file", directory["token"], "--store", directory["store"]);
        BinaryResult two = await Binary.RunAsync("pull", image.Reference(), "127.0.0.1:1/a/b", "--registry-token-file", directory["token"], "--store", directory["store"]);

        Assert.DoesNotContain("my-own-token", refused.Expect(4).Error, StringComparison.Ordinal);
        Assert.Contains("Bearer my-own-token", registry.Requests.Select(request => request["Authorization"]));
        two.Expect(2);
    }

    [Fact]
    public async Task Tags_prints_every_page_one_a_line()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), Tags = ["a", "b", "c", "d", "e"], TagPageSize = 2 }.Start();

        BinaryResult lines = await Binary.RunAsync("tags", $"{registry.Address}/a/b");
        BinaryResult json = await Binary.RunAsync("tags", $"{registry.Address}/a/b", "--json", "--last", "c");
        BinaryResult tag = await Binary.RunAsync("tags", $"{registry.Address}/a/b:c");

        Assert.Equal("a\nb\nc\nd\ne\n", lines.Expect(0).Out);
        Assert.Equal($$"""{"schema":1,"name":"{{registry.Address}}/a/b","tags":["d","e"]}""" + "\n", json.Expect(0).Out);
        tag.Expect(2);
    }

    public void Dispose() => directory.Dispose();

    private static FakeRegistry Private() => new FakeRegistry { Auth = new FakeAuth { User = "ann", Password = Password } }.Start();

    private void Helper(string script)
    {
        File.WriteAllText(directory["docker-credential-fake"], "#!/bin/sh\n" + script + "\n");
        File.SetUnixFileMode(directory["docker-credential-fake"], (UnixFileMode)0b111_101_101);
        File.WriteAllText(directory["config.json"], """{"credsStore":"fake"}""");
    }

    private Dictionary<string, string> WithHelper() => new()
    {
        ["PATH"] = string.Create(CultureInfo.InvariantCulture, $"{directory.Path}:{Environment.GetEnvironmentVariable("PATH")}"),
        ["DOCKER_CONFIG"] = directory.Path,
    };

    private static async Task<BinaryResult> RunAsync(Dictionary<string, string>? environment, string input, params string[] arguments)
    {
        using Process process = Binary.Start(environment, Binary.File, arguments, input: input);
        return await Binary.FinishAsync(process);
    }
}
