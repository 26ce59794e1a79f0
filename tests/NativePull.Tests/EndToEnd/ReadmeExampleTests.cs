using System.Runtime.CompilerServices;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>The examples of README.md about signing in and mirrors, run by a shell as they stand there: only the places they name are ours.</summary>
public sealed class ReadmeExampleTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();

    [Fact]
    public async Task Signing_in()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { User = "me", Password = "t0ken" } }.Start();
        new FakeImage(registry, "org/private").Layer(("f", [1])).Publish("1");
        Dictionary<string, string> environment = Environment();
        environment["TOKEN"] = "t0ken";
        // what asks at a terminal has its test in LoginTests
        string[] lines = [.. Lines("Signing in").Where(line => !line.Contains("# at a terminal", StringComparison.Ordinal)).Select(line => line.Replace("ghcr.io", registry.Address, StringComparison.Ordinal))];
        Assert.Equal(3, lines.Length);

        foreach (string line in lines)
        {
            await RunAsync(environment, line);
        }

        Assert.Contains(registry.Requests, request => request.Path == "/v2/org/private/manifests/1" && request.Status == 200);
        Assert.DoesNotContain("auth\"", await File.ReadAllTextAsync(directory[".config/containers/auth.json"], TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Mirrors()
    {
        using FakeCertificates authority = new();
        await using FakeRegistry hub = new FakeRegistry { Certificate = authority.Issue("registry-1.docker.io") }.Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        new FakeImage(hub, "library/alpine").Layer(("f", [1])).Publish();
        new FakeImage(mirror, "library/alpine").Layer(("f", [1])).Publish();
        // the names lead to ours by way of proxies
        await using FakeProxy toHub = new(hub.Port);
        await using FakeProxy toMirror = new(mirror.Port);
        await WriteAsync("ca.pem", authority.RootPem);
        await WriteAsync("certs.d/docker.io/hosts.toml", "server = \"https://registry-1.docker.io\"\n\n[host.\"http://cache.local:5000\"]\n  capabilities = [\"pull\"]\n");
        await WriteAsync("registries.conf", $"[[registry]]\nlocation = \"docker.io\"\n\n[[registry.mirror]]\nlocation = \"{mirror.Address}\"\n");
        string[] lines =
        [
            .. Lines("Mirrors").Select(line => line
                .Replace("/etc/containerd/certs.d", directory["certs.d"], StringComparison.Ordinal)
                .Replace("/etc/containers/registries.conf", directory["registries.conf"], StringComparison.Ordinal)),
        ];
        Assert.Equal(3, lines.Length);

        for (int i = 0; i < lines.Length; i++)
        {
            Dictionary<string, string> environment = Environment();
            environment["HTTPS_PROXY"] = $"http://{toHub.Address}";
            environment["http_proxy"] = $"http://{toMirror.Address}";
            environment["SSL_CERT_FILE"] = directory["ca.pem"];
            environment["NATIVEPULL_STORE"] = directory[$"store{i}"];

            await RunAsync(environment, lines[i]);

            Assert.Equal("/v2/library/alpine/manifests/latest", hub.Requests[i].Path.Split('?')[0]);
            Assert.Equal(i + 1, hub.Requests.Count); // the tag each time, and nothing else
            Assert.Equal(2 * (i + 1), mirror.Requests.Count);
        }
    }

    public void Dispose() => directory.Dispose();

    private Dictionary<string, string> Environment() => new()
    {
        ["PATH"] = $"{Path.GetDirectoryName(Binary.File)}:{System.Environment.GetEnvironmentVariable("PATH")}",
        ["HOME"] = directory.Path,
        ["NATIVEPULL_STORE"] = directory["store"],
    };

    private static async Task RunAsync(Dictionary<string, string> environment, string line)
    {
        using System.Diagnostics.Process shell = Binary.Start(environment, "sh", ["-c", line]);
        (await Binary.FinishAsync(shell)).Expect(0);
    }

    private async Task WriteAsync(string file, string content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(directory[file])!);
        await File.WriteAllTextAsync(directory[file], content, TestContext.Current.CancellationToken);
    }

    // Of the section's first block.
    private static IEnumerable<string> Lines(string section, [CallerFilePath] string here = "")
    {
        string text = File.ReadAllText(Path.Combine(Path.GetDirectoryName(here)!, "../../../README.md"));
        string rest = text[text.IndexOf($"\n## {section}\n", StringComparison.Ordinal)..];
        return rest.Split("\n```")[1].Split('\n').Where(line => line.Length > 0);
    }
}
