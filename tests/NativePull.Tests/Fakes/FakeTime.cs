namespace NativePull.Tests.Fakes;

/// <summary>
/// A clock on which nothing waits: a wait shorter than <see cref="GuardFrom"/> is over at once and recorded, and the time has passed.
/// Longer ones are guards against silence; they go off when a test says so.
/// </summary>
internal sealed class FakeTime : TimeProvider
{
    private readonly Lock gate = new();
    private readonly List<Timer> guards = [];
    private readonly List<TimeSpan> waits = [];
    private TimeSpan passed;

    /// <summary>Give guards at least this.</summary>
    internal static readonly TimeSpan GuardFrom = TimeSpan.FromHours(1);

    internal static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    internal IReadOnlyList<TimeSpan> Waits
    {
        get
        {
            lock (gate)
            {
                return [.. waits];
            }
        }
    }

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow() => Start + Passed();

    public override long GetTimestamp() => Passed().Ticks;

    internal void Advance(TimeSpan time)
    {
        lock (gate)
        {
            passed += time;
        }
    }

    /// <summary>Every guard that is waiting goes off.</summary>
    internal void ExpireGuards()
    {
        Timer[] due;
        lock (gate)
        {
            due = [.. guards];
            guards.Clear();
        }

        foreach (Timer timer in due)
        {
            timer.Fire();
        }
    }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new Timer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    private TimeSpan Passed()
    {
        lock (gate)
        {
            return passed;
        }
    }

    private sealed class Timer(FakeTime time, TimerCallback callback, object? state) : ITimer
    {
        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (time.gate)
            {
                time.guards.Remove(this);
                if (dueTime == Timeout.InfiniteTimeSpan)
                {
                    return true;
                }

                if (dueTime >= GuardFrom)
                {
                    time.guards.Add(this);
                    return true;
                }

                time.waits.Add(dueTime);
                time.passed += dueTime;
            }

            ThreadPool.QueueUserWorkItem(_ => Fire());
            return true;
        }

        public void Dispose()
        {
            lock (time.gate)
            {
                time.guards.Remove(this);
            }
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }

        internal void Fire() => callback(state);
    }
}
