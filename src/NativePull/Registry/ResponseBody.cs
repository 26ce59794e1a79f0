namespace NativePull.Registry;

/// <summary>
/// The bytes of one answer. Silence and broken connections come out as <see cref="RegistryException"/>, an early end too where
/// the answer told its length.
/// </summary>
internal sealed class ResponseBody(HttpResponseMessage response, Uri address, RegistryOptions options) : Stream
{
    private readonly Stream inner = response.Content.ReadAsStream();
    private readonly StallGuard guard = new(options.Clock, options.StallTimeout);

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    /// <exception cref="RegistryException">Stalled or Unavailable, transient.</exception>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        using StallGuard.Wait wait = guard.Begin(cancellationToken);
        try
        {
            return await inner.ReadAsync(buffer, guard.Token);
        }
        catch (Exception failure) when (NetworkFailure.Is(failure))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw NetworkFailure.Of(failure, address, guard.Token.IsCancellationRequested, options);
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush() { }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
            response.Dispose();
            guard.Dispose();
        }

        base.Dispose(disposing);
    }
}
