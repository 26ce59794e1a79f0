using System.Diagnostics;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>The executable with mirrors in all three notations.</summary>
public sealed class MirrorPullTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();

    [Theory]
    [InlineData("--mirror")]
    [InlineData("--hosts-dir")]
    [InlineData("--registries-conf")]
    public async Task A_mirror_that_dies_in_the_middle_is_left_and_the_same_part_goes_on_elsewhere(string notation)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeRegistry mirror = new FakeRegistry().Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", Content(1, 900_000))).Layer(("g", Content(2, 900_000))).Publish().Reference();
        FakeImage copy = new FakeImage(mirror, "a/b").Layer(("f", Content(1, 900_000))).Layer(("g", Content(2, 900_000))).Publish();
        Fault stall = mirror.Faults.On($"blobs/{copy.Layers[0].Digest}", new Fault { StallAfter = 500_000 });
        using System.Diagnostics.Process running = Binary.Start(
            null, Binary.File, ["pull", reference, "--jobs", "1", "--json", "--extract", "--store", directory["store"], .. Notation(notation, registry, mirror)]);

        await stall.Reached;
        await mirror.DisposeAsync();
        BinaryResult result = await Binary.FinishAsync(running);

        result.Expect(0);
        Assert.Contains("\"warnings\":[\"mirror ", result.Out, StringComparison.Ordinal);
        SeenRequest rest = Assert.Single(registry.Requests, request => request.Path.Contains(copy.Layers[0].Digest.ToString(), StringComparison.Ordinal));
        Assert.StartsWith("bytes=", rest["Range"], StringComparison.Ordinal);
        Assert.NotEqual("bytes=0-", rest["Range"]);
        Assert.DoesNotContain("retry", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_layer_that_a_mirror_gives_wrong_is_fetched_anew_from_the_registry()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        mirror.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { WrongByteAt = 1000 }, times: 100);

        BinaryResult result = await Binary.RunAsync(
            ["pull", image.Reference(), "--json", "--rootfs", directory["root"], "--store", directory["store"], .. Notation("--mirror", registry, mirror)]);

        Assert.Contains("has another digest", result.Expect(0).Out, StringComparison.Ordinal);
        Assert.Equal(Content(1, 900_000), await File.ReadAllBytesAsync(directory["root/f"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task What_is_extracted_while_a_mirror_gives_it_wrong_is_extracted_anew()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        // long broken for who unpacks it before it is known to be wrong
        Fault fault = new() { WrongByteAt = 12, StallAfter = 800_000 };
        mirror.Faults.On($"blobs/{image.Layers[0].Digest}", fault, times: 100);

        using Process running = Binary.Start(
            null,
            Binary.File,
            ["pull", image.Reference(), "--json", "--extract", "--rootfs", directory["root"], "--layers", directory["layers"], "--store", directory["store"], .. Notation("--mirror", registry, mirror)]);
        await fault.Reached;
        await Task.Delay(500, TestContext.Current.CancellationToken);
        fault.Release();
        BinaryResult result = await Binary.FinishAsync(running);

        Assert.Contains("has another digest", result.Expect(0).Out, StringComparison.Ordinal);
        Assert.Equal(Content(1, 900_000), await File.ReadAllBytesAsync(directory["root/f"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_blocked_registry_and_an_unclear_short_name_are_refused()
    {
        await File.WriteAllTextAsync(
            directory["registries.conf"],
            "unqualified-search-registries = [\"one.example\", \"two.example\"]\n[[registry]]\nlocation = \"blocked.example\"\nblocked = true\n",
            TestContext.Current.CancellationToken);
        Dictionary<string, string> environment = new() { ["CONTAINERS_REGISTRIES_CONF"] = directory["registries.conf"] };

        BinaryResult blocked = await Binary.RunAsync(environment, "pull", "blocked.example/a/b", "--store", directory["store"]);
        BinaryResult unclear = await Binary.RunAsync(environment, "pull", "alpine", "--store", directory["store"]);
        await File.AppendAllTextAsync(directory["registries.conf"], "x = ?\n", TestContext.Current.CancellationToken);
        BinaryResult broken = await Binary.RunAsync(environment, "pull", "other.example/a/b", "--store", directory["store"]);

        Assert.Contains("blocked by", blocked.Expect(7).Error, StringComparison.Ordinal);
        Assert.Contains("one.example or two.example", unclear.Expect(2).Error, StringComparison.Ordinal);
        Assert.Contains("registries.conf, line 5: ", broken.Expect(2).Error, StringComparison.Ordinal);
    }

    /// <summary>
    /// hosts.toml ({s}: the registry, {m}: the mirror), the repository as the mirror has it, what it is asked for with a tag's manifest, and the path before a
    /// blob's digest there.
    /// </summary>
    public static TheoryData<string, string, bool, string> Hosts => new()
    {
        { "server = \"{s}\"\n[host.\"{m}\"]\ncapabilities = [\"pull\"]", "a/b", false, "/v2/a/b/blobs/" },
        { "server = \"{s}\"\n[host.\"{m}\"]", "a/b", false, "/v2/a/b/blobs/" },
        { "[host.\"{m}\"]\ncapabilities = [\"pull\", \"resolve\"]", "a/b", true, "/v2/a/b/blobs/" },
        { "[host.\"{m}/v2/mirrored\"]\noverride_path = true", "mirrored/a/b", false, "/v2/mirrored/a/b/blobs/" },
        { "[host.\"{m}\"]\n[host.\"{m}\".header]\nX-Key = [\"k1\"]", "a/b", false, "/v2/a/b/blobs/" },
    };

    [Theory]
    [MemberData(nameof(Hosts))]
    public async Task Hosts_toml_says_who_is_asked_for_what_and_how(string toml, string repository, bool resolves, string path)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", Content(1, 1000))).Publish(withIndex: true);
        new FakeImage(mirror, repository).Layer(("f", Content(1, 1000))).Publish(withIndex: true);
        Directory.CreateDirectory(directory["_default"]);
        await File.WriteAllTextAsync(
            directory["_default/hosts.toml"],
            toml.Replace("{s}", registry.Url, StringComparison.Ordinal).Replace("{m}", mirror.Url, StringComparison.Ordinal),
            TestContext.Current.CancellationToken);

        (await Binary.RunAsync("pull", image.Reference(), "--store", directory["store"], "--hosts-dir", directory.Path)).Expect(0);

        Assert.Equal(resolves ? 0 : 1, registry.Requests.Count); // the tag, and nothing else
        Assert.Equal(resolves, mirror.Requests.Any(request => request.Path.Contains("/manifests/latest", StringComparison.Ordinal)));
        Assert.Contains(mirror.Requests, request => request.Path == $"{path}{image.Layers[0].Digest}?ns={Uri.EscapeDataString(registry.Address)}");
        Assert.All(mirror.Requests, request => Assert.EndsWith($"?ns={Uri.EscapeDataString(registry.Address)}", request.Path, StringComparison.Ordinal));
        Assert.All(mirror.Requests, request => Assert.Equal(toml.Contains("header", StringComparison.Ordinal) ? "k1" : null, request["X-Key"]));
        Assert.All(registry.Requests, request => Assert.Null(request["X-Key"]));
    }

    [Theory]
    [InlineData("ca = \"ca.pem\"", 0)]
    [InlineData("skip_verify = true", 0)]
    [InlineData("", 1)]
    [InlineData("ca = \"ca.pem\"\nclient = [[\"c.pem\", \"k.pem\"]]", 0)]
    public async Task A_mirror_has_its_own_trust_and_certificate(string settings, int warnings)
    {
        using FakeCertificates authority = new();
        bool wantsClient = settings.Contains("client", StringComparison.Ordinal);
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry { Certificate = authority.Issue(), ClientIssuer = wantsClient ? "CN=fake root" : null }.Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", Content(1, 1000))).Publish();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 1000))).Publish();
        (string certificate, string key) = authority.IssueClient("EC");
        Directory.CreateDirectory(directory[registry.Address]);
        foreach ((string file, string content) in new[] { ("hosts.toml", $"[host.\"{mirror.Url}\"]\n{settings}"), ("ca.pem", authority.RootPem), ("c.pem", certificate), ("k.pem", key) })
        {
            await File.WriteAllTextAsync(directory[$"{registry.Address}/{file}"], content, TestContext.Current.CancellationToken);
        }

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", directory["store"], "--hosts-dir", directory.Path);

        Assert.Equal(warnings, result.Expect(0).Error.Split('\n').Count(line => line.Contains("warning: mirror ", StringComparison.Ordinal)));
        Assert.Equal(warnings > 0, mirror.Requests.Count == 0);
    }

    /// <summary>registries.conf ({s}: the registry, {m}: the mirror), what is asked for, the repository at the registry, and whether the mirror resolves the tag.</summary>
    public static TheoryData<string, string, string, bool?> Confs => new()
    {
        { "[[registry]]\nprefix = \"short.example/team\"\nlocation = \"{s}/real\"", "short.example/team/app", "real/app", null },
        { "[[registry]]\nprefix = \"*.example\"\nlocation = \"{s}\"", "any.example/team/app", "team/app", null },
        { "[[registry]]\nlocation = \"{s}/\"\n[[registry.mirror]]\nlocation = \"{m}/\"", "{s}/a/b", "a/b", false },
        { "[[registry]]\nprefix = \"*.example:5000\"\nlocation = \"{s}\"", "any.example:5000/team/app", "team/app", null },
        { "[[registry]]\nlocation = \"{s}\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"{m}\"\npull-from-mirror = \"all\"", "{s}/a/b", "a/b", false },
        { "[[registry]]\nlocation = \"{s}\"\n[[registry.mirror]]\nlocation = \"{m}\"\npull-from-mirror = \"all\"", "{s}/a/b", "a/b", true },
        { "[[registry]]\nlocation = \"{s}\"\n[[registry.mirror]]\nlocation = \"{m}\"\npull-from-mirror = \"digest-only\"", "{s}/a/b", "a/b", false },
    };

    [Theory]
    [MemberData(nameof(Confs))]
    public async Task Registries_conf_says_where_a_name_is_and_what_mirrors_are_for(string conf, string reference, string repository, bool? resolves)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, repository).Layer(("f", Content(1, 1000))).Publish();
        new FakeImage(mirror, repository).Layer(("f", Content(1, 1000))).Publish();
        string Filled(string text) => text.Replace("{s}", registry.Address, StringComparison.Ordinal).Replace("{m}", mirror.Address, StringComparison.Ordinal);
        await File.WriteAllTextAsync(directory["registries.conf"], Filled(conf), TestContext.Current.CancellationToken);

        BinaryResult result = await Binary.RunAsync("pull", Filled(reference), "--store", directory["store"], "--registries-conf", directory["registries.conf"]);

        Assert.Equal($"{Filled(reference)}@{image.Digest}\n", result.Expect(0).Out);
        Assert.Equal(resolves is true ? 0 : resolves is false ? 1 : 3, registry.Requests.Count);
        Assert.Equal(resolves is true, mirror.Requests.Any(request => request.Path.Contains("/manifests/latest", StringComparison.Ordinal)));
    }

    /// <summary>What a mirror answers to everything, and how often it is asked for five blobs and the manifest.</summary>
    public static TheoryData<string, int> Useless => new()
    {
        { "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 6 },
        { "HTTP/1.1 401 U\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", 6 },
        { "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 6 },
        { "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 6 },
        { "HTTP/1.1 429 Slow\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n", 6 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno\n", 6 },
        { "HTTP/1.1 307 T\r\nLocation: ftp://x/\r\nContent-Length: 0\r\n\r\n", 1 },
        { "nonsense\r\n\r\n", 1 },
        { "", 1 }, // silence
    };

    [Theory]
    [MemberData(nameof(Useless))]
    public async Task A_mirror_that_is_of_no_use_costs_one_request_each_and_a_dead_one_one_in_all(string answer, int requests)
    {
        int asked = 0;
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 4; i++)
        {
            image.Layer(("f", Content(i, 1000)));
        }

        image.Publish(withIndex: true);
        await using RawServer mirror = new(async (_, stream, token) =>
        {
            Interlocked.Increment(ref asked);
            await stream.WriteAsync(System.Text.Encoding.ASCII.GetBytes(answer), token);
            await Task.Delay(answer.Length == 0 ? Timeout.Infinite : 0, token);
        });

        BinaryResult result = await Binary.RunAsync(
            "pull", image.Reference(), "--store", directory["store"], "--mirror", $"{registry.Address}=http://{mirror.Address}", "--stall-timeout", "1s", "--connect-timeout", "1s", "--json");

        result.Expect(0);
        Assert.Equal(requests, asked);
        Assert.Equal(7, registry.Requests.Count); // index, manifest, config and four layers, each once
        Assert.DoesNotContain("try 2", result.Error, StringComparison.Ordinal);
    }

    /// <summary>Whether the mirror's own name has an entry, and whether the registry's user is given with the call.</summary>
    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public async Task A_mirror_gets_the_credentials_of_its_own_name_and_no_others(bool isKept, bool isGiven)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = "ann", Password = "s3cret" } }.Start();
        await using FakeRegistry mirror = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = "bob", Password = "m1rror" } }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", Content(1, 1000))).Publish().Reference();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 1000))).Publish();
        string own = isKept ? $",\"{mirror.Address}\":{{\"username\":\"bob\",\"password\":\"m1rror\"}}" : "";
        await File.WriteAllTextAsync(
            directory["auth.json"], $"{{\"auths\":{{\"{registry.Address}\":{{\"username\":\"ann\",\"password\":\"s3cret\"}}{own}}}}}", TestContext.Current.CancellationToken);
        string[] who = isGiven ? ["--username", "ann", "--password-stdin"] : [];

        using Process pull = Binary.Start(
            null, Binary.File, ["pull", reference, "--store", directory["store"], "--authfile", directory["auth.json"], "--mirror", $"{registry.Address}={mirror.Url}", .. who], input: isGiven ? "s3cret" : "");
        (await Binary.FinishAsync(pull)).Expect(0);

        string ann = Convert.ToBase64String("ann:s3cret"u8), bob = Convert.ToBase64String("bob:m1rror"u8);
        Assert.All(mirror.Requests, request => Assert.DoesNotContain(ann, request["Authorization"] ?? "", StringComparison.Ordinal));
        Assert.All(registry.Requests, request => Assert.DoesNotContain(bob, request["Authorization"] ?? "", StringComparison.Ordinal));
        Assert.Equal(isKept && !isGiven, mirror.Requests.Any(request => request.Status == 200));
    }

    [Theory]
    [InlineData("insecure = true", 0)]
    [InlineData("", 1)]
    public async Task An_insecure_mirror_may_have_any_certificate(string setting, int warnings)
    {
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry { Certificate = authority.Issue("another.name") }.Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", Content(1, 1000))).Publish().Reference();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 1000))).Publish();
        await File.WriteAllTextAsync(
            directory["registries.conf"], $"[[registry]]\nlocation = \"{registry.Address}\"\n[[registry.mirror]]\nlocation = \"{mirror.Address}\"\n{setting}\n", TestContext.Current.CancellationToken);

        BinaryResult result = await Binary.RunAsync("pull", reference, "--store", directory["store"], "--registries-conf", directory["registries.conf"]);

        Assert.Equal(warnings, result.Expect(0).Error.Split('\n').Count(line => line.Contains("warning: mirror ", StringComparison.Ordinal)));
        Assert.Equal(warnings == 0, mirror.Requests.Count > 0);
    }

    /// <summary>What a mirror that may say what tags mean has in place of the tag.</summary>
    [Theory]
    [InlineData("text/html", "<html>please sign in</html>")]
    [InlineData("application/vnd.oci.image.manifest.v1+json", "<html>please sign in</html>")]
    [InlineData("application/json", "{\"error\":\"no\"}")]
    public async Task What_a_mirror_gives_for_a_tag_and_is_no_manifest_is_asked_for_elsewhere(string type, string content)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", Content(1, 1000))).Publish();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 1000))).Publish();
        mirror.Faults.On("manifests/latest", new Fault { Status = 200, Body = content, Headers = [("Content-Type", type)] });
        await HostsTomlAsync(registry, $"[host.\"{mirror.Url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", directory["store"], "--hosts-dir", directory.Path);

        Assert.Contains("what it gave for latest is no manifest", result.Expect(0).Error, StringComparison.Ordinal);
        Assert.Equal("/v2/a/b/manifests/latest", Assert.Single(registry.Requests).Path.Split('?')[0]);
    }

    [Fact]
    public async Task A_mirror_that_knows_no_HEAD_says_by_GET_what_a_tag_means()
    {
        FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", Content(1, 1000))).Publish().Reference();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 1000))).Publish();
        await HostsTomlAsync(registry, $"[host.\"{mirror.Url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        string[] pull = ["pull", reference, "--store", directory["store"], "--hosts-dir", directory.Path, "--retries", "1"];
        (await Binary.RunAsync(pull)).Expect(0);
        await registry.DisposeAsync();
        mirror.Faults.On("manifests/latest", new Fault { Status = 405 });

        (await Binary.RunAsync(pull)).Expect(0);

        Assert.Equal(["HEAD", "GET"], mirror.Requests.TakeLast(2).Select(request => request.Method));
    }

    [Fact]
    public async Task A_mirror_that_asks_for_another_token_each_time_is_left()
    {
        int asked = 0;
        string address = "";
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Layer(("g", [2])).Publish(withIndex: true);
        await using RawServer mirror = new(async (line, stream, token) =>
        {
            // at first each of two tokens is asked for and refused; both are kept, and from then on the other is always the one that is wanted
            int number = line.Contains("/token", StringComparison.Ordinal) ? 0 : Interlocked.Increment(ref asked);
            string scope = number is 3 or 4 || (number > 4 && number % 2 == 0) ? "two" : "one";
            string answer = number == 0
                ? $"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{{\"token\":\"{(line.Contains("two", StringComparison.Ordinal) ? "two" : "one")}\"}}"
                : $"HTTP/1.1 401 U\r\nWWW-Authenticate: Bearer realm=\"http://{address}/token\",scope=\"{scope}\"\r\nContent-Length: 0\r\n\r\n";
            await stream.WriteAsync(System.Text.Encoding.ASCII.GetBytes(answer), token);
        });
        address = mirror.Address;

        BinaryResult result = await Binary.RunAsync(
            "pull", image.Reference(), "--store", directory["store"], "--jobs", "1", "--mirror", $"{registry.Address}=http://{mirror.Address}", "--deadline", "60s");

        result.Expect(0);
        Assert.InRange(asked, 5, 16); // at most four for each of manifest, config and two layers
    }

    [Fact]
    public async Task A_mirror_that_no_packet_reaches_is_left_after_one_connect_time_out()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: network namespaces");
        using NetworkNamespace network = new();
        network.Ip("link set lo up");
        network.AddBlackHole();
        await using FakeRegistry registry = network.Run(() => new FakeRegistry().Start());
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Layer(("g", [2])).Publish(withIndex: true);

        using Process pull = network.Run(() => Binary.Start(null, Binary.File,
            ["pull", image.Reference(), "--store", directory["store"], "--mirror", $"{registry.Address}=http://198.51.100.9:5000", "--connect-timeout", "300ms"]));
        BinaryResult result = (await Binary.FinishAsync(pull)).Expect(0);

        Assert.Single(result.Error.Split('\n'), line => line.Contains("198.51.100.9", StringComparison.Ordinal));
        Assert.Contains("no connection within 0.3 s; going on without it", result.Error, StringComparison.Ordinal);
    }

    /// <summary>Files of settings that make no sense.</summary>
    public static TheoryData<string, string> Nonsense => new()
    {
        { "hosts.toml", "[host.\"[::1\"]" },
        { "hosts.toml", "[host.\"\"]" },
        { "hosts.toml", "[host.\":\"]" },
        { "hosts.toml", "[host.\"a b\"]" },
        { "hosts.toml", "[host.\"http://\"]" },
        { "hosts.toml", "server = \"http://[\"" },
        { "registries.conf", "[[registry]]\nlocation = \"{s}\"\n[[registry.mirror]]\nlocation = \"[::1\"" },
        { "registries.conf", "[[registry]]\nlocation = \"{s}\"\n[[registry.mirror]]\nlocation = \"a b\"" },
        { "registries.conf", "[[registry]]\nlocation = \"{s}\"\n[[registry.mirror]]\nlocation = \"https://m\"" },
        { "registries.conf", "[[registry]]\nlocation = \"{s}\"\n[[registry.mirror]]\nlocation = \"user@m\"" },
        { "registries.conf", "[[registry]]\nlocation = \"{s}\"\n[[registry.mirror]]\nlocation = \"m:99999\"" },
        { "registries.conf", "[[registry]]\nlocation = \"http://{s}\"\nblocked = true" }, // would block nothing
        { "registries.conf", "[[registry]]\nprefix = \"{s}/a/b:latest\"\nlocation = \"{s}/a/b\"\nblocked = true" },
        { "--mirror", "=" },
        { "--mirror", "{s}=http://[" },
        { "--mirror", "{s}=ftp://m" },
    };

    [Theory]
    [MemberData(nameof(Nonsense))]
    public async Task Settings_that_make_no_sense_are_a_wrong_call(string where, string text)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        text = text.Replace("{s}", registry.Address, StringComparison.Ordinal);
        string file = where == "hosts.toml" ? $"{registry.Address}/hosts.toml" : "registries.conf";
        Directory.CreateDirectory(directory[registry.Address]);
        await File.WriteAllTextAsync(directory[file], text, TestContext.Current.CancellationToken);
        string[] option = where switch
        {
            "hosts.toml" => ["--hosts-dir", directory.Path],
            "registries.conf" => ["--registries-conf", directory[file]],
            _ => [where, text],
        };

        BinaryResult result = await Binary.RunAsync(["pull", image.Reference(), "--store", directory["store"], .. option]);

        Assert.Contains(where, result.Expect(2).Error, StringComparison.Ordinal);
        Assert.Empty(registry.Requests);
    }

    public void Dispose() => directory.Dispose();

    private static byte[] Content(int seed, int length) => FakeContent.Generated(seed, length).ToArray();

    private async Task HostsTomlAsync(FakeRegistry registry, string content)
    {
        Directory.CreateDirectory(directory[registry.Address]);
        await File.WriteAllTextAsync(directory[$"{registry.Address}/hosts.toml"], content, TestContext.Current.CancellationToken);
    }

    private string[] Notation(string notation, FakeRegistry registry, FakeRegistry mirror)
    {
        Directory.CreateDirectory(directory[registry.Address]);
        File.WriteAllText(directory[$"{registry.Address}/hosts.toml"], $"server = \"{registry.Url}\"\n\n[host.\"{mirror.Url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        File.WriteAllText(directory["registries.conf"], $"[[registry]]\nlocation = \"{registry.Address}\"\n[[registry.mirror]]\nlocation = \"{mirror.Address}\"\ninsecure = true\n");
        return notation switch
        {
            "--mirror" => [notation, $"{registry.Address}={mirror.Url}"],
            "--hosts-dir" => [notation, directory.Path],
            _ => [notation, directory["registries.conf"]],
        };
    }
}
