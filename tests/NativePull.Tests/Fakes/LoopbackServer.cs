using System.Net;
using System.Net.Sockets;

namespace NativePull.Tests.Fakes;

/// <summary>A free port on loopback, and a task for each connection to it; all of them have ended when it is disposed.</summary>
internal abstract class LoopbackServer : IAsyncDisposable
{
    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource stopping = new();
    private readonly List<Task> connections = [];
    private Task accepting = Task.CompletedTask;

    protected LoopbackServer()
    {
        listener.Start();
        Port = ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    internal int Port { get; }

    internal string Address => $"127.0.0.1:{Port}";

    /// <summary>The test is over.</summary>
    protected CancellationToken Stopping => stopping.Token;

    public async ValueTask DisposeAsync()
    {
        await stopping.CancelAsync();
        await accepting;
        listener.Dispose();
        await Task.WhenAll(connections);
        stopping.Dispose();
    }

    /// <summary>From here on connections are served; the last thing a constructor does.</summary>
    protected void Start() => accepting = AcceptAsync();

    /// <param name="client">To be disposed.</param>
    /// <param name="number">Counts connections from 0.</param>
    protected abstract Task ServeAsync(Socket client, int number);

    private async Task AcceptAsync()
    {
        try
        {
            for (int number = 0; ; number++)
            {
                connections.Add(ServeAsync(await listener.AcceptSocketAsync(stopping.Token), number));
            }
        }
        catch (OperationCanceledException)
        {
            // the only way to end
        }
    }
}
