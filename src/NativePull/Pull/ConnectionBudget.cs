namespace NativePull.Pull;

/// <summary>
/// How many connections a pull uses at once, over all of its blobs: more while more bring more, fewer where fewer bring as much. It measures
/// what arrives, lets the number double, measures again, and goes back where that was not worth it; where it brought nothing at all, it takes
/// one away after the other until that is felt. Then it leaves things alone for a while. What takes little time anyway is not worth a trial.
/// A server that refuses one while it serves others gets fewer, and from then on one more at a time.
/// </summary>
/// <param name="most">Connections, 1 or more.</param>
/// <param name="pending">Bytes still to be fetched by this pull when it begins.</param>
/// <param name="atFirst">Connections taken to be of use before anything is measured.</param>
/// <param name="blobsAtFirst">Blobs at once until something was measured that says otherwise.</param>
internal sealed class ConnectionBudget(int most, long pending, TimeProvider clock, int atFirst = 1, int blobsAtFirst = 1)
{
    // Long enough for a rate that means something, short enough that all steps are over within two seconds.
    private static readonly TimeSpan Window = TimeSpan.FromMilliseconds(250);

    // Pieces of a window; at a slow rate it lasts longer.
    private const int Pieces = 12;

    // A connection that has not brought its first byte after so long is counted as one that brings nothing.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    // So long a step down may wait for one of the connections to come to its end.
    private static readonly TimeSpan Forbearance = TimeSpan.FromSeconds(30);

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

    // Of what a connection brings on the average, less than this may be missed where there is one fewer: what is measured is no better than that.
    private const double Nothing = 0.15;

    // And of the rate that there was before the first was taken away, this much must be left.
    private const double Still = 0.93;

    private readonly Lock gate = new();
    private int limit = atFirst;
    private int blobs = blobsAtFirst;
    private int active;
    private int extras; // of those, the ones that TryAdd allowed
    private bool isHard; // more than the limit were refused by the server, so it is kept to the letter
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

    /// <summary>Whether another blob may begin.</summary>
    /// <param name="running">Blobs that have begun and not ended.</param>
    internal bool Admits(int running)
    {
        lock (gate)
        {
            // further connections of blobs under way make room by themselves; a server that refuses does not wait for it
            return running + (isHard ? extras : 0) < Math.Max(limit, blobs);
        }
    }

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
            extras++;
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

    /// <summary>The end of what <see cref="Enter"/> began.</summary>
    internal void Leave()
    {
        lock (gate)
        {
            active--;
        }
    }

    /// <summary>The end of what <see cref="TryAdd"/> began.</summary>
    internal void LeaveExtra()
    {
        bool mayAdmit;
        lock (gate)
        {
            active--;
            extras--;
            mayAdmit = isHard;
        }

        if (mayAdmit)
        {
            Raised?.Invoke();
        }
    }

    /// <summary>A further connection failed: it is not tried again soon.</summary>
    /// <param name="isRefused">It was not given, rather than of no use: then fewer blobs are begun as well.</param>
    internal void Failed(bool isRefused)
    {
        lock (gate)
        {
            Fewer(isRefused);
        }
    }

    /// <summary>
    /// A blob's first connection was refused. Where there are others it leaves (and comes back by <see cref="Enter"/>), for there may be one
    /// too many; false: there is no other, so that cannot be it.
    /// </summary>
    /// <param name="pause">For so long the server wants to be asked for no more; null: it did not say.</param>
    internal bool TryGiveWay(TimeSpan? pause)
    {
        lock (gate)
        {
            if (active < 2)
            {
                return false;
            }

            Fewer(isRefused: true);
            active--;
            restUntil = Math.Max(restUntil, After(pause ?? TimeSpan.Zero));
            return true;
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

    private void Fewer(bool isRefused)
    {
        blobs = isRefused ? 1 : blobs;
        isHard |= isRefused;
        EndTrial(Math.Max(1, active - 1));
    }

    // A window in which as many connections ended as began with it.
    private void Judge()
    {
        switch (trial)
        {
            case null when clock.GetTimestamp() < restUntil:
                break;
            case null:
                _ = TryMore(2) || TryFewer(active, rate, rate);
                break;
            case { IsFewer: true }:
                JudgeFewer(trial);
                break;
            default:
                JudgeMore(trial);
                break;
        }
    }

    private void JudgeMore(Trial tried)
    {
        if (silent > 0 && clock.GetElapsedTime(tried.Since) < Patience)
        {
            return;
        }

        if (!tried.IsSettled)
        {
            // one window for slow start, in which they do not bring what they can yet
            trial = tried with { IsSettled = true };
            return;
        }

        int more = active - tried.Connections;
        double share = more > 0 ? (rate / tried.Rate - 1) * tried.Connections / more : 0; // of what they would bring at the rate of those before
        bool worthIt = share >= Enough;
        limit = worthIt ? active : tried.Connections;
        trial = null;
        rest = worthIt ? FirstRest : rest;
        if (worthIt ? !TryMore(share >= Plenty ? 4 : 2) : share >= Nothing || !TryFewer(tried.Connections, tried.Rate, tried.Rate))
        {
            Rest();
        }
    }

    private void JudgeFewer(Trial tried)
    {
        if (active > tried.Top || clock.GetElapsedTime(tried.Since) > Forbearance)
        {
            // more are at work than there were, or none comes to its end: some other time
            EndTrial(Math.Max(tried.Connections, active));
            return;
        }

        if (active >= tried.Connections)
        {
            // what those before bring is what it will be compared with
            trial = tried with { Top = active, Rate = active == tried.Connections ? rate : tried.Rate };
            return;
        }

        if (!tried.IsSettled)
        {
            // one window in which the others take what has become free
            trial = tried with { IsSettled = true };
            return;
        }

        double missed = (1 - rate / tried.Rate) * tried.Connections / (tried.Connections - active);
        bool isMissed = missed >= Nothing || rate < tried.Best * Still;
        if (isMissed || !TryFewer(active, rate, tried.Best))
        {
            EndTrial(isMissed ? tried.Connections : active);
        }
    }

    private bool TryMore(int times)
    {
        if (!IsWorthATrial() || active >= most)
        {
            return false;
        }

        trial = new Trial(active, rate, clock.GetTimestamp());
        limit = Math.Min(most, isHard ? active + 1 : active * times);
        return true;
    }

    // One at a time: nobody is sent away, so a step takes until one has come to its end, and it should cost little should it be wrong.
    private bool TryFewer(int connections, double before, double best)
    {
        if (!IsWorthATrial() || connections < 2)
        {
            return false;
        }

        trial = new Trial(connections, before, clock.GetTimestamp()) { IsFewer = true, Top = active, Best = best };
        limit = connections - 1;
        blobs = 1;
        return true;
    }

    private bool IsWorthATrial() => active > 0 && left >= rate * WorthIt && rate <= Plain * active;

    private void EndTrial(int result)
    {
        trial = null;
        limit = result;
        Rest();
    }

    // Each time twice as long: a network that has not changed in a minute seldom does.
    private void Rest()
    {
        restUntil = After(rest);
        rest *= 2;
    }

    private long After(TimeSpan time) => clock.GetTimestamp() + (long)(time.TotalSeconds * clock.TimestampFrequency);

    /// <param name="Connections">Before.</param>
    /// <param name="Rate">Before, bytes per second.</param>
    /// <param name="Since">Timestamp.</param>
    private sealed record Trial(int Connections, double Rate, long Since)
    {
        internal bool IsSettled { get; init; }

        /// <summary>One is taken away; else some are added.</summary>
        internal bool IsFewer { get; init; }

        /// <summary>The most connections that may be at work yet.</summary>
        internal int Top { get; init; }

        /// <summary>Bytes per second before the first of several was taken away.</summary>
        internal double Best { get; init; }
    }
}
