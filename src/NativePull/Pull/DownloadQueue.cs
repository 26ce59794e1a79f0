using NativePull.Registry;

namespace NativePull.Pull;

/// <summary>Whose turn it is to be downloaded: as many blobs at once as the budget finds of use. In the order of asking, also for one that had to give way.</summary>
internal sealed class DownloadQueue
{
    private readonly Lock gate = new();
    private readonly PriorityQueue<TaskCompletionSource, int> waiting = new();
    private readonly int most;
    private readonly ConnectionBudget budget;
    private readonly TimeProvider clock;
    private int asked;
    private int running;
    private int pausing;

    /// <param name="most">Blobs at once, 1 or more.</param>
    internal DownloadQueue(int most, ConnectionBudget budget, TimeProvider clock)
    {
        this.most = most;
        this.budget = budget;
        this.clock = clock;
        budget.Raised = Admit;
    }

    internal async Task RunAsync(Func<Turn, Task> work, CancellationToken token)
    {
        Turn turn = new(this, Interlocked.Increment(ref asked));
        try
        {
            await turn.TakeAsync(token);
            await work(turn);
        }
        finally
        {
            turn.Release();
        }
    }

    private void Admit()
    {
        lock (gate)
        {
            while (running < most && pausing == 0 && budget.Admits(running) && waiting.TryDequeue(out TaskCompletionSource? next, out _))
            {
                // one that was cancelled takes no place
                running += next.TrySetResult() ? 1 : 0;
            }
        }
    }

    // Meanwhile nobody is admitted; those who are under way go on.
    private async Task PauseAsync(TimeSpan time, CancellationToken token)
    {
        lock (gate)
        {
            pausing++;
        }

        try
        {
            await Task.Delay(RetryPolicy.Countable(time), clock, token);
        }
        finally
        {
            lock (gate)
            {
                pausing--;
            }
        }
    }

    /// <summary>One blob's place in the queue. It is had or not; whoever waits for something else than the network gives it back meanwhile.</summary>
    internal sealed class Turn(DownloadQueue queue, int number)
    {
        private bool isHad;

        internal Task TakeAsync(CancellationToken token) => isHad ? Task.CompletedTask : WaitAsync(token);

        internal void Release()
        {
            if (isHad)
            {
                isHad = false;
                lock (queue.gate)
                {
                    queue.running--;
                }

                queue.Admit();
            }
        }

        /// <summary>Gives the turn to others, and returns when it has come again.</summary>
        /// <param name="pause">For so long the server wants to be asked by nobody; null: it did not say.</param>
        internal async Task GiveWayAsync(TimeSpan? pause, CancellationToken token)
        {
            if (pause is { } time)
            {
                await queue.PauseAsync(time, token);
            }

            await WaitAsync(token);
        }

        // Whoever gives a turn back to have it again stands in the queue before anybody else can take it.
        private async Task WaitAsync(CancellationToken token)
        {
            TaskCompletionSource admitted = new(TaskCreationOptions.RunContinuationsAsynchronously);
            lock (queue.gate)
            {
                queue.waiting.Enqueue(admitted, number);
                queue.running -= isHad ? 1 : 0;
                isHad = false;
            }

            queue.Admit();
            using CancellationTokenRegistration stop = token.UnsafeRegister(static waiter => ((TaskCompletionSource)waiter!).TrySetCanceled(), admitted);
            await admitted.Task;
            isHad = true;
        }
    }
}
