using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Fakes;

/// <summary>Debian's docker-registry or nginx on loopback ports, with their files in a test's own directory.</summary>
internal sealed partial class RealServer : IAsyncDisposable
{
    private readonly Process process;

    private RealServer(Process process, int port)
    {
        this.process = process;
        Port = port;
    }

    internal int Port { get; }

    /// <summary>A registry whose storage is DIRECTORY/NAME.</summary>
    /// <param name="upstream">Whose pull-through cache it is; null: a registry of its own.</param>
    internal static RealServer Registry(TemporaryDirectory directory, string name, string? upstream = null)
    {
        File.WriteAllText(directory[$"{name}.yml"], $$"""
            version: 0.1
            log: {level: info, formatter: text}
            storage:
              filesystem: {rootdirectory: '{{directory[name]}}'}
            http:
              addr: 127.0.0.1:0
            {{(upstream is null ? "" : $"proxy: {{remoteurl: '{upstream}'}}")}}
            """);
        ProcessStartInfo start = new("docker-registry", ["serve", directory[$"{name}.yml"]]) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["OTEL_TRACES_EXPORTER"] = "none"; // newer versions would look for a collector
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
        return new RealServer(process, listening.Task.Result);
    }

    /// <summary>nginx with these server blocks, of which one listens on <paramref name="port"/>.</summary>
    internal static RealServer Nginx(TemporaryDirectory directory, int port, string servers)
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
              {{servers}}
            }
            """);
        Process process = Process.Start(new ProcessStartInfo("nginx", ["-p", directory.Path, "-c", directory["nginx.conf"]]) { RedirectStandardError = true })!;
        process.BeginErrorReadLine();
        for (int i = 0; i < 600; i++)
        {
            try
            {
                using var client = new TcpClient("127.0.0.1", port);
                return new RealServer(process, port);
            }
            catch (SocketException)
            {
                Assert.False(process.HasExited, "nginx ended at once");
                Thread.Sleep(100);
            }
        }

        throw new TimeoutException("nginx does not listen");
    }

    internal static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>kill -9.</summary>
    internal async Task KillAsync()
    {
        process.Kill();
        await process.WaitForExitAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (!process.HasExited)
        {
            await KillAsync();
        }

        process.Dispose();
    }

    [GeneratedRegex(@"listening on 127\.0\.0\.1:([0-9]+)")]
    private static partial Regex Listening();
}
