namespace NativePull.Pull;

/// <summary>
/// Whose turn it is to be downloaded: as many blobs at once as the budget finds of use, and a few from the start, because small ones are over
/// before anything can be measured. In the order of asking.
/// </summary>
internal sealed class DownloadQueue
{
    // What a pull of many small blobs needs to hide the round trips, and few enough that the lowest layer still comes first.
    private const int FromTheStart = 4;

    private readonly Lock gate = new();
    private readonly Queue<TaskCompletionSource> waiting = new();
    private readonly int most;
    private readonly ConnectionBudget budget;
    private int running;

    /// <param name="most">Blobs at once, 1 or more.</param>
    internal DownloadQueue(int most, ConnectionBudget budget)
    {
        this.most = most;
        this.budget = budget;
        budget.Raised = Admit;
    }

    internal async Task RunAsync(Func<Task> work, CancellationToken token)
    {
        TaskCompletionSource turn = new(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (gate)
        {
            waiting.Enqueue(turn);
        }

        Admit();
        using CancellationTokenRegistration stop = token.UnsafeRegister(static waiter => ((TaskCompletionSource)waiter!).TrySetCanceled(), turn);
        await turn.Task;
        try
        {
            await work();
        }
        finally
        {
            lock (gate)
            {
                running--;
            }

            Admit();
        }
    }

    private void Admit()
    {
        int slots = Math.Min(most, Math.Max(FromTheStart, budget.Limit));
        lock (gate)
        {
            while (running < slots && waiting.TryDequeue(out TaskCompletionSource? next))
            {
                // one that was cancelled takes no place
                running += next.TrySetResult() ? 1 : 0;
            }
        }
    }
}
