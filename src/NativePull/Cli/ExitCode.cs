namespace NativePull.Cli;

/// <summary>The promise to the shell: reason → exit code. Frozen; README lists it.</summary>
internal static class ExitCode
{
    internal const int Done = 0;
    internal const int Bug = 1;
    internal const int Usage = 2;
    internal const int Interrupted = 130;
    internal const int Terminated = 143;

    internal static int Of(PullError reason) => reason switch
    {
        PullError.Internal => Bug,
        PullError.Usage or PullError.InvalidReference => Usage,
        PullError.NotFound or PullError.PlatformNotFound or PullError.NotInStore => 3,
        PullError.Unauthorized or PullError.Denied => 4,
        PullError.Unavailable or PullError.RateLimited or PullError.Stalled or PullError.Deadline => 5,
        PullError.DigestMismatch or PullError.SizeMismatch or PullError.DiffIdMismatch or PullError.Malformed or PullError.Unexpected => 6,
        PullError.UnsafeEntry or PullError.LimitPassed or PullError.Unsupported => 7,
        PullError.Machine or PullError.NoSpace or PullError.Permission or PullError.Locked or PullError.StoreDamaged => 8,
        PullError.TlsUnknownIssuer or PullError.TlsWrongName or PullError.TlsExpired or PullError.TlsNotYetValid or PullError.TlsOther => 9,
        PullError.Interrupted => Interrupted,
        PullError.Terminated => Terminated,
        _ => Bug,
    };

    /// <summary>Whether a failure has a reason other than a bug, or is the end of a cancelled run.</summary>
    internal static bool IsExpected(Exception failure) =>
        failure is PullException or IOException or UnauthorizedAccessException or OperationCanceledException || IsOutOfMemory(failure);

    /// <summary>What a failure is, whichever exception carried it: any I/O error without a reason of its own is this machine's.</summary>
    internal static PullException Explain(Exception failure, PullError? interruption) => failure switch
    {
        _ when interruption is { } reason => new PullException(reason, reason == PullError.Interrupted ? "interrupted" : "terminated"),
        PullException known => known,
        UnauthorizedAccessException denied => new PullException(PullError.Permission, denied.Message),
        // so the BCL tells of a relative path in a directory that was removed: getcwd(2), ENOENT
        FileNotFoundException { FileName: null } => new PullException(PullError.Machine, "the current directory, which a relative path begins at, is not there any more"),
        IOException io => new PullException(ReasonOf(io), io.Message, io.InnerException),
        _ when IsOutOfMemory(failure) => new PullException(PullError.Machine, "out of memory", failure),
        // no open file was left for what the runtime makes once, at its first use
        AggregateException { InnerException: { } cause } => Explain(cause, null),
        TypeInitializationException { InnerException: { } cause } => Explain(cause, null),
        _ => new PullException(PullError.Internal, $"a bug: {failure.GetType().Name}: {failure.Message}", failure),
    };

    // A thread that could not be started is found inside of what wanted it.
    private static bool IsOutOfMemory(Exception failure) => failure is OutOfMemoryException or { InnerException: OutOfMemoryException };

    // HResult of an I/O error is errno (errno-base.h, errno.h).
    private static PullError ReasonOf(IOException failure) => failure.HResult switch
    {
        28 or 122 => PullError.NoSpace, // ENOSPC, EDQUOT
        1 or 13 or 30 => PullError.Permission, // EPERM, EACCES, EROFS
        _ => PullError.Machine,
    };

    /// <summary>The reason as JSON has it: kebab-case.</summary>
    internal static string Name(PullError reason) => Values.Kebab(reason.ToString());
}
