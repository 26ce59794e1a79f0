namespace NativePull.Store;

/// <summary>How the store treats the disk and its neighbours.</summary>
internal sealed record StoreOptions
{
    /// <summary>Flush bytes before the name that publishes them; off, a power cut may leave published but empty files.</summary>
    internal bool Sync { get; init; } = true;

    /// <summary>How often what comes of a blob is flushed: about what a power cut can take of it. A flush does not keep the transfer waiting.</summary>
    internal TimeSpan FlushInterval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long to wait for another process that makes no progress with what we need; while it does, the wait has no end.</summary>
    internal TimeSpan LockTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>How often a lock is tried again.</summary>
    internal TimeSpan LockPoll { get; init; } = TimeSpan.FromMilliseconds(50);

    internal TimeProvider Clock { get; init; } = TimeProvider.System;
}
