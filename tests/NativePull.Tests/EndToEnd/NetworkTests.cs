using System.Diagnostics;
using System.Text.Json;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Names with several addresses, addresses nobody answers at, machines without a network: each in a network namespace of its own.</summary>
public sealed class NetworkTests
{
    private const string NeedsRoot = "needs root: network and mount namespaces";

    // One try of a time that is too short for waiting out the dead address and then trying the other.
    private static readonly string[] OneTry = ["--plain-http", "--retries", "1", "--connect-timeout", "3s"];

    /// <summary>What /etc/hosts says of registry.test, the last address being where the registry is.</summary>
    public static TheoryData<string, string[]> Hosts => new()
    {
        { "::1 refuses", ["::1", "127.0.0.1"] },
        { "the first of several is dead", ["198.51.100.9", "127.0.0.1"] },
        { "IPv6 goes nowhere", ["2001:db8:1::9", "127.0.0.1"] },
        { "there is no route for IPv6", ["2001:db8:2::9", "127.0.0.1"] },
        { "a route says unreachable", ["2001:db8:3::9", "203.0.113.9", "127.0.0.1"] },
        { "all of it", ["2001:db8:3::9", "2001:db8:2::9", "2001:db8:1::9", "203.0.113.9", "198.51.100.9", "::1", "127.0.0.1"] },
    };

    [Theory]
    [MemberData(nameof(Hosts))]
    public async Task A_name_is_reached_by_whichever_of_its_addresses_answers(string trouble, string[] addresses)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, NeedsRoot);
        Assert.NotEmpty(trouble);
        using NetworkNamespace network = Network();
        await using FakeRegistry registry = network.Run(() => new FakeRegistry().Start());
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        using TemporaryDirectory store = new();
        await File.WriteAllLinesAsync(store["hosts"], addresses.Select(address => $"{address} registry.test"), TestContext.Current.CancellationToken);

        using Process pull = network.Run(() => Binary.Start(null, "unshare",
            ["--mount", "sh", "-c", $"mount --bind {store["hosts"]} /etc/hosts && exec \"$@\"", "sh", Binary.File, "pull", $"registry.test:{registry.Port}/a/b", "--store", store["s"], .. OneTry]));

        Assert.Equal($"registry.test:{registry.Port}/a/b@{image.Digest}\n", (await Binary.FinishAsync(pull)).Expect(0).Out);
    }

    [Fact]
    public async Task Resolve_needs_no_resolver_and_may_name_several_addresses()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, NeedsRoot);
        using NetworkNamespace network = Network();
        await using FakeRegistry registry = network.Run(() => new FakeRegistry().Start());
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        using TemporaryDirectory store = new();
        string at = $"no.such.name:{registry.Port}";

        using Process pull = network.Run(() => Binary.Start(null, Binary.File,
            ["pull", $"{at}/a/b", "--store", store["s"], "--resolve", $"{at}:198.51.100.9", "--resolve", $"{at}:[::1]", "--resolve", $"{at}:127.0.0.1", .. OneTry]));

        Assert.Equal($"{at}/a/b@{image.Digest}\n", (await Binary.FinishAsync(pull)).Expect(0).Out);
    }

    [Fact]
    public async Task The_failure_says_what_each_address_did()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, NeedsRoot);
        using NetworkNamespace network = Network();
        using TemporaryDirectory store = new();

        using Process pull = network.Run(() => Binary.Start(null, Binary.File,
            ["pull", "r.test:9/a", "--store", store["s"], "--resolve", "r.test:9:127.0.0.1,r.test:9:2001:db8:3::9", .. OneTry]));
        string error = (await Binary.FinishAsync(pull)).Expect(5).Error;

        Assert.Contains("127.0.0.1: Connection refused", error, StringComparison.Ordinal);
        Assert.Contains("2001:db8:3::9: ", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_network_that_comes_up_late_is_waited_for_without_counting_tries()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, NeedsRoot);
        using NetworkNamespace network = new();
        network.Ip("link set lo up");
        await using FakeRegistry registry = network.Run(() => new FakeRegistry().Start());
        network.Ip("link set lo down", "addr del 127.0.0.1/8 dev lo"); // up again, it has it again
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        using TemporaryDirectory store = new();

        using Process pull = network.Run(() => Binary.Start(null, Binary.File,
            ["pull", $"r.test:{registry.Port}/a/b", "--store", store["s"], "--resolve", $"r.test:{registry.Port}:127.0.0.1", "--wait-network", "10m", .. OneTry]));
        string line;
        do
        {
            line = await pull.StandardError.ReadLineAsync(TestContext.Current.CancellationToken) ?? throw new InvalidOperationException("it did not wait");
        }
        while (!line.Contains("waiting for a network", StringComparison.Ordinal));
        network.Ip("link set lo up");

        Assert.Equal($"r.test:{registry.Port}/a/b@{image.Digest}\n", (await Binary.FinishAsync(pull)).Expect(0).Out);
    }

    [Fact]
    public async Task A_mirror_that_seemed_dead_is_asked_again_when_the_network_is_there()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, NeedsRoot);
        using NetworkNamespace network = new();
        network.Ip("link set lo up");
        await using FakeRegistry mirror = network.Run(() => new FakeRegistry().Start());
        network.Ip("link set lo down", "addr del 127.0.0.1/8 dev lo"); // up again, it has it again
        FakeImage image = new FakeImage(mirror, "a/b").RandomLayer("f", 1000).Publish();
        using TemporaryDirectory store = new();

        // the registry itself is out of reach for good
        using Process pull = network.Run(() => Binary.Start(null, Binary.File,
            ["pull", $"r.test/a/b@{image.Digest}", "--store", store["s"], "--mirror", $"r.test=http://m.test:{mirror.Port}", "--resolve", $"m.test:{mirror.Port}:127.0.0.1", "--wait-network", "10m", .. OneTry]));
        string line;
        do
        {
            line = await pull.StandardError.ReadLineAsync(TestContext.Current.CancellationToken) ?? throw new InvalidOperationException("it did not wait");
        }
        while (!line.Contains("waiting for a network", StringComparison.Ordinal));
        network.Ip("link set lo up");

        (await Binary.FinishAsync(pull)).Expect(0);
    }

    [Theory]
    [InlineData("r.test:9:127.0.0.1", "cannot connect")]
    [InlineData("other.test:9:127.0.0.1", "the name r.test cannot be resolved")]
    public async Task Without_the_option_a_machine_without_a_network_is_given_up_after_its_tries(string resolve, string problem)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, NeedsRoot);
        using NetworkNamespace network = new();
        using TemporaryDirectory store = new();

        using Process pull = network.Run(() => Binary.Start(null, Binary.File, ["pull", "r.test:9/a", "--store", store["s"], "--resolve", resolve, .. OneTry]));

        Assert.Contains(problem, (await Binary.FinishAsync(pull)).Expect(5).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_deadline_ends_the_pull_with_5_and_keeps_the_part()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 4_000_000).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 1_500_000 });
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"], "--json", "--deadline", "2s");
        stall.Release();

        Assert.Contains("\"reason\":\"deadline\"", result.Expect(5).Out, StringComparison.Ordinal);
        Assert.Equal(1_500_000, new FileInfo(store[$"s/parts/sha256-{image.Layers[0].Digest.Hex}"]).Length);
        Assert.Equal(["s"], Directory.GetFileSystemEntries(store.Path).Select(Path.GetFileName));
    }

    [Fact]
    public async Task A_deadline_ends_a_pull_whose_archive_nobody_reads()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 4_000_000).Publish();
        using TemporaryDirectory store = new();
        using Process pull = Binary.Start(null, Binary.File, ["pull", image.Reference(), "--store", store["s"], "--tar", "-", "--deadline", "1s"]);

        // standard output is a pipe that is full after 64 KiB
        string error = await pull.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await pull.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.EndsWith("not done within the 1 s of --deadline; parts are kept\n", error, StringComparison.Ordinal);
        Assert.Equal(5, pull.ExitCode);
    }

    [Theory]
    [InlineData("pull")]
    [InlineData("tags")]
    [InlineData("inspect")]
    [InlineData("login")]
    public async Task A_deadline_that_nothing_could_cancel_names_what_it_was_about(string command)
    {
        using TemporaryDirectory scratch = new();
        (await Binary.ProgramAsync("mkfifo", scratch["fifo"])).Expect(0);
        string subject = command == "login" ? "r.test:9" : "r.test:9/a/b";
        // to open a pipe that nobody writes to is for ever
        string[] options = command == "login" ? ["--username", "me", "--password-stdin", "--ca-file", scratch["fifo"], "--resolve", "r.test:9:127.0.0.1"] : ["--registry-token-file", scratch["fifo"]];

        using Process process = Binary.Start(null, Binary.File, [command, subject, .. options, "--store", scratch["s"], "--json", "--deadline", "1s"], input: "x");
        BinaryResult result = (await Binary.FinishAsync(process)).Expect(5);

        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.Equal(subject, json.RootElement.GetProperty("reference").GetString());
        Assert.Equal("deadline", json.RootElement.GetProperty("error").GetProperty("reason").GetString());
        Assert.EndsWith("not done within the 1 s of --deadline; parts are kept\n", result.Error, StringComparison.Ordinal);
    }

    private static NetworkNamespace Network()
    {
        NetworkNamespace network = new();
        network.Ip("link set lo up");
        network.AddBlackHole();
        network.Ip("-6 route add unreachable 2001:db8:3::/48", "route add unreachable 203.0.113.0/24");
        return network;
    }
}
