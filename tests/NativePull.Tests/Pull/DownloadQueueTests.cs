using NativePull.Pull;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Pull;

/// <summary>Who is let in, and in which order, where the budget is fixed.</summary>
public sealed class DownloadQueueTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private readonly FakeTime time = new();
    private readonly List<string> begun = [];

    [Fact]
    public async Task Who_gives_way_comes_again_before_those_who_asked_later()
    {
        (DownloadQueue queue, ConnectionBudget budget) = Queue(atOnce: 2);
        TaskCompletionSource[] ends = [new(), new(), new(), new()];

        Task first = RunAsync(queue, budget, "a", ends[0]);
        Task second = queue.RunAsync(
            async turn =>
            {
                budget.Enter();
                Begin("b");
                Assert.True(budget.TryGiveWay(null));
                await turn.GiveWayAsync(null, Token);
                budget.Enter();
                Begin("b again");
                await ends[1].Task;
            },
            Token);
        Task third = RunAsync(queue, budget, "c", ends[2]);
        Assert.Equal(["a", "b"], Begun());
        ends[0].SetResult();
        await first;
        await UntilAsync("b again");
        ends[1].SetResult();
        ends[2].SetResult();
        await Task.WhenAll(second, third);

        Assert.Equal(["a", "b", "b again", "c"], Begun());
    }

    [Fact]
    public async Task While_a_server_wants_to_be_left_alone_nobody_begins()
    {
        (DownloadQueue queue, ConnectionBudget budget) = Queue(atOnce: 2);
        TaskCompletionSource end = new();
        TaskCompletionSource other = new();

        Task first = RunAsync(queue, budget, "a", end);
        Task second = queue.RunAsync(
            async turn =>
            {
                budget.Enter();
                Assert.True(budget.TryGiveWay(FakeTime.GuardFrom));
                await turn.GiveWayAsync(FakeTime.GuardFrom, Token);
                budget.Enter();
                Begin("b");
                budget.Leave();
            },
            Token);
        Task third = RunAsync(queue, budget, "c", other);
        other.SetResult();
        end.SetResult();
        await first;
        Assert.Equal(["a"], Begun());
        time.ExpireGuards();
        await Task.WhenAll(second, third);

        Assert.Equal(["a", "b", "c"], Begun());
    }

    [Fact]
    public async Task Who_is_cancelled_while_waiting_takes_nobody_s_place()
    {
        (DownloadQueue queue, ConnectionBudget budget) = Queue(atOnce: 1);
        using CancellationTokenSource stop = new();
        TaskCompletionSource end = new();
        end.SetResult();
        TaskCompletionSource firstEnd = new();
        Task first = RunAsync(queue, budget, "a", firstEnd);
        Task second = queue.RunAsync(_ => Task.CompletedTask, stop.Token);
        Task third = RunAsync(queue, budget, "c", end);

        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        firstEnd.SetResult();
        await Task.WhenAll(first, third);

        Assert.Equal(["a", "c"], Begun());
    }

    private (DownloadQueue Queue, ConnectionBudget Budget) Queue(int atOnce)
    {
        ConnectionBudget budget = new(8, 1_000_000, time, blobsAtFirst: atOnce);
        return (new DownloadQueue(8, budget, time), budget);
    }

    private async Task RunAsync(DownloadQueue queue, ConnectionBudget budget, string name, TaskCompletionSource end) => await queue.RunAsync(
        async _ =>
        {
            budget.Enter();
            Begin(name);
            await end.Task;
            budget.Leave();
        },
        Token);

    private void Begin(string name)
    {
        lock (begun)
        {
            begun.Add(name);
        }
    }

    private List<string> Begun()
    {
        lock (begun)
        {
            return [.. begun];
        }
    }

    private async Task UntilAsync(string name)
    {
        while (!Begun().Contains(name))
        {
            await Task.Delay(5, Token);
        }
    }
}
