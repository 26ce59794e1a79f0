using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>One connection's stretch of a blob. The places are changed under the plan's lock alone.</summary>
internal sealed class Lane
{
    internal long Position { get; set; }

    internal long End { get; set; }

    /// <summary>Null: the stretch has not been asked for yet.</summary>
    internal BlobReader? Reader { get; set; }

    /// <summary>The reader ends where the stretch did when it was opened; else at the blob's end.</summary>
    internal bool IsStretch { get; set; }

    /// <summary>The reader gives up quickly.</summary>
    internal bool IsBrief { get; set; }

    internal async ValueTask CloseAsync()
    {
        if (Reader is not null)
        {
            await Reader.DisposeAsync();
            Reader = null;
            IsStretch = false;
        }
    }
}

/// <summary>Who fetches which bytes of one blob: every missing byte is in one lane's stretch or in the list of what is still to be given out.</summary>
internal sealed class LanePlan(IEnumerable<ByteRange> gaps)
{
    // Bytes. A stretch takes about two seconds, so that asking for it costs little and none is far behind the others, within these limits.
    private const double SecondsOfStretch = 2;
    private const long SmallestStretch = 1024 * 1024;
    private const long LargestStretch = 64 * 1024 * 1024;

    // Bytes; cutting a stretch short costs its connection.
    private const long WorthCutting = 8 * 1024 * 1024;

    private readonly Lock gate = new();
    private readonly List<ByteRange> free = [.. gaps];
    private readonly List<Lane> lanes = [];

    internal bool HasFree
    {
        get
        {
            lock (gate)
            {
                return free.Count > 0;
            }
        }
    }

    /// <summary>A lane that is under way already, up to the end of the gap it is in.</summary>
    internal void Adopt(Lane lane)
    {
        lock (gate)
        {
            lanes.Add(lane);
            lane.End = free[0].End;
            free.RemoveAt(0);
        }
    }

    /// <summary>Sees to it that there is something for one lane more; false: it would not be worth it.</summary>
    internal bool MakeRoom(double rateOfOne)
    {
        lock (gate)
        {
            if (free.Sum(gap => gap.Length) >= WorthCutting)
            {
                return true;
            }

            if (free.Count > 0 || lanes.MaxBy(lane => lane.End - lane.Position) is not { } longest || longest.End - longest.Position < WorthCutting)
            {
                return false;
            }

            // the longest keeps what comes next, and half at most
            long kept = Math.Min(Stretch(rateOfOne), (longest.End - longest.Position) / 2);
            Cut(longest, longest.Position + kept);
            return true;
        }
    }

    /// <summary>Gives the lane its next stretch; false: there is none.</summary>
    internal bool TryTake(Lane lane, int count, double rateOfOne)
    {
        lock (gate)
        {
            lanes.Remove(lane);
            if (free.Count == 0)
            {
                if (lanes.MaxBy(other => other.End - other.Position) is not { } longest || longest.End - longest.Position < WorthCutting)
                {
                    return false;
                }

                Cut(longest, longest.Position + ((longest.End - longest.Position) / 2));
            }

            ByteRange gap = free[0];
            // towards the end shorter, so that all end together; alone, everything up to what is held
            long fair = Math.Max(Stretch(rateOfOne / 4), free.Sum(range => range.Length) / (2 * count));
            long length = count == 1 ? gap.Length : Math.Min(Stretch(rateOfOne), fair);
            length = gap.Length - length < SmallestStretch ? gap.Length : length;
            free[0] = gap with { Start = gap.Start + length };
            if (free[0].Length == 0)
            {
                free.RemoveAt(0);
            }

            lane.Position = gap.Start;
            lane.End = gap.Start + length;
            lanes.Add(lane);
            return true;
        }
    }

    /// <summary>How many bytes the lane may read next; 0: its stretch is done. What is cut off a lane is never among these.</summary>
    internal int Claim(Lane lane, int most)
    {
        lock (gate)
        {
            return (int)Math.Min(most, lane.End - lane.Position);
        }
    }

    internal void Advance(Lane lane, int count)
    {
        lock (gate)
        {
            lane.Position += count;
        }
    }

    /// <summary>What the lane has not fetched is there for others.</summary>
    internal void GiveBack(Lane lane)
    {
        lock (gate)
        {
            lanes.Remove(lane);
            Cut(lane, lane.Position);
        }
    }

    /// <summary>A lane whose answer goes on to the blob's end takes back what was cut off it, as far as nobody else has it.</summary>
    internal void Regrow(Lane lane)
    {
        lock (gate)
        {
            if (lane.Reader is not null && !lane.IsStretch && free.Count > 0 && free[0].Start == lane.End)
            {
                lane.End = free[0].End;
                free.RemoveAt(0);
            }
        }
    }

    /// <summary>One lane for everything that is left.</summary>
    internal void Restart(Lane lane, ByteRange all)
    {
        lock (gate)
        {
            free.Clear();
            lanes.Clear();
            lanes.Add(lane);
            (lane.Position, lane.End) = (all.Start, all.End);
        }
    }

    private static long Stretch(double rateOfOne) => Math.Clamp((long)(rateOfOne * SecondsOfStretch), SmallestStretch, LargestStretch);

    private void Cut(Lane lane, long end)
    {
        if (end < lane.End)
        {
            int at = free.FindIndex(gap => gap.Start >= lane.End);
            at = at < 0 ? free.Count : at;
            ByteRange cut = new(end, lane.End);
            if (at < free.Count && free[at].Start == cut.End)
            {
                free[at] = cut with { End = free[at].End };
            }
            else
            {
                free.Insert(at, cut);
            }
        }

        lane.End = end;
    }
}
