using NativePull.Pull;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Pull;

/// <summary>The rule by which connections are added and taken back, against networks that are a formula.</summary>
public sealed class ConnectionBudgetTests
{
    private const long Large = 100_000_000_000;

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(8)]
    public void Where_each_connection_is_limited_all_that_are_allowed_are_used(int most) =>
        Assert.Equal(most, Settle(new FakeTime(), most, Large, connections => 1_000_000 * connections));

    [Fact]
    public void Where_one_fills_the_line_it_stays_at_one() =>
        Assert.Equal(1, Settle(new FakeTime(), 8, Large, _ => 12_000_000));

    [Fact]
    public void Where_more_only_get_into_each_others_way_it_returns_to_one() =>
        Assert.Equal(1, Settle(new FakeTime(), 8, Large, connections => 12_000_000 / connections));

    [Fact]
    public void Where_three_fill_the_line_it_stays_between() =>
        Assert.InRange(Settle(new FakeTime(), 8, Large, connections => Math.Min(connections, 3) * 1_000_000), 2, 4);

    [Fact]
    public void What_is_over_in_a_moment_is_left_alone() =>
        Assert.Equal(1, Settle(new FakeTime(), 8, 10_000_000, connections => 50_000_000 * connections, seconds: 0.3));

    [Fact]
    public void Where_one_is_as_fast_as_the_machine_no_other_is_tried() =>
        Assert.Equal(1, Settle(new FakeTime(), 8, Large, connections => 150_000_000 * connections));

    [Fact]
    public void A_trial_in_vain_takes_a_small_part_of_the_time()
    {
        FakeTime time = new();
        int above = 0;
        ConnectionBudget budget = new(8, Large, time);
        Run(time, budget, _ => 12_000_000, seconds: 120, connections => above += connections > 1 ? 1 : 0);

        Assert.InRange(above, 1, 1200 / 20);
    }

    [Fact]
    public void A_connection_that_failed_is_not_asked_for_again_soon()
    {
        FakeTime time = new();
        ConnectionBudget budget = new(8, Large, time, atFirst: 4);
        budget.Enter();
        Assert.True(budget.TryAdd());
        budget.Heard();

        budget.Failed();
        budget.Leave();

        Assert.False(budget.TryAdd());
        Assert.False(budget.IsOver);
    }

    private static int Settle(FakeTime time, int most, long pending, Func<int, long> rate, double seconds = 20)
    {
        ConnectionBudget budget = new(most, pending, time);
        return Run(time, budget, rate, seconds, _ => { });
    }

    // In steps of a tenth of a second: connections come and go as the budget says, and bring what the network gives them.
    private static int Run(FakeTime time, ConnectionBudget budget, Func<int, long> rate, double seconds, Action<int> step)
    {
        budget.Enter();
        int connections = 1;
        for (double at = 0; at < seconds; at += 0.1)
        {
            while (budget.TryAdd())
            {
                connections++;
                budget.Heard();
            }

            while (budget.IsOver)
            {
                connections--;
                budget.Leave();
            }

            time.Advance(TimeSpan.FromSeconds(0.1));
            for (int piece = 0; piece < 10; piece++)
            {
                budget.Received((int)(rate(connections) / 100));
            }

            step(connections);
        }

        return connections;
    }
}
