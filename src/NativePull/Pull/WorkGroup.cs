using System.Runtime.ExceptionServices;

namespace NativePull.Pull;

/// <summary>
/// The concurrent work of one pull: the first failure cancels the rest, all of it is awaited, and the first failure that is not a
/// cancellation is what the caller sees.
/// </summary>
internal sealed class WorkGroup(CancellationToken outer) : IDisposable
{
    private readonly CancellationTokenSource source = CancellationTokenSource.CreateLinkedTokenSource(outer);
    private readonly List<Task> tasks = [];
    private readonly Lock gate = new();
    private ExceptionDispatchInfo? first;

    internal CancellationToken Token => source.Token;

    /// <summary>Starts the work; the task returned fails as the work does.</summary>
    internal Task Run(Func<CancellationToken, Task> work)
    {
        Task task = GuardAsync(work);
        tasks.Add(task);
        return task;
    }

    /// <summary>Ends when all work has; throws the first failure.</summary>
    internal async Task AwaitAllAsync()
    {
        await Task.WhenAll(tasks).ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        outer.ThrowIfCancellationRequested();
        first?.Throw();
    }

    public void Dispose() => source.Dispose();

    private async Task GuardAsync(Func<CancellationToken, Task> work)
    {
        try
        {
            await work(source.Token);
        }
        catch (Exception failure)
        {
            lock (gate)
            {
                if (first is null || first.SourceException is OperationCanceledException)
                {
                    first = ExceptionDispatchInfo.Capture(failure);
                }
            }

            await source.CancelAsync();
            throw;
        }
    }
}
