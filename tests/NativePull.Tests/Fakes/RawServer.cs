using System.Net.Sockets;
using System.Text;

namespace NativePull.Tests.Fakes;

/// <summary>
/// A server on a loopback port that knows nothing of HTTP but where a request ends: what it sends are the bytes of a test. A connection is closed
/// when its answer is over.
/// </summary>
internal sealed class RawServer : LoopbackServer
{
    private const byte TlsHandshake = 22;

    private readonly Func<string, Stream, CancellationToken, Task> answer;

    /// <param name="answer">Of a request, whose first line it gets.</param>
    internal RawServer(Func<string, Stream, CancellationToken, Task> answer)
    {
        this.answer = answer;
        Start();
    }

    protected override async Task ServeAsync(Socket client, int number)
    {
        try
        {
            await using NetworkStream stream = new(client, ownsSocket: true);
            if (await ReadHeadAsync(stream) is { } head)
            {
                await answer(head[..head.IndexOf('\r', StringComparison.Ordinal)], stream, Stopping);
            }
        }
        catch (Exception gone) when (gone is IOException or SocketException or OperationCanceledException)
        {
            // the client had enough, or the test is over
        }
    }

    // Null: no request.
    private async Task<string?> ReadHeadAsync(NetworkStream stream)
    {
        byte[] buffer = new byte[64 * 1024];
        int length = 0;
        while (!buffer.AsSpan(0, length).EndsWith("\r\n\r\n"u8))
        {
            int read = await stream.ReadAsync(buffer.AsMemory(length), Stopping);
            if (read == 0)
            {
                return null;
            }

            if (buffer[0] == TlsHandshake)
            {
                await stream.WriteAsync("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"u8.ToArray(), Stopping);
                return null;
            }

            length += read;
        }

        return Encoding.Latin1.GetString(buffer, 0, length);
    }
}
