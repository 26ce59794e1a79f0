using System.Text.RegularExpressions;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Real servers on the way: docker-registry as a pull-through cache, nginx in front of a registry and as a storage network of its own.</summary>
public sealed partial class PullThroughTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();

    [Fact]
    public async Task A_pull_through_cache_gives_all_but_what_the_tag_means()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", FakeContent.Generated(1, 900_000).ToArray())).Publish(withIndex: true);
        await using RealServer cache = RealServer.Registry(directory, "cache", registry.Url);
        string[] pull = ["pull", image.Reference(), "--mirror", $"{registry.Address}=http://127.0.0.1:{cache.Port}", "--json"];

        BinaryResult first = await Binary.RunAsync([.. pull, "--store", directory["one"]]);
        BinaryResult second = await Binary.RunAsync([.. pull, "--store", directory["two"], "--rootfs", directory["root"]]);

        first.Expect(0);
        Assert.Equal("", Regex.Match(second.Expect(0).Out, "\"warnings\":\\[(.*?)\\]").Groups[1].Value);
        // what the tag means was asked of the registry itself, both times; the rest came from the cache, which asked in its own way
        Assert.Equal(2, OursOf(registry).Count(request => request.Method == "GET"));
        Assert.All(OursOf(registry), request => Assert.EndsWith("/manifests/latest", request.Path, StringComparison.Ordinal));
        Assert.True(File.Exists(directory["root/f"]));
    }

    [Fact]
    public async Task A_pull_through_cache_that_is_killed_in_the_middle_costs_no_byte_twice()
    {
        const long Held = 1_500_000; // bytes that the cache gets before its upstream falls silent
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(7, 4_000_000);
        FakeImage image = new FakeImage(registry, "a/b").Layer(content).Layer(("g", [1])).Publish(withIndex: true);
        Fault silence = registry.Faults.On($"blobs/{content.Digest}", new Fault { StallAfter = Held }, times: 9); // the cache asks with HEAD before
        await using RealServer cache = RealServer.Registry(directory, "cache", registry.Url);
        await using ShapingProxy counted = new(cache.Port);
        using System.Diagnostics.Process running = Binary.Start(
            null, Binary.File, ["pull", image.Reference(), "--mirror", $"{registry.Address}=http://{counted.Address}", "--store", directory["store"], "--json"]);
        await silence.Reached;
        // until what was sent has come through: the cache keeps some in its own buffers, and those are lost with it
        await QuietAsync(() => counted.Passed);

        await cache.KillAsync();
        silence.Release();
        BinaryResult result = await Binary.FinishAsync(running);

        Assert.Contains("going on elsewhere", result.Expect(0).Out, StringComparison.Ordinal);
        SeenRequest rest = Assert.Single(OursOf(registry), request => request.Path.Contains(content.Digest.Hex, StringComparison.Ordinal));
        Match range = Regex.Match(rest["Range"] ?? "", "^bytes=([0-9]+)-$");
        Assert.True(range.Success, rest.ToString());
        long offset = long.Parse(range.Groups[1].ValueSpan, System.Globalization.CultureInfo.InvariantCulture);
        Assert.InRange(offset, 1, Held);
        Assert.Equal(content.Length - offset, rest.BytesSent);
        // documents and headers are small beside one buffer
        Assert.InRange(counted.Passed, offset, offset + ShapingProxy.InFlight);
    }

    [Fact]
    public async Task Behind_nginx_with_TLS_and_client_certificates_a_pull_gets_in_by_certs_d()
    {
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 300_000).Publish();
        int port = RealServer.FreePort();
        string reference = $"127.0.0.1:{port}/a/b:latest";
        (string certificate, string key) = authority.IssueClient("PKCS#1");
        string certs = $"home/.config/containers/certs.d/127.0.0.1:{port}";
        Directory.CreateDirectory(directory[certs]);
        await WriteServerAsync(authority);
        await WriteAsync(($"{certs}/ca.crt", authority.RootPem), ($"{certs}/client.cert", certificate), ($"{certs}/client.key", key));
        await using RealServer nginx = RealServer.Nginx(directory, port, $$"""
            server {
              listen 127.0.0.1:{{port}} ssl;
              ssl_certificate {{directory["server.pem"]}};
              ssl_certificate_key {{directory["server.key"]}};
              ssl_client_certificate {{directory["ca.pem"]}};
              ssl_verify_client on;
              location / { proxy_pass http://127.0.0.1:{{registry.Port}}; proxy_set_header Host $http_host; }
            }
            """);
        Dictionary<string, string> environment = new() { ["HOME"] = directory["home"] };

        BinaryResult known = await Binary.RunAsync(environment, "pull", reference, "--store", directory["store"]);
        BinaryResult unknown = await Binary.RunAsync("pull", reference, "--ca-file", directory["ca.pem"], "--store", directory["other"]);
        BinaryResult stranger = await Binary.RunAsync("pull", reference, "--store", directory["other"]);

        Assert.Equal($"127.0.0.1:{port}/a/b@{image.Digest}\n", known.Expect(0).Out);
        Assert.Contains("the server wants a client certificate", unknown.Expect(9).Error, StringComparison.Ordinal); // nginx's own answer is a 400
        stranger.Expect(9);
    }

    [Fact]
    public async Task A_registry_behind_nginx_that_sends_blobs_from_a_slow_host_of_their_own_is_pulled_over_several_connections()
    {
        const int RateOfEach = 6_000_000; // bytes per second that nginx gives each connection
        using FakeCertificates authority = new();
        await WriteServerAsync(authority);
        // a real registry with a real image in it, pushed by another program
        await using FakeRegistry origin = new FakeRegistry().Start();
        FakeContent content = FakeContent.Generated(11, 60_000_000);
        FakeImage image = new FakeImage(origin, "a/b").Layer(content).Publish();
        await using RealServer registry = RealServer.Registry(directory, "registry");
        await WitnessFixture.SkopeoAsync(
            "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", $"docker://{image.Reference()}", $"docker://127.0.0.1:{registry.Port}/a/b:latest");
        int front = RealServer.FreePort();
        int storage = RealServer.FreePort();
        await using RealServer nginx = RealServer.Nginx(directory, front, $$"""
            log_format bytes '$connection $status "$http_range" $body_bytes_sent "$http_authorization" $request_uri';
            ssl_certificate {{directory["server.pem"]}};
            ssl_certificate_key {{directory["server.key"]}};
            server {
              listen 127.0.0.1:{{front}} ssl;
              access_log {{directory["front.log"]}} bytes;
              location ~ ^/v2/.+/blobs/sha256:(?<two>[0-9a-f][0-9a-f])(?<more>[0-9a-f]+)$ {
                if ($http_authorization = "") { return 401; }
                return 307 https://127.0.0.1:{{storage}}/$two/$two$more/data?signature=$connection;
              }
              location / {
                proxy_pass http://127.0.0.1:{{registry.Port}};
                proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-Proto https;
                proxy_set_header Authorization "";
              }
            }
            server {
              listen 127.0.0.1:{{storage}} ssl;
              access_log {{directory["storage.log"]}} bytes;
              root {{directory["registry/docker/registry/v2/blobs/sha256"]}};
              if ($http_authorization) { return 400; }
              if ($arg_signature = "") { return 403; }
              limit_rate {{RateOfEach}};
            }
            """);
        await WriteAsync(("token", "a-secret-of-the-front"));

        BinaryResult result = await Binary.RunAsync(
            "pull", $"127.0.0.1:{front}/a/b", "--ca-file", directory["ca.pem"], "--registry-token-file", directory["token"], "--store", directory["store"], "-v");

        Assert.Equal($"127.0.0.1:{front}/a/b@{image.Digest}\n", result.Expect(0).Out);
        Assert.True(File.Exists(directory[$"store/blobs/sha256/{content.Digest.Hex}"]));
        await nginx.KillAsync(); // its log is complete then
        Match[] sent = [.. Line().Matches(await File.ReadAllTextAsync(directory["storage.log"], TestContext.Current.CancellationToken)).Where(line => line.Groups["uri"].Value.Contains(content.Digest.Hex, StringComparison.Ordinal))];
        string all = string.Join('\n', sent.AsEnumerable());
        int connections = sent.Select(line => line.Groups["connection"].Value).Distinct().Count();
        Assert.True(connections > 1, all);
        // a connection whose stretch is cut short for another has some bytes in the kernel's buffers and nginx's
        Assert.InRange(sent.Sum(line => long.Parse(line.Groups["bytes"].ValueSpan, System.Globalization.CultureInfo.InvariantCulture)), content.Length, content.Length + (8_000_000L * connections));
        Assert.All(sent, line => Assert.Contains(line.Groups["status"].Value, new[] { "200", "206", "499" }));
        Assert.DoesNotContain("a-secret", all + result.Error + result.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("signature=", result.Error + result.Out, StringComparison.Ordinal);
    }

    public void Dispose() => directory.Dispose();

    private static IEnumerable<SeenRequest> OursOf(FakeRegistry registry) =>
        registry.Requests.Where(request => request["User-Agent"]?.StartsWith("nativepull", StringComparison.Ordinal) == true);

    // Ends when the number has stayed the same for a while.
    private static async Task QuietAsync(Func<long> number)
    {
        long before = number();
        for (int same = 0; same < 10;)
        {
            await Task.Delay(50, TestContext.Current.CancellationToken);
            long now = number();
            same = now == before ? same + 1 : 0;
            before = now;
        }
    }

    private async Task WriteServerAsync(FakeCertificates authority)
    {
        (string certificate, string key) = authority.IssueServer("127.0.0.1");
        await WriteAsync(("server.pem", certificate), ("server.key", key), ("ca.pem", authority.RootPem));
    }

    private async Task WriteAsync(params (string Name, string Content)[] files)
    {
        foreach ((string name, string content) in files)
        {
            await File.WriteAllTextAsync(directory[name], content, TestContext.Current.CancellationToken);
        }
    }

    [GeneratedRegex("""^(?<connection>\d+) (?<status>\d+) "(?<range>[^"]*)" (?<bytes>\d+) "(?<authorization>[^"]*)" (?<uri>\S+)$""", RegexOptions.Multiline)]
    private static partial Regex Line();
}
