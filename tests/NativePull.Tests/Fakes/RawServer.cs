using System.Net;
using System.Net.Sockets;
using System.Text;

namespace NativePull.Tests.Fakes;

/// <summary>
/// A server on a loopback port that knows nothing of HTTP but where a request ends: what it sends are the bytes of a test. A connection is closed
/// when its answer is over.
/// </summary>
internal sealed class RawServer : IAsyncDisposable
{
    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource stopping = new();
    private readonly List<Task> connections = [];
    private readonly Func<string, Stream, CancellationToken, Task> answer;
    private readonly Task accepting;

    /// <param name="answer">Of a request, whose first line it gets.</param>
    internal RawServer(Func<string, Stream, CancellationToken, Task> answer)
    {
        this.answer = answer;
        listener.Start();
        accepting = AcceptAsync();
    }

    internal string Address => listener.LocalEndpoint.ToString()!; // an endpoint has one

    public async ValueTask DisposeAsync()
    {
        await stopping.CancelAsync();
        await accepting;
        listener.Dispose();
        await Task.WhenAll(connections);
        stopping.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                connections.Add(ServeAsync(await listener.AcceptTcpClientAsync(stopping.Token)));
            }
        }
        catch (OperationCanceledException)
        {
            // the only way to end
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        try
        {
            using (client)
            {
                Stream stream = client.GetStream();
                byte[] buffer = new byte[64 * 1024];
                int length = 0;
                while (!buffer.AsSpan(0, length).EndsWith("\r\n\r\n"u8))
                {
                    int read = await stream.ReadAsync(buffer.AsMemory(length), stopping.Token);
                    if (read == 0)
                    {
                        return;
                    }

                    if (buffer[0] == 22)
                    {
                        // TLS, which this server does not speak
                        await stream.WriteAsync("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"u8.ToArray(), stopping.Token);
                        return;
                    }

                    length += read;
                }

                string head = Encoding.Latin1.GetString(buffer, 0, length);
                await answer(head[..head.IndexOf('\r', StringComparison.Ordinal)], stream, stopping.Token);
                await stream.FlushAsync(stopping.Token);
            }
        }
        catch (Exception gone) when (gone is IOException or SocketException or OperationCanceledException)
        {
            // the client had enough, or the test is over
        }
    }
}
