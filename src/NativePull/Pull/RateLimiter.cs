namespace NativePull.Pull;

/// <summary>Holds all downloads together to a number of bytes per second, by making each wait for the time its bytes are worth.</summary>
internal sealed class RateLimiter(long bytesPerSecond, TimeProvider clock)
{
    private readonly Lock gate = new();
    private readonly long started = clock.GetTimestamp();
    private double paidUntilSeconds;

    internal async ValueTask PayAsync(int bytes, CancellationToken token)
    {
        TimeSpan wait;
        lock (gate)
        {
            double now = clock.GetElapsedTime(started).TotalSeconds;
            paidUntilSeconds = Math.Max(paidUntilSeconds, now) + ((double)bytes / bytesPerSecond);
            wait = TimeSpan.FromSeconds(paidUntilSeconds - now);
        }

        // shorter pauses than a timer can keep are saved up for the next call
        if (wait > TimeSpan.FromMilliseconds(20))
        {
            await Task.Delay(wait, clock, token);
        }
    }
}
