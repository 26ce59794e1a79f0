using System.Net;

namespace NativePull.Registry;

/// <summary>A failure of a registry or of the way to it: what it answered, and whether another try may help.</summary>
internal sealed class RegistryException(PullError reason, string message, Exception? inner = null) : PullException(reason, message, inner)
{
    /// <summary>What was answered; null where nothing was.</summary>
    internal HttpStatusCode? Status { get; init; }

    /// <summary>Another try may help.</summary>
    internal bool IsTransient { get; init; }

    /// <summary>This machine found no way to it, or no address: at boot that passes.</summary>
    internal bool IsNoNetwork { get; init; }

    /// <summary>How long the registry asked to be left alone; null where it did not.</summary>
    internal TimeSpan? RetryAfter { get; init; }

    /// <summary>The same failure as the last word about <paramref name="what"/>: no other try follows.</summary>
    internal RegistryException Final(string what, string? addition = null) =>
        new(Reason, $"{what}: {Message}{addition}", InnerException)
        {
            Status = Status,
            RetryAfter = RetryAfter,
            RetryAfterSeconds = RetryAfter?.TotalSeconds,
        };
}
