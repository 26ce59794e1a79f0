using NativePull.Oci;
using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// The missing bytes of one blob, over one connection, or over several ("lanes") while the budget finds that they bring more. Lanes take
/// stretches from the lowest hole on, so that what is hashed and extracted behind them gets on; each holds one buffer.
/// </summary>
/// <param name="mostLanes">1: never more than one.</param>
/// <param name="received">Told of each piece that is held; what it waits, the lane waits.</param>
internal sealed class BlobTransfer(
    RegistryClient registry, string repository, Descriptor blob, BlobIngest ingest, int mostLanes, ConnectionBudget budget, Func<int, CancellationToken, ValueTask> received)
{
    // Bytes; large enough that a system call costs nothing beside its copy, small enough to stay in cache.
    private const int BufferSize = 128 * 1024;

    // Bytes left; below, a second connection would end before it has paid for itself.
    private const long WorthSharing = 8 * 1024 * 1024;

    private readonly LanePlan plan = new(ingest.Gaps());
    private readonly Lock gate = new();
    private readonly List<Task> extras = [];
    private readonly Lane main = new();
    private int lanes = 1;
    private volatile bool noRanges;
    private volatile bool givesStretches; // one was had
    private bool sendsWhole;

    /// <summary>
    /// Asked when the first connection is refused; true: it has given way to others, and may try again. Null: there are no others.
    /// </summary>
    internal Func<RegistryException, CancellationToken, Task<bool>>? GiveWay { get; init; }

    /// <summary>Bytes came in more than one piece at a time: should the digest differ, it may be the ranges.</summary>
    internal bool UsedLanes { get; private set; }

    /// <summary>Ends when all of the blob's bytes are held and hashed.</summary>
    internal async Task RunAsync(CancellationToken token)
    {
        try
        {
            if (ingest.HasRanges)
            {
                // holes that an earlier run left
                await ShareAsync(token);
            }
            else if (ingest.Offset < blob.Size)
            {
                main.Reader = registry.OpenBlob(repository, blob, ingest.Offset, GiveWay);
                if (!await AppendAsync(main.Reader, token))
                {
                    ingest.AllowRanges();
                    main.Position = ingest.Offset;
                    plan.Adopt(main);
                    await ShareAsync(token);
                }
            }
        }
        finally
        {
            await main.CloseAsync();
        }
    }

    // One connection, in order. False: a second one is wanted.
    private async Task<bool> AppendAsync(BlobReader reader, CancellationToken token)
    {
        byte[] buffer = new byte[BufferSize];
        int read;
        while ((read = await reader.ReadAsync(buffer, token)) > 0)
        {
            ingest.Append(buffer.AsSpan(0, read));
            budget.Received(read);
            await received(read, token);
            if (mostLanes > 1 && blob.Size - ingest.Offset >= WorthSharing && budget.HasRoom)
            {
                return false;
            }
        }

        return true;
    }

    private async Task ShareAsync(CancellationToken token)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(token);
        Task hashing = Blocking.OnOwnThread(() => ingest.HashBehind(end.Token), end.Token);
        Task writing = WriteAllAsync(end.Token);
        Task first = await Task.WhenAny(hashing, writing);
        if (!first.IsCompletedSuccessfully)
        {
            await end.CancelAsync();
        }

        await Task.WhenAll(hashing, writing).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await first; // the other one only heard that it is over
        await Task.WhenAll(hashing, writing);
    }

    private async Task WriteAllAsync(CancellationToken token)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(token);
        try
        {
            do
            {
                await WriteAsync(main, isExtra: false, end.Token);
                await ExtrasAsync();
            }
            while (noRanges ? await TryTakeWholeAsync() : plan.HasFree);
        }
        finally
        {
            await end.CancelAsync();
            while (Running().Where(extra => !extra.IsCompleted).ToArray() is { Length: > 0 } running)
            {
                await Task.WhenAll(running).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private async Task WriteAsync(Lane lane, bool isExtra, CancellationToken token)
    {
        byte[] buffer = new byte[BufferSize];
        bool isHeard = !isExtra;
        try
        {
            while (plan.Claim(lane, 1) > 0 || (!noRanges && !(isExtra && budget.IsOver) && plan.TryTake(lane, lanes, budget.RateOfOne)))
            {
                BlobIngest.RangeWriter writer = ingest.BeginRange(lane.Position);
                for (int count; (count = plan.Claim(lane, buffer.Length)) > 0;)
                {
                    int read = await ReadAsync(lane, buffer.AsMemory(0, count), isExtra, token);
                    if (read == 0)
                    {
                        noRanges = true;
                        return;
                    }

                    writer.Write(buffer.AsSpan(0, read));
                    plan.Advance(lane, read);
                    if (!isHeard)
                    {
                        isHeard = true;
                        budget.Heard();
                    }

                    budget.Received(read);
                    await received(read, token);
                    AddLane(token);
                }

                await lane.CloseAsync();
            }
        }
        finally
        {
            plan.GiveBack(lane);
            if (!isHeard)
            {
                budget.Heard();
            }
        }
    }

    // 0: this registry gives no stretches.
    private async Task<int> ReadAsync(Lane lane, Memory<byte> buffer, bool isExtra, CancellationToken token)
    {
        if (lane.Reader is not null && !lane.IsStretch)
        {
            int read = await lane.Reader.ReadAsync(buffer, token);
            sendsWhole |= lane.Reader.SendsWhole;
            return read;
        }

        if (lane.Reader is null)
        {
            lane.IsStretch = true;
            lane.IsBrief = isExtra || !givesStretches;
            lane.Reader = lane.IsBrief
                ? registry.OpenRangeBriefly(repository, blob, lane.Position, lane.End)
                : registry.OpenRange(repository, blob, lane.Position, lane.End, GiveWay);
        }

        try
        {
            int read = await lane.Reader.ReadAsync(buffer, token);
            givesStretches |= read > 0;
            return read;
        }
        catch (RegistryException refused) when (!isExtra && lane.IsBrief && givesStretches && IsPassing(refused))
        {
            // it was opened when nobody knew that stretches are given; now the failure is one like any other, and borne as often
            await lane.CloseAsync();
            return await ReadAsync(lane, buffer, isExtra, token);
        }
        catch (RegistryException refused) when (refused.Reason is PullError.Denied or PullError.Unauthorized or PullError.NotFound
            || (!isExtra && ((lane.IsBrief && IsPassing(refused)) || (refused.Reason == PullError.Unavailable && BlobReader.MayBeAboutTheRange(refused.Status)))))
        {
            // whether that is meant for the whole as well is seen when the whole is asked for
            return 0;
        }
    }

    private static bool IsPassing(RegistryException failure) => failure.Reason is PullError.RateLimited or PullError.Unavailable or PullError.Stalled;

    private void AddLane(CancellationToken token)
    {
        if (lanes >= mostLanes || noRanges || !budget.HasRoom)
        {
            return;
        }

        lock (gate)
        {
            if (lanes < mostLanes && plan.MakeRoom(budget.RateOfOne) && budget.TryAdd())
            {
                lanes++;
                UsedLanes = true;
                extras.Add(ExtraAsync(token));
            }
        }
    }

    // A lane beside the main one. What it cannot do is left to the others, and a registry that refuses it is not asked again soon.
    private async Task ExtraAsync(CancellationToken token)
    {
        await Task.Yield();
        Lane lane = new();
        bool hasFailed = false;
        try
        {
            await WriteAsync(lane, isExtra: true, token);
        }
        catch (RegistryException failure)
        {
            hasFailed = true;
            budget.Failed(isRefused: IsPassing(failure));
        }
        finally
        {
            await lane.CloseAsync();
            budget.LeaveExtra();
            lock (gate)
            {
                lanes--;
            }

            if (noRanges || hasFailed)
            {
                plan.Regrow(main);
            }
        }
    }

    private async Task ExtrasAsync()
    {
        while (Running() is { Length: > 0 } running)
        {
            await Task.WhenAll(running);
        }
    }

    private Task[] Running()
    {
        lock (gate)
        {
            extras.RemoveAll(extra => extra.IsCompletedSuccessfully || extra.IsCanceled);
            return [.. extras];
        }
    }

    // For a registry that gives no stretches: hole after hole with the rest behind each; and if it sends all of the blob whatever is asked
    // for, from the first hole on once more.
    private async Task<bool> TryTakeWholeAsync()
    {
        await main.CloseAsync();
        if (ingest.Gaps() is not { Count: > 0 } gaps)
        {
            return false;
        }

        ByteRange next = gaps[0];
        if (sendsWhole)
        {
            ingest.ForgetFrom(next.Start);
            next = next with { End = blob.Size };
        }

        plan.Restart(main, next);
        main.Reader = registry.OpenBlob(repository, blob, next.Start, GiveWay);
        return true;
    }
}
