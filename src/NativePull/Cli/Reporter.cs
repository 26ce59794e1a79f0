using System.Globalization;
using NativePull.Native;
using NativePull.Pull;

namespace NativePull.Cli;

/// <summary>How progress is shown on standard error.</summary>
internal enum ProgressMode
{
    /// <summary>Bars where standard error is a terminal, else lines.</summary>
    Auto,
    Tty,
    Plain,
    None,
}

/// <summary>
/// Events → bars on a terminal (at most ten drawings a second), or lines elsewhere (one a phase, at most one in ten seconds while bytes flow, no
/// control codes). Reporting never blocks the work: a thread of its own writes, and what its reader does not take is dropped.
/// </summary>
internal sealed class Reporter : IProgress<PullEvent>, IDisposable
{
    private const int MaximumWaiting = 256;
    private const int UsualColumns = 80;
    private static readonly TimeSpan Redraw = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(10);

    // A reader that takes nothing for this long at the end is left alone.
    private static readonly TimeSpan Farewell = TimeSpan.FromSeconds(1);

    // an object, not a Lock: the writer waits on it
    private readonly object gate = new();
    private readonly Queue<string> lines = [];
    private readonly bool bars;
    private readonly bool quiet;
    private readonly bool verbose;
    private readonly TimeProvider clock;
    private readonly Thread writer;
    private readonly TransferMeter meter;
    private bool ending;
    private bool writing;

    internal Reporter(ProgressMode mode, bool quiet, bool verbose, bool terminal, TimeProvider clock)
    {
        bars = !quiet && (mode == ProgressMode.Tty || (mode == ProgressMode.Auto && terminal));
        this.quiet = quiet || mode == ProgressMode.None;
        this.verbose = verbose;
        this.clock = clock;
        meter = new TransferMeter(clock);
        writer = new Thread(Write) { IsBackground = true, Name = "progress" };
        writer.Start();
    }

    public void Report(PullEvent value)
    {
        lock (gate)
        {
            switch (value)
            {
                case PullEvent.Resolving resolving:
                    Say($"resolving {resolving.Reference}");
                    break;
                case PullEvent.Resolved resolved:
                    Say($"resolved {resolved.Digest} for {resolved.Platform}");
                    break;
                case PullEvent.Planned planned:
                    meter.Total = planned.TotalBytes;
                    Say($"{planned.Layers.ToString(CultureInfo.InvariantCulture)} layers, {Values.Size(planned.TotalBytes)}");
                    break;
                case PullEvent.BlobStarted started:
                    meter.Start(started.Blob, started.Offset);
                    if (started.Offset > 0)
                    {
                        Say($"{started.Blob.Digest.Short} continues at {Values.Size(started.Offset)} of {Values.Size(started.Blob.Size)}");
                    }

                    break;
                case PullEvent.BlobProgress moved:
                    meter.Move(moved.Blob, moved.Offset);
                    break;
                case PullEvent.BlobDone done:
                    meter.Finish(done.Blob);
                    Detail($"{done.Blob.Digest.Short} {(done.State == LayerState.Present ? "is here" : "done")}, {Values.Size(done.Blob.Size)}");
                    break;
                case PullEvent.Retrying retrying:
                    Always($"{retrying.What}: {retrying.Reason}; try {retrying.Try.ToString(CultureInfo.InvariantCulture)} in {retrying.Wait.TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture)} s");
                    break;
                case PullEvent.GaveWay gave:
                    Always($"{gave.Blob.Digest.Short}: {gave.Reason}; it waits, and fewer are fetched at once");
                    break;
                case PullEvent.LayerExtracting extracting:
                    Detail($"{extracting.Blob.Digest.Short} extracting ({extracting.Target})");
                    break;
                case PullEvent.LayerExtracted extracted:
                    Say($"{extracted.Blob.Digest.Short} extracted ({extracted.Target})");
                    break;
                case PullEvent.Warning warning:
                    Always("warning: " + warning.Text);
                    break;
            }
        }
    }

    /// <summary>Lets what is waiting be written, within a limit of time, so that a result printed next comes after it.</summary>
    internal void Drain()
    {
        lock (gate)
        {
            long since = clock.GetTimestamp();
            meter.Stop();
            Monitor.PulseAll(gate);
            while ((lines.Count > 0 || writing) && !ending && clock.GetElapsedTime(since) < Farewell)
            {
                Monitor.Wait(gate, Redraw);
            }
        }
    }

    /// <summary>Writes what is waiting, within a limit of time, and takes the bars away.</summary>
    public void Dispose()
    {
        lock (gate)
        {
            ending = true;
            Monitor.PulseAll(gate);
        }

        writer.Join(Farewell);
    }

    private void Say(string text)
    {
        if (!quiet)
        {
            Enqueue(text);
        }
    }

    private void Detail(string text)
    {
        if (verbose)
        {
            Enqueue(text);
        }
    }

    // Warnings and retries: shown unless everything is to be quiet.
    private void Always(string text)
    {
        if (!quiet || verbose)
        {
            Enqueue(text);
        }
    }

    private void Enqueue(string text)
    {
        if (lines.Count < MaximumWaiting)
        {
            lines.Enqueue(text);
        }
    }

    private void Write()
    {
        int drawn = 0;
        long lastBeat = clock.GetTimestamp();
        while (true)
        {
            bool last;
            List<string> output = [];
            IReadOnlyList<string> drawing = [];
            lock (gate)
            {
                if (!ending)
                {
                    Monitor.Wait(gate, Redraw);
                }

                last = ending;
                writing = true;
                output.AddRange(lines);
                lines.Clear();
                if (bars && !last)
                {
                    drawing = meter.Draw((Terminal.Columns() ?? UsualColumns) - 1);
                }
                else if (!quiet && !bars && clock.GetElapsedTime(lastBeat) >= Heartbeat)
                {
                    lastBeat = clock.GetTimestamp();
                    output.AddRange(meter.Summary() is { } summary ? [summary] : []);
                }
            }

            drawn = Flush(output, drawing, drawn);
            lock (gate)
            {
                writing = false;
                Monitor.PulseAll(gate);
            }

            if (last)
            {
                return;
            }
        }
    }

    private static int Flush(List<string> output, IReadOnlyList<string> drawing, int drawn)
    {
        if (output.Count == 0 && drawing.Count == 0 && drawn == 0)
        {
            return 0;
        }

        System.Text.StringBuilder text = new();
        if (drawn > 0)
        {
            // up to the first bar, and clear to the end of the screen (ECMA-48 CPL, ED)
            text.Append(CultureInfo.InvariantCulture, $"\u001b[{drawn}F\u001b[J");
        }

        foreach (string line in output)
        {
            text.Append("nativepull: ").Append(Output.Printable(line)).Append('\n');
        }

        foreach (string bar in drawing)
        {
            text.Append(bar).Append('\n');
        }

        Output.Raw(Output.Encode(text.ToString()));
        return drawing.Count;
    }
}
