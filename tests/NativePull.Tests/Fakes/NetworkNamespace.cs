using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace NativePull.Tests.Fakes;

/// <summary>
/// A network of its own, gone with this object: a thread that has left the machine's (unshare(2), needs root). Sockets made on it and programs
/// started from it belong to the new one. At first nothing is up, not even loopback.
/// </summary>
internal sealed partial class NetworkNamespace : IDisposable
{
    private const int NewNetwork = 0x40000000; // CLONE_NEWNET, linux/sched.h

    private readonly BlockingCollection<Action> work = [];
    private readonly Thread thread;

    internal NetworkNamespace()
    {
        thread = new Thread(() =>
        {
            foreach (Action one in work.GetConsumingEnumerable())
            {
                one();
            }
        });
        thread.Start();
        Run(() => unshare(NewNetwork) == 0 ? true : throw new InvalidOperationException($"unshare: errno {Marshal.GetLastPInvokeError()}"));
    }

    internal T Run<T>(Func<T> act)
    {
        var task = new Task<T>(act);
        work.Add(() => task.RunSynchronously());
        return task.GetAwaiter().GetResult();
    }

    /// <summary>Each line is one call of ip(8).</summary>
    internal void Ip(params string[] calls)
    {
        foreach (string call in calls)
        {
            using Process ip = Run(() => Process.Start("ip", call.Split(' ')));
            ip.WaitForExit();
            Assert.True(ip.ExitCode == 0, $"ip {call}: exit code {ip.ExitCode}");
        }
    }

    /// <summary>198.51.100.9 and 2001:db8:1::9 are then addresses that swallow everything: a wire whose other end nobody listens at.</summary>
    internal void AddBlackHole() => Ip(
        "link add v0 type veth peer name v1",
        "link set v0 up",
        "link set v1 up",
        "addr add 198.51.100.1/24 dev v0",
        "addr add 2001:db8:1::1/64 dev v0 nodad",
        "neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 dev v0",
        "neigh add 2001:db8:1::9 lladdr 02:00:00:00:00:09 dev v0");

    public void Dispose()
    {
        work.CompleteAdding();
        thread.Join();
        work.Dispose();
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int unshare(int flags);
}
