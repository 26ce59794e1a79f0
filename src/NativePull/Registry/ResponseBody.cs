using NativePull.IO;

namespace NativePull.Registry;

/// <summary>
/// The bytes of one answer. Silence, a trickle and broken connections come out as <see cref="RegistryException"/>, an early end too where
/// the answer told its length.
/// </summary>
internal sealed class ResponseBody(HttpResponseMessage response, Uri address, RegistryOptions options) : ReadOnlyStream
{
    private readonly Stream inner = response.Content.ReadAsStream();
    private readonly StallGuard guard = new(options.Clock, options.StallTimeout);
    private TimeSpan waited; // of this window; only the time a read takes counts, for a reader may be slow on purpose
    private long received;
    private RegistryException? tooSlow; // thrown by the next read, for the bytes of this one are good

    /// <exception cref="RegistryException">Stalled or Unavailable, transient.</exception>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (tooSlow is not null)
        {
            throw tooSlow;
        }

        using StallGuard.Wait wait = guard.Begin(cancellationToken);
        try
        {
            long begun = options.Clock.GetTimestamp();
            int read = await inner.ReadAsync(buffer, guard.Token);
            CheckRate(options.Clock.GetElapsedTime(begun), read);
            return read;
        }
        catch (Exception failure) when (NetworkFailure.Is(failure))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw NetworkFailure.Of(failure, address, guard.Token.IsCancellationRequested, options);
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(Span<byte> buffer) => throw new NotSupportedException();

    private void CheckRate(TimeSpan time, int bytes)
    {
        waited += time;
        received += bytes;
        if (waited < options.StallTimeout)
        {
            return;
        }

        if (bytes > 0 && received < options.MinimumRate * options.StallTimeout.TotalSeconds)
        {
            tooSlow = NetworkFailure.TooSlow(address, received, options);
        }

        (waited, received) = (TimeSpan.Zero, 0);
    }

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
