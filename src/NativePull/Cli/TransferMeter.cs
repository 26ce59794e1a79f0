using System.Globalization;
using System.Text;
using NativePull.Oci;

namespace NativePull.Cli;

/// <summary>Where every active blob stands, how fast it moves, and how that looks as bars or as one line. Not thread-safe.</summary>
internal sealed class TransferMeter(TimeProvider clock)
{
    private const int BarWidth = 24;

    // Seconds; long enough to be calm, short enough to follow a change.
    private const double RateWindow = 3;

    private readonly List<Transfer> active = [];
    private readonly Dictionary<Digest, Transfer> all = [];

    /// <summary>Bytes of the whole plan.</summary>
    internal long Total { get; set; }

    internal void Start(Descriptor blob, long offset)
    {
        Transfer transfer = new(blob, offset, clock.GetTimestamp());
        active.Add(transfer);
        all[blob.Digest] = transfer;
    }

    internal void Move(Descriptor blob, long offset)
    {
        if (all.TryGetValue(blob.Digest, out Transfer? transfer))
        {
            transfer.Offset = offset;
        }
    }

    internal void Finish(Descriptor blob)
    {
        if (all.TryGetValue(blob.Digest, out Transfer? transfer))
        {
            transfer.Offset = blob.Size;
            active.Remove(transfer);
        }
        else
        {
            all[blob.Digest] = new Transfer(blob, blob.Size, clock.GetTimestamp());
        }
    }

    /// <summary>Nothing moves any more.</summary>
    internal void Stop() => active.Clear();

    /// <summary>One line a blob that is moving, and one for the whole; nothing where nothing moves.</summary>
    /// <param name="columns">Characters a line may have: one that wraps could not be drawn over.</param>
    internal IReadOnlyList<string> Draw(int columns)
    {
        if (active.Count == 0)
        {
            return [];
        }

        List<string> bars = [.. active.Select(transfer => Bar(transfer.Blob.Digest.Short, transfer.Offset, transfer.Blob.Size, Rate(transfer)))];
        bars.Add(Bar("total".PadRight(12), Done, Math.Max(Total, Done), active.Sum(Rate)));
        return [.. bars.Select(bar => bar.Length > columns ? bar[..columns] : bar)];
    }

    /// <summary>The same in one plain line; null where nothing moves.</summary>
    internal string? Summary() => active.Count == 0
        ? null
        : $"{Values.Size(Done)} of {Values.Size(Math.Max(Total, Done))}, {Values.Size((long)active.Sum(Rate))}/s, {active.Count.ToString(CultureInfo.InvariantCulture)} active";

    private long Done => all.Values.Sum(transfer => transfer.Offset);

    private double Rate(Transfer transfer)
    {
        double seconds = clock.GetElapsedTime(transfer.SampledAt).TotalSeconds;
        if (seconds >= RateWindow)
        {
            transfer.Rate = (transfer.Offset - transfer.SampledOffset) / seconds;
            transfer.SampledAt = clock.GetTimestamp();
            transfer.SampledOffset = transfer.Offset;
        }
        else if (transfer.Rate == 0 && seconds > 0)
        {
            return (transfer.Offset - transfer.SampledOffset) / seconds;
        }

        return transfer.Rate;
    }

    private static string Bar(string name, long offset, long size, double rate)
    {
        int filled = size == 0 ? BarWidth : (int)(offset * BarWidth / size);
        StringBuilder line = new();
        line.Append(name).Append(" [").Append('#', filled).Append('.', BarWidth - filled).Append("] ");
        line.Append(CultureInfo.InvariantCulture, $"{Values.Size(offset),8} / {Values.Size(size),-8} {Values.Size((long)rate),8}/s");
        if (rate > 1 && offset < size)
        {
            TimeSpan left = TimeSpan.FromSeconds(Math.Min((size - offset) / rate, 359999));
            line.Append(CultureInfo.InvariantCulture, $" {(int)left.TotalMinutes}:{left.Seconds:00} left");
        }

        return line.ToString();
    }

    private sealed class Transfer(Descriptor blob, long offset, long now)
    {
        internal Descriptor Blob { get; } = blob;

        internal long Offset { get; set; } = offset;

        internal long SampledOffset { get; set; } = offset;

        internal long SampledAt { get; set; } = now;

        internal double Rate { get; set; }
    }
}
