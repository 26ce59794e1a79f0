using System.Runtime.ExceptionServices;

namespace NativePull.Pull;

/// <summary>The one bridge from an applier's own blocking thread to the asynchronous side.</summary>
internal static class Blocking
{
    /// <summary>Waits, and throws what the task threw rather than an aggregate of it. Never call it on a pool thread.</summary>
    internal static void Wait(Task task, CancellationToken token)
    {
        try
        {
            task.Wait(token);
        }
        catch (AggregateException aggregate) when (aggregate.InnerException is { } cause)
        {
            ExceptionDispatchInfo.Throw(cause);
        }
    }

    /// <summary>A thread of its own for work that blocks on disks and followers: the pool's few threads belong to the downloads.</summary>
    internal static Task OnOwnThread(Action work, CancellationToken token) =>
        Task.Factory.StartNew(work, token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
}
