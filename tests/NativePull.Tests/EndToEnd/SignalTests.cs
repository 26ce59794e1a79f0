using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// SIGINT and SIGTERM while the executable waits for something that never comes: it ends, with the signal's code and its sentence. What it would
/// else wait is longer than a test may take.
/// </summary>
public sealed class SignalTests : IAsyncDisposable
{
    private const int Terminate = 15; // SIGTERM

    private readonly TemporaryDirectory scratch = new();
    private readonly List<IAsyncDisposable> servers = [];
    private readonly List<Process> others = [];
    private NetworkNamespace? network;

    /// <summary>What it waits for.</summary>
    private static readonly string[] Waits =
    [
        "a connection to a black hole",
        "a resolver in a black hole",
        "a network",
        "a TLS handshake",
        "an answer",
        "the time that the registry asked for",
        "a turn beside a busy server",
        "a credential helper",
        "a password",
        "a file that nobody writes",
        "the rest of a blob",
        "the part of another process",
    ];

    public static TheoryData<string, string, bool> Signals
    {
        get
        {
            TheoryData<string, string, bool> all = [];
            foreach (string wait in Waits)
            {
                all.Add(wait, "INT", false);
                all.Add(wait, "TERM", false);
                all.Add(wait, "INT", true);
                all.Add(wait, "TERM", true);
            }

            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Signals))]
    public async Task A_signal_ends_every_wait(string wait, string signal, bool asPid1)
    {
        bool needsNetwork = wait.Contains("black hole", StringComparison.Ordinal) || wait == "a network";
        Assert.SkipUnless(Environment.IsPrivilegedProcess || !(needsNetwork || asPid1), "needs root: namespaces of processes, networks and mounts");
        network = needsNetwork ? new NetworkNamespace() : null;
        Scene scene = await MakeAsync(wait);
        string[] command =
        [
            "--default-signal=INT", // a background job of a shell has it ignored
            .. asPid1 ? ["unshare", "--pid", "--fork", "--kill-child"] : Array.Empty<string>(),
            .. scene.Shell is null ? [] : new[] { "sh", "-c", $"exec {scene.Shell}\"$@\"{scene.Input}", "sh" },
            Binary.File,
            .. scene.Arguments,
        ];

        using Process process = network is null ? Binary.Start(scene.Environment, "env", command) : network.Run(() => Binary.Start(scene.Environment, "env", command));
        int pid = await ListeningAsync(process, asPid1);
        await scene.Reached(process, pid);
        (await Binary.ProgramAsync("kill", $"-{signal}", Text(pid))).Expect(0);
        BinaryResult result = await Binary.FinishAsync(process);

        result.Expect(signal == "INT" ? 130 : 143);
        Assert.EndsWith(signal == "INT" ? "nativepull: interrupted\n" : "nativepull: terminated\n", result.Error, StringComparison.Ordinal);
        if (scene.Left is { } left)
        {
            await UntilAsync(() => !left()); // what was killed with it may take a moment to go
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (Process other in others)
        {
            other.Kill();
            await other.WaitForExitAsync(CancellationToken.None);
            other.Dispose();
        }

        foreach (IAsyncDisposable server in servers)
        {
            await server.DisposeAsync();
        }

        network?.Dispose();
        scratch.Dispose();
    }

    /// <param name="Reached">Ends when the process, whose number is given, is where it waits.</param>
    private sealed record Scene(string[] Arguments, Func<Process, int, Task> Reached)
    {
        internal Dictionary<string, string> Environment { get; init; } = [];

        /// <summary>Done before; null: no shell is needed.</summary>
        internal string? Shell { get; init; }

        /// <summary>A redirection.</summary>
        internal string Input { get; init; } = "";

        /// <summary>Whether something is there that should not be any more.</summary>
        internal Func<bool>? Left { get; init; }
    }

    private async Task<Scene> MakeAsync(string wait)
    {
        string[] store = ["--store", scratch["s"]];
        string[] patient = [.. store, "--connect-timeout", "20m", "--stall-timeout", "20m"];
        switch (wait)
        {
            case "a connection to a black hole":
                network!.AddBlackHole();
                return new Scene(
                    ["pull", "r.test:9/a", "--plain-http", "--resolve", "r.test:9:198.51.100.9", .. patient],
                    (_, pid) => UntilAsync(() => Holds($"/proc/{pid}/net/tcp", ":0009 02 "))); // SYN_SENT

            case "a resolver in a black hole":
                network!.AddBlackHole();
                await File.WriteAllTextAsync(scratch["resolv.conf"], "nameserver 198.51.100.9\noptions timeout:30 attempts:5\n", Token);
                return new Scene(["pull", "r.test:9/a", "--plain-http", .. patient], (_, pid) => UntilAsync(() => Holds($"/proc/{pid}/net/udp", ":0035 ")))
                {
                    Shell = $"unshare --mount sh -c 'mount --bind {scratch["resolv.conf"]} /etc/resolv.conf && exec \"$@\"' sh ",
                };

            case "a network":
                return new Scene(["pull", "r.test:9/a", "--resolve", "r.test:9:127.0.0.1", "--wait-network", "20m", .. patient], Said("waiting for a network"));

            case "a TLS handshake":
                SilentServer silent = Add(new SilentServer());
                return new Scene(["pull", $"r.test:{silent.Port}/a", "--resolve", $"r.test:{silent.Port}:127.0.0.1", .. patient], (_, _) => silent.Reached);

            case "an answer":
                return Stalled("manifests/", new Fault { StallAfter = -1 }, patient);

            case "the rest of a blob":
                return Stalled("blobs/", new Fault { StallAfter = 1000 }, patient);

            case "the time that the registry asked for":
                FakeRegistry busy = Registry(1, new Fault());
                busy.Faults.On("manifests/", new Fault { Status = 429, Headers = [("Retry-After", "50")] }, 99);
                return new Scene(["pull", $"{busy.Address}/a/b", .. store], Said("in 50.0 s"));

            case "a turn beside a busy server":
                FakeRegistry narrow = Registry(3, new Fault { Status = 429, Headers = [("Retry-After", "50")] });
                return new Scene(["pull", $"{narrow.Address}/a/b", .. patient], Said("fewer are fetched at once"));

            case "a credential helper":
                return await WithHelperAsync(store);

            case "a password":
                (await Binary.ProgramAsync("mkfifo", scratch["fifo"])).Expect(0);
                // open for both, it never has an end
                return new Scene(["pull", "r.test:9/a", "--username", "me", "--password-stdin", .. store], Nothing) { Shell = "", Input = $" <>{scratch["fifo"]}" };

            case "a file that nobody writes":
                (await Binary.ProgramAsync("mkfifo", scratch["fifo"])).Expect(0);
                return new Scene(["pull", "r.test:9/a", "--registry-token-file", scratch["fifo"], .. store], Nothing);

            default:
                Scene first = Stalled("blobs/", new Fault { StallAfter = 1000 }, patient);
                others.Add(Binary.Start(null, Binary.File, first.Arguments));
                await first.Reached(others[0], 0);
                FakeRegistry shared = (FakeRegistry)servers[^1];
                return new Scene(first.Arguments, (_, _) => UntilAsync(() => shared.Requests.Count(request => request.Path.Contains("/manifests/latest", StringComparison.Ordinal)) == 2));
        }
    }

    private Scene Stalled(string place, Fault fault, string[] options)
    {
        FakeRegistry registry = Registry(1, new Fault());
        registry.Faults.On(place, fault, 99);
        return new Scene(["pull", $"{registry.Address}/a/b", .. options], (_, _) => fault.Reached);
    }

    // One layer at a time that never ends; the config before is none.
    private FakeRegistry Registry(int layers, Fault busy)
    {
        FakeRegistry registry = Add(new FakeRegistry { MostAtOnce = layers == 1 ? int.MaxValue : 1, Busy = busy }.Start());
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < layers; i++)
        {
            image.RandomLayer($"f{i}", 100_000);
        }

        image.Publish();
        foreach (NativePull.Oci.Descriptor layer in layers == 1 ? [] : image.Layers)
        {
            registry.Faults.On($"blobs/{layer.Digest}", new Fault { StallAfter = 1000 }, 99);
        }

        return registry;
    }

    private async Task<Scene> WithHelperAsync(string[] store)
    {
        FakeRegistry secret = Add(new FakeRegistry { Auth = new FakeAuth { User = "me" } }.Start());
        string helper = scratch["docker-credential-hangs"];
        await File.WriteAllTextAsync(helper, $"#!/bin/sh\nsleep 1234 &\nmkfifo {scratch["wait"]}\necho there >{scratch["there"]}\nread x <{scratch["wait"]}\n", Token);
        File.SetUnixFileMode(helper, (UnixFileMode)0b111_101_101);
        await File.WriteAllTextAsync(scratch["config.json"], """{"credsStore":"hangs"}""", Token);
        return new Scene(["pull", $"{secret.Address}/a/b", "--authfile", scratch["config.json"], .. store], (_, _) => UntilAsync(() => File.Exists(scratch["there"])))
        {
            Environment = { ["PATH"] = $"{scratch.Path}:{Environment.GetEnvironmentVariable("PATH")}" },
            Left = () => Directory.GetDirectories("/proc").Any(process => Holds($"{process}/cmdline", helper)),
        };
    }

    private T Add<T>(T server)
        where T : IAsyncDisposable
    {
        servers.Add(server);
        return server;
    }

    private static Func<Process, int, Task> Said(string text) => async (process, _) =>
    {
        string? line;
        do
        {
            line = await process.StandardError.ReadLineAsync(Token);
            Assert.True(line is not null, $"it ended without saying \"{text}\"");
        }
        while (!line.Contains(text, StringComparison.Ordinal));
    };

    private static Task Nothing(Process process, int pid) => Task.CompletedTask;

    // The number of the executable's own process, when it has its handler for signals.
    private static async Task<int> ListeningAsync(Process process, bool asPid1)
    {
        int pid = process.Id;
        await UntilAsync(() =>
        {
            Assert.False(process.HasExited, "it ended by itself");
            pid = asPid1 ? Child(process.Id) : process.Id;
            return pid > 0 && IsCaught(pid, Terminate) && Executable(pid).EndsWith(Binary.File, StringComparison.Ordinal);
        });
        return pid;
    }

    // In another mount namespace it begins at that one's root, which is not ours in a chroot.
    private static string Executable(int pid) => new FileInfo($"/proc/{pid}/exe").LinkTarget ?? "";

    private static int Child(int parent) =>
        Read($"/proc/{parent}/task/{parent}/children") is { Length: > 0 } children ? int.Parse(children.Split(' ')[0], CultureInfo.InvariantCulture) : 0;

    // proc_pid_status(5): a mask, the lowest bit being signal 1
    private static bool IsCaught(int pid, int signal) => Read($"/proc/{pid}/status").Split('\n').FirstOrDefault(line => line.StartsWith("SigCgt:", StringComparison.Ordinal)) is { } mask
        && (ulong.Parse(mask["SigCgt:".Length..], NumberStyles.HexNumber | NumberStyles.AllowLeadingWhite, CultureInfo.InvariantCulture) & (1UL << (signal - 1))) != 0;

    private static bool Holds(string file, string text) => Read(file).Contains(text, StringComparison.Ordinal);

    // "": the process has gone meanwhile.
    private static string Read(string file)
    {
        try
        {
            return File.ReadAllText(file);
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private static async Task UntilAsync(Func<bool> reached)
    {
        long begun = Environment.TickCount64;
        while (!reached())
        {
            Assert.True(Environment.TickCount64 - begun < 240_000, "what is waited for has not come in four minutes");
            await Task.Delay(10, Token);
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>Takes connections, and what comes over them, and says nothing.</summary>
    private sealed class SilentServer : LoopbackServer
    {
        private readonly TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);

        internal SilentServer() => Start();

        /// <summary>Something came.</summary>
        internal Task Reached => reached.Task;

        protected override async Task ServeAsync(Socket client, int number)
        {
            using (client)
            {
                try
                {
                    while (await client.ReceiveAsync(new byte[1000], Stopping) > 0)
                    {
                        reached.TrySetResult();
                    }
                }
                catch (Exception gone) when (gone is SocketException or OperationCanceledException)
                {
                    // the client went away, or the test is over
                }
            }
        }
    }
}
