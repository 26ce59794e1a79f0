namespace NativePull.Pull;

/// <summary>
/// How many connections a pull uses at once, over all of its blobs: more while more bring more. It measures what arrives, lets the number
/// double, measures again, and goes back where that was not worth it; then it leaves things alone for a while. What takes little time anyway
/// is not worth a trial.
/// </summary>
/// <param name="most">Connections, 1 or more.</param>
/// <param name="pending">Bytes still to be fetched by this pull when it begins.</param>
/// <param name="atFirst">Connections taken to be of use before anything is measured.</param>
internal sealed class ConnectionBudget(int most, long pending, TimeProvider clock, int atFirst = 1)
{
    // Long enough for a rate that means something, short enough that all steps are over within two seconds.
    private static readonly TimeSpan Window = TimeSpan.FromMilliseconds(250);

    // Pieces of a window; at a slow rate it lasts longer.
    private const int Pieces = 12;

    // A connection that has not brought its first byte after so long is counted as one that brings nothing.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan FirstRest = TimeSpan.FromSeconds(8);

    // Seconds at the present rate; what is over sooner stays as it is.
    private const double WorthIt = 3;

    // Bytes per second of one connection; one that brings more is no longer held back by anybody's limit, but by this machine, which then has
    // better things to do than to hash behind several (measured: 1 GB over loopback, both cores busy, took twice as long).
    private const double Plain = 120_000_000;

    // Of what the additional connections would bring if each brought as much as those before, this much must come.
    private const double Enough = 0.3;

    // And where this much comes, the next step is from n to 4n instead of 2n.
    private const double Plenty = 0.8;

    private readonly Lock gate = new();
    private int limit = atFirst;
    private int active;
    private int silent; // connections added that have not brought a byte yet
    private long bytes; // of this window
    private int pieces;
    private long left = pending;
    private long windowStart = clock.GetTimestamp();
    private int activeAtStart;
    private double rate; // bytes per second in the last whole window
    private Trial? trial;
    private long restUntil = long.MinValue;
    private TimeSpan rest = FirstRest;

    /// <summary>Called, outside of any lock, when more may be done at once.</summary>
    internal Action? Raised { get; set; }

    /// <summary>Connections that are of use, as far as is known or being tried.</summary>
    internal int Limit
    {
        get
        {
            lock (gate)
            {
                return limit;
            }
        }
    }

    /// <summary>Bytes per second that one connection brought in the last measurement; 0 before the first.</summary>
    internal double RateOfOne
    {
        get
        {
            lock (gate)
            {
                return rate / Math.Max(1, active);
            }
        }
    }

    /// <summary>More than one connection was tried, or is going to be: the measurements ask for one.</summary>
    internal bool HasRoom
    {
        get
        {
            lock (gate)
            {
                return active < limit;
            }
        }
    }

    /// <summary>There are more than are of use: one that comes to a good end should not begin again.</summary>
    internal bool IsOver
    {
        get
        {
            lock (gate)
            {
                return active > limit;
            }
        }
    }

    /// <summary>A blob's first connection, which is not asked about here.</summary>
    internal void Enter()
    {
        lock (gate)
        {
            active++;
        }
    }

    /// <summary>A further connection for a blob; false: not now.</summary>
    internal bool TryAdd()
    {
        lock (gate)
        {
            if (active >= limit)
            {
                return false;
            }

            active++;
            silent++;
            return true;
        }
    }

    /// <summary>A connection that <see cref="TryAdd"/> allowed has brought its first bytes, or never will.</summary>
    internal void Heard()
    {
        lock (gate)
        {
            silent--;
        }
    }

    internal void Leave()
    {
        lock (gate)
        {
            active--;
        }
    }

    /// <summary>A further connection failed: a registry that limits their number is not asked again soon.</summary>
    internal void Failed()
    {
        lock (gate)
        {
            trial = null;
            limit = Math.Max(1, active - 1);
            Rest();
        }
    }

    internal void Received(int count)
    {
        bool raised = false;
        lock (gate)
        {
            bytes += count;
            pieces++;
            left -= count;
            TimeSpan time = clock.GetElapsedTime(windowStart);
            if (time >= Window && pieces >= Pieces)
            {
                int before = limit;
                rate = bytes / time.TotalSeconds;
                if (active == activeAtStart)
                {
                    Judge();
                }

                activeAtStart = active;
                bytes = 0;
                pieces = 0;
                windowStart = clock.GetTimestamp();
                raised = limit > before;
            }
        }

        if (raised)
        {
            Raised?.Invoke();
        }
    }

    // A window in which as many connections ended as began with it.
    private void Judge()
    {
        if (trial is null)
        {
            TryMore(2);
            return;
        }

        if (silent > 0 && clock.GetElapsedTime(trial.Since) < Patience)
        {
            return;
        }

        if (!trial.IsSettled)
        {
            // one window for slow start, in which they do not bring what they can yet
            trial = trial with { IsSettled = true };
            return;
        }

        int more = active - trial.Connections;
        double share = more > 0 ? (rate / trial.Rate - 1) * trial.Connections / more : 0; // of what they would bring at the rate of those before
        bool worthIt = share >= Enough;
        limit = worthIt ? active : trial.Connections;
        trial = null;
        if (worthIt)
        {
            rest = FirstRest;
            TryMore(share >= Plenty ? 4 : 2);
        }
        else
        {
            Rest();
        }
    }

    private void TryMore(int times)
    {
        if (active < 1 || active >= most || left < rate * WorthIt || rate > Plain * active || clock.GetTimestamp() < restUntil)
        {
            return;
        }

        trial = new Trial(active, rate, clock.GetTimestamp(), false);
        limit = Math.Min(most, active * times);
    }

    // Each time twice as long: a network that has not changed in a minute seldom does.
    private void Rest()
    {
        restUntil = clock.GetTimestamp() + (long)(rest.TotalSeconds * clock.TimestampFrequency);
        rest *= 2;
    }

    /// <param name="Connections">Before.</param>
    /// <param name="Rate">Before, bytes per second.</param>
    private sealed record Trial(int Connections, double Rate, long Since, bool IsSettled);
}
