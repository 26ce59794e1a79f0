using NativePull.Cli;

namespace NativePull.Tests.Cli;

/// <summary>What a failure is, whichever exception carried it.</summary>
public sealed class ExitCodeTests
{
    [Fact]
    public void Too_little_memory_is_the_machines_fault_and_no_bug()
    {
        Assert.Equal(PullError.Machine, ExitCode.Explain(new InsufficientMemoryException(), null).Reason);
        // a thread that cannot be made (ulimit -v)
        Assert.Equal(PullError.Machine, ExitCode.Explain(new TaskSchedulerException(new InsufficientMemoryException()), null).Reason);
        Assert.Equal(PullError.Internal, ExitCode.Explain(new InvalidOperationException(), null).Reason);
    }
}
