using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;

namespace NativePull.Registry;

/// <summary>
/// The base address of one registry. For a loopback registry that nobody said anything about it finds out, once, whether the
/// peer speaks TLS at all; a peer that does is never spoken to without.
/// </summary>
internal sealed class Endpoint(RegistryAddress address, Dialer dialer, RegistryOptions options) : IDisposable
{
    private const byte TlsHandshake = 22; // RFC 8446, 5.1: ContentType
    private const byte TlsAlert = 21;

    private static readonly TimeSpan Ample = TimeSpan.FromSeconds(3);

    // A server of plain HTTP may wait for the rest of what it takes for a request. Both sides are one machine: it need not be long.
    private readonly TimeSpan longestSilence = options.ConnectTimeout < Ample ? options.ConnectTimeout : Ample;

    private readonly SemaphoreSlim turn = new(1);
    private Uri? found;

    /// <exception cref="System.Net.Sockets.SocketException">Nobody listens there.</exception>
    internal async Task<Uri> FindAsync(CancellationToken token)
    {
        if (address.Plain is null)
        {
            return address.Base;
        }

        await turn.WaitAsync(token);
        try
        {
            return found ??= await SpeaksTlsAsync(address.Base, token) ? address.Base : address.Plain;
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>What messages show before it is known.</summary>
    internal Uri Presumed => found ?? address.Base;

    public void Dispose() => turn.Dispose();

    // Any answer in TLS counts, an alert as well: whether the peer is to be trusted is decided by the connection that is used.
    private async Task<bool> SpeaksTlsAsync(Uri peer, CancellationToken token)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(token);
        limit.CancelAfter(longestSilence);
        var answer = new FirstByte(await dialer.ConnectAsync(new DnsEndPoint(peer.IdnHost, peer.Port), limit.Token));
        await using var tls = new SslStream(answer);
        try
        {
            await tls.AuthenticateAsClientAsync(Options(peer), limit.Token);
        }
        catch (Exception failed) when (failed is AuthenticationException or IOException or OperationCanceledException)
        {
            token.ThrowIfCancellationRequested(); // else the first byte has told what there is to know
        }

        return answer.Value is TlsHandshake or TlsAlert;
    }

    private static SslClientAuthenticationOptions Options(Uri peer) => new()
    {
        TargetHost = peer.IdnHost,
#pragma warning disable CA5359 // only the kind of the answer is looked at; nothing is sent or read over this connection
        RemoteCertificateValidationCallback = (_, _, _, _) => true,
#pragma warning restore CA5359
        CertificateChainPolicy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        },
    };

    /// <summary>Passes bytes on and remembers the first that came in.</summary>
    private sealed class FirstByte(Stream inner) : Stream
    {
        internal int? Value { get; private set; }

        public override bool CanRead => true;

        public override bool CanWrite => true;

        public override bool CanSeek => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            int read = await inner.ReadAsync(buffer, cancellationToken);
            if (read > 0)
            {
                Value ??= buffer.Span[0];
            }

            return read;
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => inner.WriteAsync(buffer, cancellationToken);

        public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Flush() => inner.Flush();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                inner.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}
