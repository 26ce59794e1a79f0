namespace NativePull.Store;

/// <summary>Bytes from Start up to, but not with, End.</summary>
internal readonly record struct ByteRange(long Start, long End)
{
    internal long Length => End - Start;
}

/// <summary>A set of bytes as disjoint ranges in order; those that touch are one. Few: one per connection and one per hole an earlier run left.</summary>
internal sealed class ByteRanges
{
    private readonly List<ByteRange> ranges = [];

    /// <summary>How far the bytes go from the first on without a hole.</summary>
    internal long Prefix => ranges.Count > 0 && ranges[0].Start == 0 ? ranges[0].End : 0;

    internal long Total { get; private set; }

    internal void Add(ByteRange added)
    {
        if (added.Length <= 0)
        {
            return;
        }

        int at = ranges.FindIndex(range => range.End >= added.Start);
        at = at < 0 ? ranges.Count : at;
        while (at < ranges.Count && ranges[at].Start <= added.End)
        {
            added = new ByteRange(Math.Min(added.Start, ranges[at].Start), Math.Max(added.End, ranges[at].End));
            Total -= ranges[at].Length;
            ranges.RemoveAt(at);
        }

        ranges.Insert(at, added);
        Total += added.Length;
    }

    /// <summary>Leaves what is before.</summary>
    internal void RemoveFrom(long start)
    {
        ByteRange[] kept = [.. ranges.Where(range => range.Start < start).Select(range => range with { End = Math.Min(range.End, start) })];
        ranges.Clear();
        ranges.AddRange(kept);
        Total = kept.Sum(range => range.Length);
    }

    /// <summary>What is not in the set, below <paramref name="size"/>.</summary>
    internal List<ByteRange> Gaps(long size)
    {
        List<ByteRange> gaps = [];
        long at = 0;
        foreach (ByteRange range in ranges.Append(new ByteRange(size, size)))
        {
            if (range.Start > at)
            {
                gaps.Add(new ByteRange(at, range.Start));
            }

            at = range.End;
        }

        return gaps;
    }
}
