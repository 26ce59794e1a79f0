using System.Diagnostics;
using System.Globalization;
using System.Text;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Who the executable says it is, to whom, and how: every way in there is, from the files and flags down to the requests.</summary>
public sealed class SignInTests : IDisposable
{
    private const string Password = "s3cret:wörd";

    private readonly TemporaryDirectory directory = new();

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>The WWW-Authenticate header (a line's end in it begins another), {realm} and {scope} to be filled in.</summary>
    public static TheoryData<string, string> Challenges => new()
    {
        { "as the specification has it", "Bearer realm=\"{realm}\",service=\"fake\",scope=\"{scope}\"" },
        { "case and spaces", "bEARER  Realm = \"{realm}\" , SERVICE=\"fake\" ,Scope=\"{scope}\"" },
        { "no quotes", "Bearer realm={realm},service=fake,scope={scope}" },
        { "single quotes", "Bearer realm='{realm}',service='fake',scope='{scope}'" },
        { "no scope", "Bearer realm=\"{realm}\",service=\"fake\"" },
        { "an empty scope and no service", "Bearer realm=\"{realm}\",scope=\"\"" },
        { "several schemes in one header", "Negotiate, Digest nonce=\"a,b\", Basic realm=\"x\", Bearer realm=\"{realm}\",scope=\"{scope}\", NTLM TlRMTVNT==" },
        { "several headers", "Basic realm=\"x\"\r\nWWW-Authenticate: Bearer realm=\"{realm}\",scope=\"{scope}\"" },
        { "escaped quotes", "Bearer realm=\"{realm}\",x=\"a\\\"b, Basic realm=c\",scope=\"{scope}\"" },
        { "a realm with a query", "Bearer realm=\"{realm}?a=b\",scope=\"{scope}\"" },
        { "an error beside it", "Bearer realm=\"{realm}\",scope=\"{scope}\",error=\"insufficient_scope\"" },
        { "a quote without end", "Bearer scope=\"{scope}\",realm=\"{realm}" },
        { "semicolons", "Bearer realm=\"{realm}\"; scope=\"{scope}\"" },
    };

    [Theory]
    [MemberData(nameof(Challenges))]
    public async Task Every_shape_of_challenge_is_answered(string what, string challenge)
    {
        Assert.NotEmpty(what);
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { User = "ann", Password = Password, Challenge = challenge } }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        AuthFile("auth.json", (registry.Address, "ann"));

        (await Binary.RunAsync("pull", reference, "--store", directory["s"], "--authfile", directory["auth.json"])).Expect(0);

        SeenRequest asked = Assert.Single(registry.RequestsOf("token"));
        Assert.Contains("scope=repository%3Aa%2Fb%3Apull", asked.Path, StringComparison.Ordinal);
        Assert.Null(registry.Requests[0]["Authorization"]); // nobody at first
        AssertPasswordWentOnlyTo("token", registry);
    }

    public static TheoryData<string> Answers =>
    [
        "{\"token\":\"{token}\"}",
        "{\"access_token\":\"{token}\"}",
        "{\"token\":\"\",\"access_token\":\"{token}\"}",
        "{\"Token\":\"{token}\",\"expires_in\":300,\"issued_at\":\"2026-01-01T00:00:00Z\"}",
        "{\"token\":\"{token}\",\"expires_in\":\"300\",\"issued_at\":\"yesterday\"}",
        "{\"token\":\"{token}\",\"expires_in\":\"soon\",\"issued_at\":7}",
        "{\"token\":\"{token}\",\"expires_in\":null}",
        "{\"token\":\"{token}\",\"expires_in\":-1}",
        "{\"token\":\"{token}\",\"expires_in\":1e300}",
    ];

    [Theory]
    [MemberData(nameof(Answers))]
    public async Task Every_shape_of_token_is_taken(string answer)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { TokenAnswer = answer } }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();

        (await Binary.RunAsync("pull", reference, "--store", directory["s"])).Expect(0);

        Assert.Single(registry.Requests, request => request.Status == 401);
    }

    /// <summary>The fake's clock stands at 2026-01-01T00:00:00Z.</summary>
    [Theory]
    [InlineData("\"expires_in\":1", 3)]
    [InlineData("\"expires_in\":300,\"issued_at\":\"2025-12-31T23:55:01Z\"", 3)]
    [InlineData("\"expires_in\":300,\"issued_at\":\"2026-01-01T00:00:00Z\"", 1)]
    public async Task A_token_is_renewed_before_it_ends(string life, int atLeast)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { TokenAnswer = "{\"token\":\"{token}\"," + life + "}" } }.Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 12; i++)
        {
            image.Layer(FakeContent.Generated(i, 400_000));
        }

        image.Publish();
        // at least three seconds in all
        await using ShapingProxy slow = new(registry.Port) { RateOfAll = 1_500_000 };

        (await Binary.RunAsync("pull", $"{slow.Address}/a/b", "--store", directory["s"], "--jobs", "1", "--connections", "1")).Expect(0);

        Assert.InRange(registry.RequestsOf("token").Count, atLeast, atLeast == 1 ? 1 : 14);
        Assert.Single(registry.Requests, request => request.Status == 401);
    }

    [Fact]
    public async Task An_identity_token_goes_to_the_realm_by_POST_and_nowhere_else()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { User = "nobody", IdentityToken = "s3cret-identity", GetStatus = 401 }, HasStorage = true }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        await File.WriteAllTextAsync(directory["auth.json"], "{\"auths\":{\"" + registry.Address + "\":{\"auth\":\"" + Encoded("ann:") + "\",\"identitytoken\":\"s3cret-identity\"}}}", Token);

        BinaryResult result = await Binary.RunAsync("pull", reference, "--store", directory["s"], "--authfile", directory["auth.json"], "-v", "--json");

        result.Expect(0);
        SeenRequest asked = Assert.Single(registry.RequestsOf("token"));
        Assert.Equal(("POST", "/token"), (asked.Method, asked.Path));
        Assert.Equal(
            ["client_id=nativepull", "grant_type=refresh_token", "refresh_token=s3cret-identity", "scope=repository%3Aa%2Fb%3Apull", "service=fake"],
            asked.Body.Split('&').Order(StringComparer.Ordinal));
        Assert.DoesNotContain("s3cret", result.Out + result.Error, StringComparison.Ordinal);
        Assert.All(registry.Requests.Where(request => request.Server != "token"), request => Assert.DoesNotContain("s3cret", request["Authorization"] ?? "", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(404)]
    [InlineData(405)]
    public async Task A_realm_that_knows_only_POST_gets_the_password_by_POST(int status)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { User = "ann", Password = Password, GetStatus = status } }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        AuthFile("auth.json", (registry.Address, "ann"));

        (await Binary.RunAsync("pull", reference, "--store", directory["s"], "--authfile", directory["auth.json"])).Expect(0);

        Assert.Equal(["GET", "POST"], registry.RequestsOf("token").Select(request => request.Method));
    }

    /// <summary>In the order in which they are looked at: the variable, its value, the file. $D is the test's directory.</summary>
    private static readonly (string Variable, string Value, string File)[] Places =
    [
        ("REGISTRY_AUTH_FILE", "$D/named.json", "named.json"),
        ("XDG_RUNTIME_DIR", "$D/run", "run/containers/auth.json"),
        ("XDG_CONFIG_HOME", "$D/xdg", "xdg/containers/auth.json"),
        ("HOME", "$D/home", "home/.config/containers/auth.json"),
        ("DOCKER_CONFIG", "$D/docker", "docker/config.json"),
        ("HOME", "$D/home", "home/.docker/config.json"),
    ];

    public static TheoryData<int> First => [.. Enumerable.Range(0, Places.Length)];

    [Theory]
    [MemberData(nameof(First))]
    public async Task Files_are_looked_at_in_their_order(int first)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = $"user{first}", Password = Password } }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        Dictionary<string, string> environment = [];
        for (int i = first; i < Places.Length; i++)
        {
            environment[Places[i].Variable] = Places[i].Value.Replace("$D", directory.Path, StringComparison.Ordinal);
            AuthFile(Places[i].File, (registry.Address, $"user{i}"));
        }

        (await Binary.RunAsync(environment, "pull", reference, "--store", directory["s"])).Expect(0);
    }

    [Fact]
    public async Task A_flag_wins_over_the_files_and_anonymous_is_nobody()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = "flag", Password = Password } }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        AuthFile("auth.json", (registry.Address, "file"));
        string[] pull = ["pull", reference, "--store", directory["s"], "--authfile", directory["auth.json"]];

        using Process flag = Binary.Start(null, Binary.File, [.. pull, "--username", "flag", "--password-stdin"], input: Password + "\n");
        (await Binary.FinishAsync(flag)).Expect(0);
        int before = registry.Requests.Count;
        BinaryResult nobody = await Binary.RunAsync([.. pull, "--policy", "always", "--anonymous"]);

        Assert.Contains("no credentials were sent", nobody.Expect(4).Error, StringComparison.Ordinal);
        Assert.All(registry.Requests.Skip(before), request => Assert.Null(request["Authorization"]));
    }

    /// <summary>A file with what {host} is to be told; {auth} is ann's entry, and {helper} a helper that knows her. Then the exit code.</summary>
    public static TheoryData<string, int> FilesAsTheyAre => new()
    {
        { "\uFEFF{\"auths\":{\"{host}\":{\"auth\":\"{auth}\"}}}", 0 }, // as PowerShell writes it
        { "{\"auths\":{\"{host}\":{\"auth\":\"{auth}\\n\"}}}", 0 }, // as base64(1) ends it
        { "{\"auths\":{\"https://{host}/v2/\":{\"auth\":\"{auth}\"}}}", 0 },
        { "{\"auths\":{\"{host}/\":{\"username\":\"ann\",\"password\":\"s3cret:wörd\"}}}", 0 },
        { "{\"auths\":{\"broken.example\":{\"auth\":\"!\"},\"null.example\":null,\"{host}\":{\"auth\":\"{auth}\"}},\"x\":[]}", 0 },
        { "{\"auths\":{\"{host}\":{\"auth\":\"!\"}}}", 8 },
        { "{\"auths\":{\"{host}\":{\"auth\":\"YW5u\"}}}", 8 },
        { "{\"auths\":{\"{host}\":{\"registrytoken\":\"one\\r\\nX: two\"}}}", 8 },
        { "{\"auths\":{\"{host}\":{\"registrytoken\":\"tökən\"}}}", 8 },
        { "{\"credsStore\":\"{helper}\"}", 0 },
        { "{\"credsStore\":\"{helper}\",\"credHelpers\":{\"{host}\":\"\"}}", 4 }, // for this host no helper
        { "{\"auths\":{\"{host}\":{}},\"credsStore\":\"{helper}\"}", 0 }, // what docker login leaves of an entry
    };

    [Theory]
    [MemberData(nameof(FilesAsTheyAre))]
    public async Task A_file_is_read_as_programs_and_people_have_written_it(string content, int code)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = "ann", Password = Password } }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        // with the same mark before its answer
        await File.WriteAllTextAsync(directory["docker-credential-knows"], $"#!/bin/sh\nprintf '\\357\\273\\277{{\"Username\":\"ann\",\"Secret\":\"{Password}\"}}'\n", Token);
        File.SetUnixFileMode(directory["docker-credential-knows"], (UnixFileMode)0b111_101_101);
        await File.WriteAllTextAsync(
            directory["auth.json"],
            content.Replace("{host}", registry.Address, StringComparison.Ordinal).Replace("{auth}", Encoded($"ann:{Password}"), StringComparison.Ordinal).Replace("{helper}", "knows", StringComparison.Ordinal),
            Token);
        Dictionary<string, string> environment = new() { ["PATH"] = $"{directory.Path}:{Environment.GetEnvironmentVariable("PATH")}" };

        BinaryResult result = await Binary.RunAsync(environment, "pull", reference, "--store", directory["s"], "--authfile", directory["auth.json"]);

        Assert.Equal(code == 8, result.Expect(code).Error.Contains($"{directory["auth.json"]}: malformed auth file: ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("team/app", "app")]
    [InlineData("team/app/deep", "app")]
    [InlineData("team/other", "team")]
    [InlineData("team2/app", "host")]
    [InlineData("x", "host")]
    public async Task The_longest_key_wins(string repository, string user)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = user, Password = Password } }.Start();
        string reference = new FakeImage(registry, repository).Layer(("f", [1])).Publish().Reference();
        AuthFile("auth.json", (registry.Address, "host"), ($"{registry.Address}/team/app", "app"), ($"{registry.Address}/team", "team"), ($"{registry.Address}/tea", "no"));

        (await Binary.RunAsync("pull", reference, "--store", directory["s"], "--authfile", directory["auth.json"])).Expect(0);
    }

    [Fact]
    public async Task A_registry_that_lets_everybody_in_is_told_nothing_and_its_helper_is_not_asked()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        AuthFile("auth.json", (registry.Address, "ann"));

        (await Binary.RunAsync("pull", reference, "--store", directory["s"], "--authfile", directory["auth.json"])).Expect(0);

        Assert.All(registry.Requests, request => Assert.Null(request["Authorization"]));
    }

    [Theory]
    [InlineData(true, 4)]
    [InlineData(false, 0)]
    public async Task A_password_goes_to_no_realm_without_TLS_that_is_another_machine(bool hasPassword, int code)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth() }.Start();
        int port = new Uri(registry.TokenUrl).Port;
        registry.Faults.On("manifests/", new Fault { Status = 401, Headers = [("WWW-Authenticate", $"Bearer realm=\"http://realm.test:{port}/token\",scope=\"repository:a/b:pull\"")] });
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        AuthFile("auth.json", (registry.Address, "ann"));

        BinaryResult result = await Binary.RunAsync(
            ["pull", reference, "--store", directory["s"], "--resolve", $"realm.test:{port}:127.0.0.1", .. hasPassword ? ["--authfile", directory["auth.json"]] : Array.Empty<string>()]);

        result.Expect(code);
        if (hasPassword)
        {
            Assert.Contains("asks for the credentials of user ann without TLS, which is refused", result.Error, StringComparison.Ordinal);
            Assert.Empty(registry.RequestsOf("token"));
        }
    }

    [Fact]
    public async Task A_password_goes_to_a_realm_with_TLS_on_another_machine_and_its_token_to_the_registry_alone()
    {
        using FakeCertificates authority = new();
        await File.WriteAllTextAsync(directory["ca.pem"], authority.RootPem, Token);
        FakeAuth auth = new() { User = "ann", Password = Password };
        await using FakeRegistry registry = new FakeRegistry { Auth = auth, Certificate = authority.Issue("*.place.test"), HasStorage = true }.Start();
        int realm = new Uri(registry.TokenUrl).Port;
        registry.Faults.On("manifests/", new Fault { Status = 401, Headers = [("WWW-Authenticate", $"Bearer realm=\"https://realm.place.test:{realm}/token\",scope=\"repository:a/b:pull\"")] });
        new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        registry.StorageAddress = $"storage.place.test:{registry.StoragePort}";
        string at = $"registry.place.test:{registry.Port}";
        AuthFile("auth.json", (at, "ann"));

        BinaryResult result = await Binary.RunAsync(
            "pull", $"{at}/a/b", "--store", directory["s"], "--authfile", directory["auth.json"], "--ca-file", directory["ca.pem"],
            "--resolve", $"{at}:127.0.0.1", "--resolve", $"realm.place.test:{realm}:127.0.0.1", "--resolve", $"{registry.StorageAddress}:127.0.0.1");

        result.Expect(0);
        Assert.Single(registry.RequestsOf("token"));
        AssertPasswordWentOnlyTo("token", registry);
        Assert.All(registry.RequestsOf("cdn"), request => Assert.Null(request["Authorization"]));
    }

    /// <summary>An option, what it names in the test's directory, the exit code, and what is said after the path.</summary>
    public static TheoryData<string, string, int, string> Files => new()
    {
        { "--registry-token-file", "absent", 2, ": no such file of a registry token" },
        { "--registry-token-file", "directory", 8, ": the registry token cannot be read: " },
        { "--registry-token-file", "empty", 2, ": not one token" },
        { "--authfile", "absent", 2, ": no such auth file" },
        { "--authfile", "directory", 8, ": the auth file cannot be read: " },
        { "--authfile", "blank", 8, ": malformed auth file: it is empty" },
        { "--registries-conf", "absent", 2, ": cannot be read: " },
        { "--hosts-dir", "absent", 2, ": no such directory of hosts.toml files" },
    };

    [Theory]
    [MemberData(nameof(Files))]
    public async Task A_file_that_is_none_is_named_in_one_sentence(string option, string file, int code, string said)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth() }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish().Reference();
        Directory.CreateDirectory(directory["directory"]);
        await File.WriteAllTextAsync(directory["empty"], "", Token);
        await File.WriteAllTextAsync(directory["blank"], "\n", Token);

        BinaryResult result = await Binary.RunAsync("pull", reference, "--store", directory["s"], option, directory[file], "-q");

        Assert.StartsWith($"nativepull: {directory[file]}{said}", result.Expect(code).Error, StringComparison.Ordinal);
        Assert.DoesNotContain(".: ", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(".\n", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/dev/null")]
    [InlineData("empty")]
    public async Task An_empty_auth_file_is_one_without_entries(string file)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = "ann", Password = Password } }.Start();
        await File.WriteAllTextAsync(directory["empty"], "", Token);
        AuthFile("home/.docker/config.json", (registry.Address, "ann"));

        BinaryResult result = await Binary.RunAsync(
            new Dictionary<string, string> { ["HOME"] = directory["home"], ["REGISTRY_AUTH_FILE"] = Path.Combine(directory.Path, file) }, "pull", $"{registry.Address}/a/b", "--store", directory["s"]);

        Assert.Contains("no credentials were sent", result.Expect(4).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_helper_that_hangs_costs_its_ten_seconds_and_a_warning()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth() }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", [1])).Layer(("g", [2])).Publish().Reference();
        await File.WriteAllTextAsync(directory["docker-credential-hangs"], "#!/bin/sh\nsleep 1000\n", Token);
        File.SetUnixFileMode(directory["docker-credential-hangs"], (UnixFileMode)0b111_101_101);
        await File.WriteAllTextAsync(directory["config.json"], """{"credsStore":"hangs"}""", Token);
        Dictionary<string, string> environment = new() { ["PATH"] = $"{directory.Path}:{Environment.GetEnvironmentVariable("PATH")}", ["DOCKER_CONFIG"] = directory.Path };

        BinaryResult result = (await Binary.RunAsync(environment, "pull", reference, "--store", directory["s"])).Expect(0);

        Assert.Single(result.Error.Split('\n'), line => line.Contains("warning: docker-credential-hangs did not answer within 10 s", StringComparison.Ordinal));
    }

    [Fact]
    public async Task No_secret_is_in_an_argument_list_while_it_is_used()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { User = "ann", Password = Password } }.Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1_000_000).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 1000 });

        using Process pull = Binary.Start(null, Binary.File, ["pull", image.Reference(), "--store", directory["s"], "--username", "ann", "--password-stdin", "-v"], input: Password);
        await stall.Reached;
        string shown = await File.ReadAllTextAsync($"/proc/{pull.Id.ToString(CultureInfo.InvariantCulture)}/cmdline", Token);
        stall.Release();
        BinaryResult result = (await Binary.FinishAsync(pull)).Expect(0);

        Assert.Contains("--password-stdin", shown, StringComparison.Ordinal);
        foreach (string secret in new[] { "s3cret", Encoded($"ann:{Password}"), "token-1" })
        {
            Assert.DoesNotContain(secret, shown + result.Out + result.Error, StringComparison.Ordinal);
        }
    }

    public void Dispose() => directory.Dispose();

    private void AuthFile(string file, params (string Key, string User)[] entries)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(directory[file])!);
        File.WriteAllText(directory[file], $"{{\"auths\":{{{string.Join(',', entries.Select(entry => $"\"{entry.Key}\":{{\"auth\":\"{Encoded($"{entry.User}:{Password}")}\"}}"))}}}}}");
    }

    private static void AssertPasswordWentOnlyTo(string server, FakeRegistry registry) => Assert.All(
        registry.Requests.Where(request => request["Authorization"]?.Contains(Encoded($"ann:{Password}"), StringComparison.Ordinal) == true),
        request => Assert.Equal(server, request.Server));

    private static string Encoded(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));
}
