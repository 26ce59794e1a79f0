using System.Globalization;
using System.Net;

namespace NativePull.Registry;

/// <summary>Counts the failures of one thing that is being fetched, waits between its tries, and says when it is enough.</summary>
/// <param name="what">The thing, as messages name it.</param>
internal sealed class Attempts(string what, RegistryOptions options, IProgress<RetryNotice>? notices)
{
    private static readonly TimeSpan NetworkPoll = TimeSpan.FromSeconds(0.5);

    private readonly RetryPolicy policy = options.Retry;
    private int failures;
    private long? noNetworkSince;

    internal string What { get; } = what;

    /// <summary>
    /// Asked where a server that serves others may have one too many of us; true: others were let pass, and the count starts anew. Null: there
    /// are no others.
    /// </summary>
    internal Func<RegistryException, CancellationToken, Task<bool>>? GiveWay { get; init; }

    /// <summary>The tries of what can be asked for in another way, where there is an answer that tells of a failure; a limit of the rate is none.</summary>
    internal int TriesOfAnswered { get; init; } = int.MaxValue;

    /// <summary>Bytes came, or there is another way: the count starts anew.</summary>
    internal void Progress()
    {
        failures = 0;
        noNetworkSince = null;
    }

    /// <summary>Returns when it is time for the next try.</summary>
    /// <exception cref="RegistryException">The failure itself: it does not pass, or was the last that is borne, or asks for too long a wait.</exception>
    internal async Task WaitAfterAsync(RegistryException failure, CancellationToken token)
    {
        if (!failure.IsTransient)
        {
            throw failure.Final(What);
        }

        if (failure.IsNoNetwork && IsWaitedFor(failure))
        {
            await Task.Delay(NetworkPoll, options.Clock, token);
            return;
        }

        failures++;
        if (failure.RetryAfter > policy.MaximumRetryAfter && !policy.IsForever)
        {
            throw failure.Final(What, string.Create(
                CultureInfo.InvariantCulture,
                $" (asks to wait {failure.RetryAfter.Value.TotalSeconds:0} s, more than the {policy.MaximumRetryAfter.TotalSeconds:0} s that are waited)"));
        }

        if (IsRefusal(failure) && GiveWay is not null && await GiveWay(failure, token))
        {
            failures = 0;
            return;
        }

        bool isAnswered = failure.Status is not null && failure.Reason != PullError.RateLimited;
        if (failures >= (isAnswered ? Math.Min(policy.Tries, TriesOfAnswered) : policy.Tries))
        {
            throw failure.Final(What, failures == 1 ? null : $" (given up after {failures} tries without progress)");
        }

        TimeSpan wait = failure.RetryAfter ?? policy.WaitAfter(failures);
        notices?.Report(new RetryNotice(What, failures + 1, wait, failure.Message));
        await Task.Delay(RetryPolicy.Countable(wait), options.Clock, token);
    }

    // 429 says it in words; of 503, of a connection that is not made or cut off before the first byte, and of silence once may be chance.
    private bool IsRefusal(RegistryException failure) =>
        failure.Reason == PullError.RateLimited || (failures > 1 && failure.Status is null or HttpStatusCode.ServiceUnavailable);

    // The first failure begins the wait, and is the only one told: they come twice a second.
    private bool IsWaitedFor(RegistryException failure)
    {
        if (noNetworkSince is null && options.WaitNetwork > TimeSpan.Zero)
        {
            noNetworkSince = options.Clock.GetTimestamp();
            notices?.Report(new RetryNotice(What, failures + 1, NetworkPoll, string.Create(
                CultureInfo.InvariantCulture, $"{failure.Message} (waiting for a network for up to {options.WaitNetwork.TotalSeconds:0.#} s)")));
        }

        return noNetworkSince is { } since && options.Clock.GetElapsedTime(since) < options.WaitNetwork;
    }
}
