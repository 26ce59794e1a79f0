using System.Runtime.InteropServices;

namespace NativePull.Cli;

/// <summary>
/// SIGINT and SIGTERM, as PID 1 too: the first cancels, so that parts are kept and staging goes; the second, or two seconds, ends the process
/// where it stands, which is just as safe because everything on disk is resumable or invisible.
/// </summary>
internal sealed class Interruption : IDisposable
{
    // The promise is two seconds; what cancellation has not ended by then is ended here.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1.7);

    // SIGXFSZ, whose default is to kill: without it a write beyond a limit of the caller's (ulimit -f) is an error like a full disk
    private const PosixSignal FileTooLarge = (PosixSignal)25;

    private readonly CancellationTokenSource source = new();
    private readonly PosixSignalRegistration interrupt;
    private readonly PosixSignalRegistration terminate;
    private readonly PosixSignalRegistration tooLarge;
    private Timer? impatience;

    internal Interruption()
    {
        interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle);
        terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle);
        tooLarge = PosixSignalRegistration.Create(FileTooLarge, static context => context.Cancel = true);
    }

    internal CancellationToken Token => source.Token;

    /// <summary>Called where cancellation has not ended the process in time; what it does may take a moment and no more.</summary>
    internal Action? OutOfTime { get; set; }

    /// <summary>Which signal came; null while none has.</summary>
    internal PullError? Reason { get; private set; }

    public void Dispose()
    {
        interrupt.Dispose();
        terminate.Dispose();
        tooLarge.Dispose();
        impatience?.Dispose();
        source.Dispose();
    }

    private void Handle(PosixSignalContext context)
    {
        context.Cancel = true;
        bool again = Reason is not null;
        Reason ??= context.Signal == PosixSignal.SIGINT ? PullError.Interrupted : PullError.Terminated;
        int code = ExitCode.Of(Reason.Value);
        if (again)
        {
            Environment.Exit(code);
        }

        impatience = new Timer(_ => EndAtOnce(code), null, Patience, Timeout.InfiniteTimeSpan);
        source.Cancel();
    }

    private void EndAtOnce(int code)
    {
        OutOfTime?.Invoke();
        Environment.Exit(code);
    }
}
