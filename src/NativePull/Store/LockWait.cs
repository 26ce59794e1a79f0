using System.Globalization;

namespace NativePull.Store;

/// <summary>Waiting for another process: without end while what it works on changes, else for the lock time-out.</summary>
/// <param name="progress">A number that changes while the other process gets on.</param>
internal sealed class LockWait(StoreOptions options, string what, Func<long> progress)
{
    private long since = options.Clock.GetTimestamp();
    private long seen = progress();

    /// <exception cref="PullException">Locked.</exception>
    internal async Task OnceMoreAsync(CancellationToken token)
    {
        long now = progress();
        if (now != seen)
        {
            seen = now;
            since = options.Clock.GetTimestamp();
        }

        if (options.Clock.GetElapsedTime(since) > options.LockTimeout)
        {
            throw new PullException(
                PullError.Locked,
                $"{what} is held by another process, which made no progress for {options.LockTimeout.TotalSeconds.ToString(CultureInfo.InvariantCulture)} s");
        }

        await Task.Delay(options.LockPoll, options.Clock, token);
    }
}
