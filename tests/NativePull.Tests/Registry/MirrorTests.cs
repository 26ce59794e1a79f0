using System.Net;
using System.Net.Sockets;
using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

/// <summary>A registry, and mirrors of it that are dead, poor, broken or lying: what is asked of whom, and that the right bytes come.</summary>
public sealed class MirrorTests : IAsyncDisposable
{
    private const string Repository = RegistryHarness.Repository;
    private static readonly byte[] Index = """{"schemaVersion":2,"manifests":[]}"""u8.ToArray();

    private readonly FakeRegistry mirror = new FakeRegistry { Auth = new FakeAuth() }.Start();
    private readonly FakeRegistry second = new FakeRegistry().Start();
    private readonly List<string> warnings = [];
    private readonly RegistryHarness it;

    public MirrorTests()
    {
        it = new RegistryHarness(change: options => options with
        {
            Warnings = new Synchronous(warnings.Add),
            Mirrors = new MirrorSettings { Given = [(it!.Fake.Address, new Uri(mirror.Url)), (it.Fake.Address, new Uri(second.Url))] },
        });
    }

    [Fact]
    public async Task A_mirror_gives_what_a_digest_names_and_the_registry_what_a_tag_means()
    {
        Descriptor blob = Everywhere(FakeContent.Generated(1, 100_000));
        Descriptor index = it.Fake.AddManifest(Repository, "latest", Index, MediaTypes.OciIndex);
        mirror.AddManifest(Repository, "latest", Index, MediaTypes.OciIndex);

        await it.ManifestAsync();
        await it.ManifestAsync(index.Digest.ToString());
        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));

        Assert.Equal("/v2/team/app/manifests/latest", Assert.Single(it.Fake.Requests).Path);
        Assert.Equal([401, 200, 200], mirror.RequestsOf("registry").Select(request => request.Status));
        Assert.All(mirror.RequestsOf("registry"), request => Assert.EndsWith($"?ns={Uri.EscapeDataString(it.Fake.Address)}", request.Path, StringComparison.Ordinal));
        Assert.Empty(second.Requests);
        Assert.Empty(warnings);
    }

    [Fact]
    public async Task What_a_mirror_does_not_have_is_asked_of_the_next()
    {
        var content = FakeContent.Generated(2, 1000);
        Descriptor blob = it.Fake.AddBlob(Repository, content);
        second.AddBlob(Repository, content);

        Assert.True(blob.Digest.Matches(await it.ReadBlobAsync(blob)));

        Assert.Equal(404, mirror.RequestsOf("registry")[^1].Status);
        Assert.Single(second.Requests);
        Assert.Empty(it.Fake.Requests);
        Assert.Empty(it.Time.Waits);
        Assert.Empty(warnings);
    }

    public static TheoryData<string, object> BrokenBodies => new()
    {
        { "cut", new Fault { CutAfter = 30_000 } },
        { "reset", new Fault { CutAfter = 30_000, Reset = true } },
        { "short by its own account", new Fault { MissingBytes = 70_000 } },
        { "a wrong length", new Fault { ContentLength = 99_999 } },
        { "a wrong range", new Fault { ContentRange = "bytes 5-99999/100000", OnlyRanges = true } },
    };

    [Theory]
    [MemberData(nameof(BrokenBodies))]
    public async Task A_body_that_breaks_off_goes_on_at_the_next_place_where_it_ended(string what, object fault)
    {
        Descriptor blob = Everywhere(FakeContent.Generated(3, 100_000));
        mirror.Faults.On("/blobs/", new Fault { Status = 401, Headers = [("WWW-Authenticate", $"Bearer realm=\"{mirror.TokenUrl}/token\"")] });
        mirror.Faults.On("/blobs/", (Fault)fault, times: 100);
        int begun = what == "a wrong range" ? 10 : 0;

        byte[] rest = await it.ReadBlobAsync(blob, begun);

        Assert.True(FakeContent.Generated(3, 100_000).ToArray().AsSpan(begun).SequenceEqual(rest));
        Assert.Equal(2, mirror.RequestsOf("registry").Count);
        SeenRequest other = Assert.Single(second.Requests);
        Assert.Equal(what is "cut" or "reset" or "short by its own account" ? "bytes=30000-" : begun == 0 ? null : "bytes=10-", other["Range"]);
        Assert.Empty(it.Fake.Requests);
        Assert.Empty(it.Time.Waits);
        Assert.Contains(mirror.Url, Assert.Single(warnings), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_dead_mirror_is_remembered_and_costs_no_second_try()
    {
        int dead = FreePort();
        var all = new List<string>();
        await using var other = new RegistryHarness();
        Descriptor[] blobs = [.. Enumerable.Range(0, 5).Select(seed => other.Fake.AddBlob(Repository, FakeContent.Generated(seed, 1000)))];
        using var client = new RegistryClient(other.Fake.Address, other.Options with
        {
            Warnings = new Synchronous(all.Add),
            Mirrors = new MirrorSettings { Given = [(other.Fake.Address, new Uri($"http://127.0.0.1:{dead}"))] },
        });

        foreach (Descriptor blob in blobs)
        {
            Assert.True(blob.Digest.Matches(await client.GetSmallBlobAsync(Repository, blob, 1000, RegistryHarness.Token)));
        }

        Assert.Equal(5, other.Fake.Requests.Count);
        Assert.Contains("going on without it", Assert.Single(all), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nobody listens")]
    [InlineData("503")]
    public async Task A_mirror_whose_token_server_is_down_is_not_waited_for(string trouble)
    {
        await using var poor = new FakeRegistry
        {
            Auth = new FakeAuth
            {
                GetStatus = 503,
                Challenge = trouble == "503" ? new FakeAuth().Challenge : $"Bearer realm=\"http://127.0.0.1:{FreePort()}/token\"",
            },
        }.Start();
        Descriptor blob = second.AddBlob(Repository, FakeContent.Generated(9, 1000));
        using var client = new RegistryClient(second.Address, it.Options with { Mirrors = new MirrorSettings { Given = [(second.Address, new Uri(poor.Url))] } });

        byte[] content = await client.GetSmallBlobAsync(Repository, blob, 1000, RegistryHarness.Token);

        Assert.True(blob.Digest.Matches(content));
        Assert.Empty(it.Time.Waits);
    }

    [Fact]
    public async Task Wrong_bytes_of_a_mirror_are_found_out_and_fetched_elsewhere()
    {
        Descriptor blob = Everywhere(FakeContent.Generated(4, 1000));
        Descriptor index = it.Fake.AddManifest(Repository, "latest", Index, MediaTypes.OciIndex);
        second.AddManifest(Repository, null, Index, MediaTypes.OciIndex);
        mirror.AddManifestAs(Repository, index.Digest.ToString(), """{"schemaVersion":2,"manifests":[ ]}"""u8.ToArray(), MediaTypes.OciIndex);
        mirror.Faults.On("/blobs/", new Fault { WrongByteAt = 7 }, times: 100);

        FetchedManifest fetched = await it.ManifestAsync(index.Digest.ToString());
        byte[] content = await it.Client.GetSmallBlobAsync(Repository, blob, 1000, RegistryHarness.Token);

        Assert.Equal(Index, fetched.Content);
        Assert.True(blob.Digest.Matches(content));
        Assert.Equal(2, second.Requests.Count);
        Assert.Empty(it.Fake.Requests);
        Assert.Contains("another digest", Assert.Single(warnings), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Credentials_given_for_the_registry_are_not_shown_to_a_mirror()
    {
        await using var strict = new FakeRegistry { Auth = new FakeAuth { User = "ann", Password = "right" } }.Start();
        await using var own = new FakeRegistry { Auth = new FakeAuth { User = "ann", Password = "right" } }.Start();
        Descriptor blob = own.AddBlob(Repository, FakeContent.Generated(5, 1000));
        using var client = new RegistryClient(own.Address, it.Options with
        {
            Credentials = Credentials.Of(new Credential("ann", "right")),
            Mirrors = new MirrorSettings { Given = [(own.Address, new Uri(strict.Url))] },
        });

        Assert.True(blob.Digest.Matches(await client.GetSmallBlobAsync(Repository, blob, 1000, RegistryHarness.Token)));
        Assert.All(strict.Requests, request => Assert.Null(request["Authorization"]));
    }

    [Fact]
    public async Task Headers_of_a_mirror_are_for_its_own_host_alone()
    {
        using TemporaryDirectory directory = new();
        await using var stored = new FakeRegistry { HasStorage = true, Auth = new FakeAuth() }.Start();
        Descriptor blob = it.Fake.AddBlob(Repository, FakeContent.Generated(6, 1000));
        stored.AddBlob(Repository, FakeContent.Generated(6, 1000));
        Directory.CreateDirectory(directory[it.Fake.Address]);
        await File.WriteAllTextAsync(
            directory[$"{it.Fake.Address}/hosts.toml"],
            $"server = \"{it.Fake.Url}\"\n[host.\"{stored.Url}\"]\ncapabilities = [\"pull\"]\n[host.\"{stored.Url}\".header]\nx-secret = \"s3cret\"\n",
            RegistryHarness.Token);
        using var client = new RegistryClient(it.Fake.Address, it.Options with { Mirrors = new MirrorSettings { HostsDirectory = directory.Path } });

        await client.GetSmallBlobAsync(Repository, blob, 1000, RegistryHarness.Token);

        Assert.All(stored.RequestsOf("registry"), request => Assert.Equal("s3cret", request["x-secret"]));
        Assert.All([.. stored.RequestsOf("cdn"), .. stored.RequestsOf("token")], request => Assert.Null(request["x-secret"]));
        Assert.Empty(it.Fake.Requests);
    }

    [Fact]
    public async Task A_foreign_layer_is_fetched_from_its_urls_only_where_that_is_wanted()
    {
        await using var own = new FakeRegistry { Auth = new FakeAuth() }.Start();
        await using var elsewhere = new FakeRegistry().Start();
        Descriptor there = elsewhere.AddBlob(Repository, FakeContent.Generated(8, 50_000));
        Descriptor blob = there with { Urls = ["ftp://x/y", "http://192.0.2.1/never-without-TLS", $"{elsewhere.Url}/v2/{Repository}/blobs/{there.Digest}"] };
        elsewhere.Faults.On("/blobs/", new Fault { CutAfter = 20_000 });
        using var willing = new RegistryClient(own.Address, it.Options with { ForeignLayers = true });
        using var unwilling = new RegistryClient(own.Address, it.Options);

        RegistryException refused = await RegistryHarness.FailureAsync(() => unwilling.GetSmallBlobAsync(Repository, blob, 100_000, RegistryHarness.Token));
        byte[] content = await willing.GetSmallBlobAsync(Repository, blob, 100_000, RegistryHarness.Token);

        Assert.True(blob.Digest.Matches(content));
        Assert.Contains("--foreign-layers", refused.Message, StringComparison.Ordinal);
        Assert.Equal([null, "bytes=20000-"], elsewhere.Requests.Select(request => request["Range"]));
        Assert.All(elsewhere.Requests, request => Assert.Null(request["Authorization"]));
    }

    [Fact]
    public async Task A_foreign_layer_is_fetched_from_its_second_url_where_nobody_is_at_the_first()
    {
        await using var elsewhere = new FakeRegistry().Start();
        Descriptor there = elsewhere.AddBlob(Repository, FakeContent.Generated(8, 1000));
        Descriptor blob = there with { Urls = [$"http://127.0.0.1:{FreePort()}/x", $"{elsewhere.Url}/v2/{Repository}/blobs/{there.Digest}"] };
        using var client = new RegistryClient(second.Address, it.Options with { ForeignLayers = true });

        byte[] content = await client.GetSmallBlobAsync(Repository, blob, 1000, RegistryHarness.Token);

        Assert.True(blob.Digest.Matches(content));
        Assert.Empty(it.Time.Waits);
    }

    [Fact]
    public async Task Where_no_place_has_it_the_registrys_answer_counts()
    {
        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync("sha256:" + new string('1', 64)));

        Assert.Equal(PullError.NotFound, failure.Reason);
        Assert.Single(it.Fake.Requests);
    }

    public async ValueTask DisposeAsync()
    {
        await it.DisposeAsync();
        await mirror.DisposeAsync();
        await second.DisposeAsync();
    }

    private Descriptor Everywhere(FakeContent content)
    {
        mirror.AddBlob(Repository, content);
        second.AddBlob(Repository, content);
        return it.Fake.AddBlob(Repository, content);
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private sealed class Synchronous(Action<string> action) : IProgress<string>
    {
        public void Report(string value) => action(value);
    }
}
