using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace NativePull.Registry;

/// <summary>An answer of <c>--resolve</c>: this name and port are found at this address, whatever a resolver would say.</summary>
internal sealed record FixedAddress(string Host, int Port, IPAddress Address);

/// <summary>
/// Connects to a name by whichever of its addresses answers first (RFC 8305): families in turn, one more every quarter of a second or as soon
/// as one has failed; who comes second is closed. What worked is tried first by the next connections of the run.
/// </summary>
internal sealed class Dialer(RegistryOptions options)
{
    // RFC 8305, 8: "Connection Attempt Delay", recommended 250 ms
    private static readonly TimeSpan Stagger = TimeSpan.FromMilliseconds(250);

    private readonly ConcurrentDictionary<(string Host, int Port), IPAddress> worked = new();

    /// <exception cref="SocketException">No address, or none that answers: its message says what each of them did.</exception>
    internal async Task<Stream> ConnectAsync(DnsEndPoint peer, CancellationToken token)
    {
        (string, int) key = (peer.Host.ToLowerInvariant(), peer.Port);
        IReadOnlyList<IPAddress> addresses = await FindAsync(peer, token);
        worked.TryGetValue(key, out IPAddress? before);
        Socket winner = await new Race(Order(addresses, before), peer.Port, options.Clock, token).RunAsync();
        worked[key] = ((IPEndPoint)winner.RemoteEndPoint!).Address;
        return new NetworkStream(winner, ownsSocket: true);
    }

    /// <summary>The families in turn, beginning with that of the first, which the resolver prefers (RFC 6724); what worked before comes first of all.</summary>
    internal static IReadOnlyList<IPAddress> Order(IReadOnlyList<IPAddress> addresses, IPAddress? workedBefore)
    {
        List<IPAddress> distinct = [.. addresses.Distinct()];
        List<IPAddress> first = distinct.FindAll(address => address.AddressFamily == distinct[0].AddressFamily);
        List<IPAddress> other = distinct.FindAll(address => address.AddressFamily != distinct[0].AddressFamily);
        List<IPAddress> order = [];
        for (int i = 0; i < Math.Max(first.Count, other.Count); i++)
        {
            order.AddRange(first.Skip(i).Take(1));
            order.AddRange(other.Skip(i).Take(1));
        }

        if (workedBefore is not null && order.Remove(workedBefore))
        {
            order.Insert(0, workedBefore);
        }

        return order;
    }

    private async Task<IReadOnlyList<IPAddress>> FindAsync(DnsEndPoint peer, CancellationToken token)
    {
        IPAddress[] told = [.. options.Resolve.Where(one => one.Port == peer.Port && one.Host.Equals(peer.Host, StringComparison.OrdinalIgnoreCase)).Select(one => one.Address)];
        if (told.Length > 0)
        {
            return told;
        }

        if (IPAddress.TryParse(peer.Host, out IPAddress? literal))
        {
            return [literal];
        }

        if (RegistryAddress.IsLocalhost(peer.Host))
        {
            return [IPAddress.Loopback, IPAddress.IPv6Loopback]; // the one name that must work without a resolver and without /etc/hosts
        }

        try
        {
            IPAddress[] found = await Dns.GetHostAddressesAsync(peer.Host, token);
            return found.Length > 0 ? found : throw new SocketException((int)SocketError.NoData);
        }
        catch (OperationCanceledException)
        {
            // a resolver out of reach is silent for longer than a connection may take: that it was the resolver must be told
            throw new SocketException((int)SocketError.TryAgain, $"the resolver does not answer for {peer.Host}");
        }
    }

    /// <summary>One connection being made by several sockets at once.</summary>
    private sealed class Race(IReadOnlyList<IPAddress> addresses, int port, TimeProvider clock, CancellationToken token)
    {
        private readonly List<(IPAddress Address, SocketException Failure)> failures = [];

        internal async Task<Socket> RunAsync()
        {
            using var over = CancellationTokenSource.CreateLinkedTokenSource(token);
            List<Task<Socket?>> running = [];
            Socket? winner = null;
            try
            {
                for (int next = 0; winner is null && (next < addresses.Count || running.Count > 0);)
                {
                    if (next < addresses.Count)
                    {
                        running.Add(TryAsync(addresses[next++], over.Token));
                    }

                    winner = await FirstAsync(running, next < addresses.Count, over.Token);
                }
            }
            finally
            {
                await over.CancelAsync();
                foreach (Task<Socket?> late in running)
                {
                    await CloseAsync(late);
                }
            }

            token.ThrowIfCancellationRequested();
            return winner ?? throw Failure();
        }

        // Null: it is the next address's turn, or nobody is left.
        private async Task<Socket?> FirstAsync(List<Task<Socket?>> running, bool othersWait, CancellationToken over)
        {
            Task pause = othersWait ? Task.Delay(Stagger, clock, over) : Task.Delay(Timeout.Infinite, over);
            Task done = await Task.WhenAny([.. running, pause]);
            if (done is not Task<Socket?> attempt)
            {
                return null;
            }

            running.Remove(attempt);
            return await attempt;
        }

        private async Task<Socket?> TryAsync(IPAddress address, CancellationToken over)
        {
            Socket? socket = null;
            try
            {
                socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(address, port, over);
                Socket connected = socket;
                socket = null;
                return connected;
            }
            catch (SocketException failure)
            {
                lock (failures)
                {
                    failures.Add((address, failure));
                }

                return null;
            }
            catch (OperationCanceledException)
            {
                return null; // another was first, or the time is over
            }
            finally
            {
                socket?.Dispose();
            }
        }

        private static async Task CloseAsync(Task<Socket?> attempt) => (await attempt)?.Dispose();

        // What a peer said tells more than that there was no way to another.
        private SocketException Failure()
        {
            SocketException told = failures.Find(one => !NetworkFailure.IsNoNetwork(one.Failure.SocketErrorCode)).Failure ?? failures[0].Failure;
            return new SocketException((int)told.SocketErrorCode, string.Join(", ", failures.Select(one => $"{one.Address}: {one.Failure.Message}")));
        }
    }
}
