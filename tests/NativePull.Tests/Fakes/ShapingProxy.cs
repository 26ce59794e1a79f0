using System.Net;
using System.Net.Sockets;

namespace NativePull.Tests.Fakes;

/// <summary>
/// A network between a client and a server on loopback: a round trip, a rate for each connection and for all together, resets. It holds little
/// itself, so that what it has passed on is what the client has or had in its hands.
/// </summary>
internal sealed class ShapingProxy : LoopbackServer
{
    /// <summary>Bytes that may be on their way to a client beyond those it has read: one piece, and the kernel's two small buffers.</summary>
    internal const int InFlight = Piece + (2 * KernelBuffer);

    private const int Piece = 16 * 1024;
    private const int KernelBuffer = 64 * 1024;

    private readonly int server;
    private readonly Pace together = new();
    private readonly Lock gate = new();
    private long passed;
    private int made;
    private int open;
    private int mostOpen;
    private int refused;

    internal ShapingProxy(int server)
    {
        this.server = server;
        Start();
    }

    /// <summary>Added to each request.</summary>
    internal TimeSpan RoundTrip { get; init; }

    /// <summary>Bytes per second towards the client; 0: unlimited.</summary>
    internal long RateOfEach { get; init; }

    /// <inheritdoc cref="RateOfEach"/>
    internal long RateOfAll { get; init; }

    /// <summary>Each connection is reset after so many bytes towards the client; 0: never.</summary>
    internal long ResetAfter { get; init; }

    /// <summary>Connections at once; another is reset as soon as it is made; 0: any number.</summary>
    internal int MostAtOnce { get; init; }

    /// <summary>Connections reset because there were too many.</summary>
    internal int Refused => Volatile.Read(ref refused);

    /// <summary>The most connections there were at once, refused ones left out.</summary>
    internal int MostOpen => Volatile.Read(ref mostOpen);

    /// <summary>Bytes towards the client, headers included.</summary>
    internal long Passed => Interlocked.Read(ref passed);

    /// <summary>Connections made so far.</summary>
    internal int Made => Volatile.Read(ref made);

    protected override async Task ServeAsync(Socket client, int number)
    {
        Volatile.Write(ref made, number + 1);
        try
        {
            if (!Admit())
            {
                client.LingerState = new LingerOption(true, 0);
                client.Dispose();
                return;
            }

            await PassOnAsync(client);
        }
        finally
        {
            lock (gate)
            {
                open--;
            }
        }
    }

    private bool Admit()
    {
        lock (gate)
        {
            open++;
            bool isOneTooMany = MostAtOnce > 0 && open > MostAtOnce;
            refused += isOneTooMany ? 1 : 0;
            mostOpen = isOneTooMany ? mostOpen : Math.Max(mostOpen, open);
            return !isOneTooMany;
        }
    }

    private async Task PassOnAsync(Socket client)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(Stopping);
        using (client)
        using (var upstream = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true, ReceiveBufferSize = KernelBuffer })
        {
            client.NoDelay = true;
            client.SendBufferSize = KernelBuffer;
            try
            {
                await upstream.ConnectAsync(IPAddress.Loopback, server, end.Token);
                Task up = UpAsync(client, upstream, end.Token);
                Task down = DownAsync(upstream, client, end.Token);
                await Task.WhenAny(up, down);
                await end.CancelAsync();
                await Task.WhenAll(up, down);
            }
            catch (Exception gone) when (gone is SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // either side went away, or the test is over
            }
        }
    }

    private async Task UpAsync(Socket client, Socket upstream, CancellationToken token)
    {
        byte[] buffer = new byte[Piece];
        int read;
        while ((read = await client.ReceiveAsync(buffer, token)) > 0)
        {
            await Task.Delay(RoundTrip, token);
            await upstream.SendAsync(buffer.AsMemory(0, read), token);
        }
    }

    private async Task DownAsync(Socket upstream, Socket client, CancellationToken token)
    {
        byte[] buffer = new byte[Piece];
        var alone = new Pace();
        long total = 0;
        int read;
        while ((read = await upstream.ReceiveAsync(buffer, token)) > 0)
        {
            await alone.KeepAsync(read, RateOfEach, token);
            await together.KeepAsync(read, RateOfAll, token);
            if (ResetAfter > 0 && total + read > ResetAfter)
            {
                client.LingerState = new LingerOption(true, 0);
                return;
            }

            total += read;
            Interlocked.Add(ref passed, read);
            await client.SendAsync(buffer.AsMemory(0, read), token);
        }
    }

    private sealed class Pace
    {
        private readonly Lock gate = new();
        private DateTime next = DateTime.UtcNow;

        internal async Task KeepAsync(int bytes, long rate, CancellationToken token)
        {
            if (rate == 0)
            {
                return;
            }

            TimeSpan wait;
            lock (gate)
            {
                DateTime now = DateTime.UtcNow;
                next = (next < now - TimeSpan.FromMilliseconds(50) ? now : next) + TimeSpan.FromSeconds((double)bytes / rate);
                wait = next - now;
            }

            if (wait > TimeSpan.FromMilliseconds(2))
            {
                await Task.Delay(wait, token);
            }
        }
    }
}
