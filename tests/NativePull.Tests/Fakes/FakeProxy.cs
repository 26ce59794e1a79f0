using System.Net;
using System.Net.Sockets;
using System.Text;

namespace NativePull.Tests.Fakes;

/// <summary>
/// A proxy of all three kinds on one loopback port: CONNECT, plain HTTP by absolute addresses, SOCKS 5. Whatever host it is asked for, it goes to
/// one port of this machine.
/// </summary>
internal sealed class FakeProxy : LoopbackServer
{
    private readonly List<string> seen = [];
    private readonly int target;

    internal FakeProxy(int target)
    {
        this.target = target;
        Start();
    }

    /// <summary>"user:password" that it wants; null: it lets everyone through.</summary>
    internal string? User { get; init; }

    /// <summary>The ways that it offers, in its order; it takes Basic alone.</summary>
    internal string[] Offered { get; init; } = ["Basic realm=\"proxy\""];

    /// <summary>Instead of going there; null: it goes.</summary>
    internal int? Status { get; init; }

    /// <summary>First lines of requests, or "SOCKS host:port", in order.</summary>
    internal IReadOnlyList<string> Seen
    {
        get
        {
            lock (seen)
            {
                return [.. seen];
            }
        }
    }

    protected override async Task ServeAsync(Socket client, int number)
    {
        try
        {
            using (client)
            {
                using NetworkStream stream = new(client, ownsSocket: true);
                byte[] first = new byte[1];
                await stream.ReadExactlyAsync(first, Stopping);
                await (first[0] == 5 ? SocksAsync(stream) : HttpAsync(stream, (char)first[0]));
            }
        }
        catch (Exception gone) when (gone is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // the client went away, or the test is over
        }
    }

    private async Task HttpAsync(NetworkStream stream, char first)
    {
        string head = first + await ReadHeadAsync(stream);
        string line = head.Split("\r\n")[0];
        Note(line);
        string wanted = "Proxy-Authorization: Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes(User ?? ""));
        if (User is not null && !head.Contains(wanted, StringComparison.OrdinalIgnoreCase))
        {
            await AnswerAsync(stream, "407 Proxy Authentication Required" + string.Concat(Offered.Select(way => $"\r\nProxy-Authenticate: {way}")));
            return;
        }

        if (Status is { } status)
        {
            await AnswerAsync(stream, $"{status} no");
            return;
        }

        using var there = new TcpClient();
        await there.ConnectAsync(IPAddress.Loopback, target, Stopping);
        NetworkStream other = there.GetStream();
        if (line.StartsWith("CONNECT ", StringComparison.Ordinal))
        {
            await stream.WriteAsync("HTTP/1.1 200 go\r\n\r\n"u8.ToArray(), Stopping);
        }
        else
        {
            string[] parts = line.Split(' ');
            string[] rest = [.. head.Split("\r\n").Skip(1).Where(header => !header.StartsWith("Proxy-", StringComparison.OrdinalIgnoreCase))];
            string own = $"{parts[0]} {new Uri(parts[1]).PathAndQuery} {parts[2]}\r\nConnection: close\r\n{string.Join("\r\n", rest)}";
            await other.WriteAsync(Encoding.Latin1.GetBytes(own), Stopping);
        }

        await RelayAsync(stream, other);
    }

    // RFC 1928: CONNECT, a name or an address; a user and password (RFC 1929) where one is wanted
    private async Task SocksAsync(NetworkStream stream)
    {
        await ReadAsync(stream, (await ReadAsync(stream, 1))[0]);
        await stream.WriteAsync(new byte[] { 5, (byte)(User is null ? 0 : 2) }, Stopping);
        if (User is not null)
        {
            string user = Encoding.UTF8.GetString(await ReadAsync(stream, (await ReadAsync(stream, 2))[1]));
            string password = Encoding.UTF8.GetString(await ReadAsync(stream, (await ReadAsync(stream, 1))[0]));
            bool isLetIn = $"{user}:{password}" == User;
            await stream.WriteAsync(new byte[] { 1, (byte)(isLetIn ? 0 : 1) }, Stopping);
            if (!isLetIn)
            {
                Note("SOCKS refused");
                return;
            }
        }

        byte[] request = await ReadAsync(stream, 4);
        string host = request[3] == 3
            ? Encoding.ASCII.GetString(await ReadAsync(stream, (await ReadAsync(stream, 1))[0]))
            : new IPAddress(await ReadAsync(stream, request[3] == 1 ? 4 : 16)).ToString();
        byte[] port = await ReadAsync(stream, 2);
        Note($"SOCKS {host}:{(port[0] << 8) | port[1]}");
        using var there = new TcpClient();
        await there.ConnectAsync(IPAddress.Loopback, target, Stopping);
        await stream.WriteAsync(new byte[] { 5, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, Stopping);
        await RelayAsync(stream, there.GetStream());
    }

    private async Task RelayAsync(NetworkStream one, NetworkStream other)
    {
        Task forth = one.CopyToAsync(other, Stopping);
        Task back = other.CopyToAsync(one, Stopping);
        await await Task.WhenAny(forth, back);
    }

    private async Task<byte[]> ReadAsync(NetworkStream stream, int count)
    {
        byte[] bytes = new byte[count];
        await stream.ReadExactlyAsync(bytes, Stopping);
        return bytes;
    }

    private async Task<string> ReadHeadAsync(NetworkStream stream)
    {
        var head = new StringBuilder();
        while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            head.Append((char)(await ReadAsync(stream, 1))[0]);
        }

        return head.ToString();
    }

    private async Task AnswerAsync(NetworkStream stream, string head) =>
        await stream.WriteAsync(Encoding.Latin1.GetBytes($"HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), Stopping);

    private void Note(string line)
    {
        lock (seen)
        {
            seen.Add(line);
        }
    }
}
