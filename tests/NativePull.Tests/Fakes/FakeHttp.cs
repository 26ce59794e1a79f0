using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace NativePull.Tests.Fakes;

/// <summary>A request as a server saw it, and what became of it.</summary>
internal sealed record SeenRequest(string Server, string Method, string Path, IReadOnlyDictionary<string, string> Headers, int Connection)
{
    private long bytesSent;

    internal int Status { get; set; }

    /// <summary>Of the body.</summary>
    internal long BytesSent { get => Interlocked.Read(ref bytesSent); set => Interlocked.Exchange(ref bytesSent, value); }

    /// <summary>Answers with a blob that were under way when this one began, itself included; 0: it was none.</summary>
    internal int AtOnce { get; set; }

    /// <summary>Of a POST.</summary>
    internal string Body { get; init; } = "";

    internal string? this[string header] => Headers.GetValueOrDefault(header);

    public override string ToString() => $"{Server} {Method} {Path} {this["Range"]} -> {Status}, {BytesSent} bytes";
}

/// <summary>An answer: a stretch of some content, headers, and how to spoil it.</summary>
internal sealed record FakeAnswer(int Status, FakeContent Content)
{
    internal long From { get; init; }

    /// <summary>The offset of the first byte left out; null: none is.</summary>
    internal long? End { get; init; }

    internal Dictionary<string, string> Headers { get; init; } = new(StringComparer.OrdinalIgnoreCase);

    internal Fault Fault { get; init; } = new();

    /// <summary>Called, maybe more than once, when it is all but over: before the last piece is sent, so that whoever has that may ask again.</summary>
    internal Action? Ending { get; init; }
}

/// <summary>A small HTTP/1.1 server on a loopback port: our own, so that it can misbehave byte by byte.</summary>
internal sealed class FakeHttp : LoopbackServer
{
    private const byte TlsHandshake = 22;

    private readonly string name;
    private readonly SslStreamCertificateContext? certificate;
    private readonly Func<SeenRequest, FakeAnswer?> answer;

    /// <param name="answer">Null: the connection is closed instead.</param>
    internal FakeHttp(string name, SslStreamCertificateContext? certificate, Func<SeenRequest, FakeAnswer?> answer)
    {
        this.name = name;
        this.certificate = certificate;
        this.answer = answer;
        Start();
    }

    internal string Url => $"{(certificate is null ? "http" : "https")}://{Address}";

    /// <summary>Clients must show a certificate of this issuer; null: none is asked for.</summary>
    internal string? ClientIssuer { get; init; }

    /// <summary>But those without one are served as well.</summary>
    internal bool LetsEveryoneIn { get; init; }

    private bool AsksClients => ClientIssuer is not null;

    /// <summary>Subjects of the certificates that clients showed.</summary>
    internal List<string> ClientsSeen { get; } = [];

    /// <summary>Bytes that the kernel may hold for a client; null: as many as it likes.</summary>
    internal int? SendBuffer { get; init; }

    /// <summary>A plain server that is spoken to in TLS says nothing, instead of 400.</summary>
    internal bool IsSilentToTls { get; init; }

    private bool Shown(System.Security.Cryptography.X509Certificates.X509Certificate? certificate)
    {
        lock (ClientsSeen)
        {
            ClientsSeen.Add(certificate?.Subject ?? "");
        }

        return !AsksClients || LetsEveryoneIn || certificate?.Issuer == ClientIssuer;
    }

    protected override async Task ServeAsync(Socket client, int number)
    {
        try
        {
            using (client)
            {
                client.NoDelay = true;
                if (SendBuffer is { } size)
                {
                    client.SendBufferSize = size;
                }

                Stream stream = new NetworkStream(client, ownsSocket: true);
                if (certificate is not null)
                {
                    var tls = new SslStream(stream);
                    await tls.AuthenticateAsServerAsync(
                        new SslServerAuthenticationOptions
                        {
                            ServerCertificateContext = certificate,
                            ClientCertificateRequired = AsksClients,
                            RemoteCertificateValidationCallback = (_, shown, _, _) => Shown(shown),
                        },
                        Stopping);
                    stream = tls;
                }

                await using (stream)
                {
                    while (await AnswerNextAsync(client, stream, number))
                    {
                    }
                }
            }
        }
        catch (Exception gone) when (gone is IOException or SocketException or OperationCanceledException or ObjectDisposedException or System.Security.Authentication.AuthenticationException)
        {
            // the client went away, or the test is over
        }
    }

    // True: the connection stays open for the next request.
    private async Task<bool> AnswerNextAsync(Socket socket, Stream stream, int number)
    {
        SeenRequest? request = await ReadHeadAsync(stream, number);
        if (request is null || answer(request) is not { } given)
        {
            return false;
        }

        try
        {
            return await AnswerAsync(socket, stream, request, given);
        }
        finally
        {
            given.Ending?.Invoke();
        }
    }

    private async Task<bool> AnswerAsync(Socket socket, Stream stream, SeenRequest request, FakeAnswer given)
    {
        if (given.Fault.NoAnswer)
        {
            Reset(socket, given.Fault.Reset);
            return false;
        }

        if (given.Fault.StallAfter < 0)
        {
            await given.Fault.StallAsync(Stopping);
        }

        request.Status = given.Status;
        bool whole = await WriteAsync(stream, request, given);
        Reset(socket, !whole && given.Fault.Reset);
        return whole && request["Connection"] != "close";
    }

    private static void Reset(Socket socket, bool isDue)
    {
        if (isDue)
        {
            socket.LingerState = new LingerOption(true, 0);
            socket.Close();
        }
    }

    private async Task<SeenRequest?> ReadHeadAsync(Stream stream, int number)
    {
        var head = new StringBuilder();
        byte[] one = new byte[1];
        while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            if (await stream.ReadAsync(one, Stopping) == 0)
            {
                return null;
            }

            if (head.Length == 0 && one[0] == TlsHandshake)
            {
                await RefuseTlsAsync(stream);
                return null;
            }

            head.Append((char)one[0]);
        }

        string[] lines = head.ToString().Split("\r\n", StringSplitOptions.RemoveEmptyEntries);
        string[] first = lines[0].Split(' ');
        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (string line in lines.Skip(1))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            string value = line[(colon + 1)..].Trim();
            headers[line[..colon]] = headers.TryGetValue(line[..colon], out string? before) ? $"{before}, {value}" : value; // RFC 9110, 5.2
        }

        byte[] body = new byte[int.Parse(headers.GetValueOrDefault("Content-Length", "0"), CultureInfo.InvariantCulture)];
        await stream.ReadExactlyAsync(body, Stopping);
        return new SeenRequest(name, first[0], first[1], headers, number) { Body = Encoding.UTF8.GetString(body) };
    }

    private async Task RefuseTlsAsync(Stream stream)
    {
        if (IsSilentToTls)
        {
            await Task.Delay(Timeout.Infinite, Stopping);
        }

        await stream.WriteAsync("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"u8.ToArray(), Stopping);
    }

    // False: the connection must not be used again.
    private async Task<bool> WriteAsync(Stream stream, SeenRequest request, FakeAnswer given)
    {
        Fault fault = given.Fault;
        long length = (given.End ?? given.Content.Length) - given.From + fault.ExtraBytes - fault.MissingBytes;
        bool chunked = fault.Chunked || fault.MissingBytes > 0;
        given.Headers.TryAdd("Date", "Thu, 01 Jan 2026 00:00:00 GMT");
        if (chunked)
        {
            given.Headers["Transfer-Encoding"] = "chunked";
        }
        else
        {
            given.Headers["Content-Length"] = (fault.ContentLength ?? length).ToString(CultureInfo.InvariantCulture);
        }

        foreach ((string header, string value) in fault.Headers)
        {
            given.Headers[header] = value;
        }

        var head = new StringBuilder($"HTTP/1.1 {given.Status} {(HttpStatusCode)given.Status}\r\n");
        foreach ((string header, string value) in given.Headers.Where(header => header.Value.Length > 0))
        {
            head.Append(CultureInfo.InvariantCulture, $"{header}: {value}\r\n");
        }

        await stream.WriteAsync(Encoding.Latin1.GetBytes(head.Append("\r\n").ToString()), Stopping);
        if (request.Method == "HEAD")
        {
            return true;
        }

        bool whole = await WriteBodyAsync(stream, request, given, length, chunked);
        return whole && (fault.ContentLength is null || fault.ContentLength == length);
    }

    private async Task<bool> WriteBodyAsync(Stream stream, SeenRequest request, FakeAnswer given, long length, bool chunked)
    {
        Fault fault = given.Fault;
        byte[] buffer = new byte[64 * 1024];
        long sent = 0;
        while (sent < length || fault.StallAfter == sent || fault.CutAfter == sent)
        {
            if (fault.StallAfter == sent)
            {
                await stream.FlushAsync(Stopping);
                await fault.StallAsync(Stopping);
                if (sent == length)
                {
                    break;
                }
            }

            if (fault.CutAfter == sent)
            {
                return false;
            }

            int count = (int)new[] { buffer.Length, length - sent, (fault.CutAfter ?? long.MaxValue) - sent, fault.StallAfter > sent ? fault.StallAfter.Value - sent : long.MaxValue }.Min();
            Fill(given, given.From + sent, buffer.AsSpan(0, count));
            sent += count;
            if (sent == length)
            {
                given.Ending?.Invoke();
            }

            request.BytesSent = sent; // before the client can have them, so that a test may look as soon as it has
            if (chunked)
            {
                await stream.WriteAsync(Encoding.ASCII.GetBytes($"{count:x}\r\n"), Stopping);
            }

            await stream.WriteAsync(buffer.AsMemory(0, count), Stopping);
            if (chunked)
            {
                await stream.WriteAsync("\r\n"u8.ToArray(), Stopping);
            }

        }

        if (chunked)
        {
            await stream.WriteAsync("0\r\n\r\n"u8.ToArray(), Stopping);
        }

        return true;
    }

    private static void Fill(FakeAnswer given, long offset, Span<byte> buffer)
    {
        buffer.Fill((byte)'+');
        int own = (int)Math.Clamp(given.Content.Length - offset, 0, buffer.Length);
        if (own > 0)
        {
            given.Content.Read(offset, buffer[..own]);
        }

        if (given.Fault.WrongByteAt is { } wrong && wrong >= offset && wrong < offset + buffer.Length)
        {
            buffer[(int)(wrong - offset)] ^= 0xFF;
        }
    }
}
