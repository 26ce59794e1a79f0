using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Real servers on the way: docker-registry as a pull-through cache, nginx in front of a registry.</summary>
public sealed partial class PullThroughTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();

    [Fact]
    public async Task A_pull_through_cache_gives_all_but_what_the_tag_means()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", FakeContent.Generated(1, 900_000).ToArray())).Publish(withIndex: true);
        using Process cache = StartCache(registry.Url, out int port);
        try
        {
            string[] pull = ["pull", image.Reference(), "--mirror", $"{registry.Address}=http://127.0.0.1:{port}", "--json"];

            BinaryResult first = await Binary.RunAsync([.. pull, "--store", directory["one"]]);
            BinaryResult second = await Binary.RunAsync([.. pull, "--store", directory["two"], "--rootfs", directory["root"]]);

            first.Expect(0);
            Assert.Equal("", Regex.Match(second.Expect(0).Out, "\"warnings\":\\[(.*?)\\]").Groups[1].Value);
            // what the tag means was asked of the registry itself, both times; the rest came from the cache, which asked in its own way
            Assert.Equal(2, registry.Requests.Count(request => request["User-Agent"]?.StartsWith("nativepull", StringComparison.Ordinal) == true));
            Assert.True(File.Exists(directory["root/f"]));
        }
        finally
        {
            cache.Kill();
            await cache.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task Behind_nginx_with_TLS_and_client_certificates_a_pull_gets_in_by_certs_d()
    {
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 300_000).Publish();
        int port = FreePort();
        string reference = $"127.0.0.1:{port}/a/b:latest";
        (string certificate, string key) = authority.IssueClient("PKCS#1");
        (string serverCertificate, string serverKey) = authority.IssueServer("127.0.0.1");
        string certs = $"home/.config/containers/certs.d/127.0.0.1:{port}";
        Directory.CreateDirectory(directory[certs]);
        foreach ((string name, string content) in new[]
        {
            ("server.pem", serverCertificate), ("server.key", serverKey), ("ca.pem", authority.RootPem),
            ($"{certs}/ca.crt", authority.RootPem), ($"{certs}/client.cert", certificate), ($"{certs}/client.key", key),
        })
        {
            await File.WriteAllTextAsync(directory[name], content, TestContext.Current.CancellationToken);
        }

        using Process nginx = StartNginx(port, registry.Port);
        try
        {
            Dictionary<string, string> environment = new() { ["HOME"] = directory["home"] };
            BinaryResult known = await Binary.RunAsync(environment, "pull", reference, "--store", directory["store"]);
            BinaryResult unknown = await Binary.RunAsync("pull", reference, "--ca-file", directory["ca.pem"], "--store", directory["other"], "--retries", "1");
            BinaryResult stranger = await Binary.RunAsync("pull", reference, "--store", directory["other"]);

            Assert.Equal($"127.0.0.1:{port}/a/b@{image.Digest}\n", known.Expect(0).Out);
            Assert.Contains("400", unknown.Expect(5).Error, StringComparison.Ordinal); // nginx's own answer: "No required SSL certificate was sent"
            stranger.Expect(9);
        }
        finally
        {
            nginx.Kill();
            await nginx.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    public void Dispose() => directory.Dispose();

    private Process StartCache(string upstream, out int port)
    {
        File.WriteAllText(directory["cache.yml"], $$"""
            version: 0.1
            log: {level: info, formatter: text}
            storage:
              filesystem: {rootdirectory: '{{directory["cache"]}}'}
            http:
              addr: 127.0.0.1:0
            proxy:
              remoteurl: {{upstream}}
            """);
        ProcessStartInfo start = new("docker-registry", ["serve", directory["cache.yml"]]) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["OTEL_TRACES_EXPORTER"] = "none";
        Process process = Process.Start(start)!;
        var listening = new TaskCompletionSource<int>();
        process.ErrorDataReceived += (_, line) =>
        {
            if (Listening().Match(line.Data ?? "") is { Success: true } match)
            {
                listening.TrySetResult(int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture));
            }
        };
        process.BeginErrorReadLine();
        process.BeginOutputReadLine();
        Assert.True(listening.Task.Wait(TimeSpan.FromSeconds(60)), "docker-registry does not listen");
        port = listening.Task.Result;
        return process;
    }

    private Process StartNginx(int port, int upstream)
    {
        File.WriteAllText(directory["nginx.conf"], $$"""
            daemon off;
            master_process off;
            pid {{directory["nginx.pid"]}};
            error_log stderr;
            events {}
            http {
              access_log off;
              client_body_temp_path {{directory["t1"]}}; proxy_temp_path {{directory["t2"]}}; fastcgi_temp_path {{directory["t3"]}}; uwsgi_temp_path {{directory["t4"]}}; scgi_temp_path {{directory["t5"]}};
              server {
                listen 127.0.0.1:{{port}} ssl;
                ssl_certificate {{directory["server.pem"]}};
                ssl_certificate_key {{directory["server.key"]}};
                ssl_client_certificate {{directory["ca.pem"]}};
                ssl_verify_client on;
                location / { proxy_pass http://127.0.0.1:{{upstream}}; proxy_set_header Host $http_host; }
              }
            }
            """);
        Process process = Process.Start(new ProcessStartInfo("nginx", ["-p", directory.Path, "-c", directory["nginx.conf"]]) { RedirectStandardError = true })!;
        process.BeginErrorReadLine();
        for (int i = 0; i < 600; i++)
        {
            try
            {
                using var client = new TcpClient("127.0.0.1", port);
                return process;
            }
            catch (SocketException)
            {
                Assert.False(process.HasExited, "nginx ended at once");
                Thread.Sleep(100);
            }
        }

        throw new TimeoutException("nginx does not listen");
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(System.Net.IPAddress.Loopback, 0);
        listener.Start();
        return ((System.Net.IPEndPoint)listener.LocalEndpoint).Port;
    }

    [GeneratedRegex(@"listening on 127\.0\.0\.1:([0-9]+)")]
    private static partial Regex Listening();
}
