namespace NativePull.Registry;

/// <summary>A token that is cancelled by its caller, or by the silence of a peer; it remembers which.</summary>
internal sealed class StallGuard(TimeProvider clock, TimeSpan limit) : IDisposable
{
    private readonly CancellationTokenSource source = new(Timeout.InfiniteTimeSpan, clock);

    internal CancellationToken Token => source.Token;

    /// <summary>Starts to wait for a sign of the peer. Dispose the result when it came.</summary>
    internal Wait Begin(CancellationToken caller)
    {
        source.CancelAfter(limit);
        return new Wait(source, caller.UnsafeRegister(static guard => ((CancellationTokenSource)guard!).Cancel(), source));
    }

    public void Dispose() => source.Dispose();

    internal readonly struct Wait(CancellationTokenSource source, CancellationTokenRegistration caller) : IDisposable
    {
        public void Dispose()
        {
            caller.Dispose();
            source.CancelAfter(Timeout.InfiniteTimeSpan);
        }
    }
}
