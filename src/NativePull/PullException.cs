using System.Text;

namespace NativePull;

/// <summary>Why something failed on purpose. Its kebab-case name is <c>error.reason</c> in JSON; <c>Cli.ExitCode</c> maps it to the frozen exit codes.</summary>
internal enum PullError
{
    /// <summary>A bug in this program.</summary>
    Internal,

    Usage,
    InvalidReference,

    /// <summary>The registry does not have the repository, tag, manifest or blob.</summary>
    NotFound,

    /// <summary>The index exists, but nothing in it is for the platform asked for.</summary>
    PlatformNotFound,

    /// <summary>The store does not have it, and no network may be asked.</summary>
    NotInStore,

    /// <summary>401: the registry wants credentials, or refuses those given.</summary>
    Unauthorized,

    /// <summary>403, or a signed-in account without the right.</summary>
    Denied,

    /// <summary>Network or registry out of reach after every retry.</summary>
    Unavailable,
    RateLimited,

    /// <summary>No byte arrived for the stall time-out, repeatedly.</summary>
    Stalled,
    Deadline,

    DigestMismatch,
    SizeMismatch,
    DiffIdMismatch,

    /// <summary>JSON, gzip, zstd or tar that breaks its own format.</summary>
    Malformed,

    /// <summary>The reference resolved to another digest than <c>--expect</c> names.</summary>
    Unexpected,

    /// <summary>An archive entry that would leave or harm the root.</summary>
    UnsafeEntry,
    LimitPassed,
    Unsupported,

    /// <summary>This machine: any I/O error without a reason of its own.</summary>
    Machine,
    NoSpace,
    Permission,

    /// <summary>Another process holds a lock for longer than we wait.</summary>
    Locked,
    StoreDamaged,

    TlsUnknownIssuer,
    TlsWrongName,
    TlsExpired,
    TlsNotYetValid,
    TlsOther,

    Interrupted,
    Terminated,
}

/// <summary>
/// The one failure thrown on purpose: a reason for programs and a sentence for people. The sentence is lower case, has no final
/// stop, names the thing and both values, and holds no secret (addresses come without their query).
/// </summary>
internal class PullException(PullError reason, string message, Exception? inner = null) : Exception(message, inner)
{
    internal PullError Reason { get; } = reason;

    /// <summary>Seconds a registry asked us to wait, where it asked for longer than we do; else null.</summary>
    internal double? RetryAfterSeconds { get; init; }

    /// <summary>This sentence and those of the causes after colons, in one line: what a person is shown.</summary>
    internal string Sentence
    {
        get
        {
            var text = new StringBuilder(Message.TrimEnd('.')); // the library's sentences end with a stop
            for (Exception? cause = InnerException; cause is not null; cause = cause.InnerException)
            {
                string said = cause.Message.TrimEnd('.');
                if (!text.ToString().Contains(said, StringComparison.Ordinal))
                {
                    text.Append(": ").Append(said);
                }
            }

            return text.Replace('\n', ' ').Replace('\r', ' ').ToString();
        }
    }
}
