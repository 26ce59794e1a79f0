namespace NativePull.Registry;

/// <summary>How often, and after what waits, something that failed for a passing reason is tried again.</summary>
internal sealed record RetryPolicy
{
    /// <summary>Tries in a row without progress, the first included; 1 or more, <see cref="int.MaxValue"/> means for ever.</summary>
    internal int Tries { get; init; } = 6;

    /// <summary>Nothing that passes is ever the last word, not even a Retry-After of a day: <c>--deadline</c> is what ends it.</summary>
    internal bool IsForever => Tries == int.MaxValue;

    /// <summary>The most that is waited after the first failure; doubles with each further one.</summary>
    internal TimeSpan FirstWait { get; init; } = TimeSpan.FromSeconds(0.5);

    /// <summary>Where the doubling ends.</summary>
    internal TimeSpan MaximumWait { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>What a timer can count: whoever is told to wait longer asks again after this.</summary>
    internal static readonly TimeSpan LongestTimer = TimeSpan.FromMilliseconds(int.MaxValue);

    /// <summary>The longest Retry-After (RFC 9110, 10.2.3) that is obeyed; a longer one is a failure at once.</summary>
    internal TimeSpan MaximumRetryAfter { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>0 to 1. Waits are drawn evenly between nothing and the most ("full jitter"), so that many clients do not return together.</summary>
    internal Func<double> Jitter { get; init; } = Random.Shared.NextDouble;

    /// <summary>The same, or as much of it as a timer can count.</summary>
    internal static TimeSpan Countable(TimeSpan wait) => wait < LongestTimer ? wait : LongestTimer;

    /// <param name="failures">Failures in a row so far, 1 or more.</param>
    internal TimeSpan WaitAfter(int failures)
    {
        double most = Math.Min(MaximumWait.TotalSeconds, FirstWait.TotalSeconds * Math.Pow(2, failures - 1));
        return TimeSpan.FromSeconds(most * Jitter());
    }
}

/// <summary>Something will be tried again: for the person who watches.</summary>
/// <param name="What">What is being fetched.</param>
/// <param name="Try">The number of the try that comes, 2 or more, counted since the last progress.</param>
internal sealed record RetryNotice(string What, int Try, TimeSpan Wait, string Reason);
