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

        budget.Failed(isRefused: false);
        budget.LeaveExtra();

        Assert.False(budget.TryAdd());
        Assert.False(budget.IsOver);
    }

    /// <summary>Bytes per second by connections, seconds that the server takes to begin with a blob, the most blobs at once, and how many there are in the end.</summary>
    public static TheoryData<string, Func<int, double>, double, int, int, int> Networks => new()
    {
        { "each is limited", connections => 1_000_000 * connections, 0, 8, 8, 8 },
        { "each is limited, five are allowed", connections => 1_000_000 * connections, 0, 5, 5, 5 },
        { "each is limited, three are allowed", connections => 1_000_000 * connections, 0, 3, 3, 3 },
        { "one fills the line", _ => 6_000_000, 0, 8, 1, 1 },
        { "one fills the line, three are allowed", _ => 6_000_000, 0, 3, 1, 1 },
        { "two fill the line", connections => 3_000_000 * Math.Min(connections, 2), 0, 8, 2, 2 },
        { "three fill the line", connections => 2_000_000 * Math.Min(connections, 3), 0, 8, 3, 3 },
        { "six fill the line", connections => 1_000_000 * Math.Min(connections, 6), 0, 8, 6, 8 },
        { "they are in each other's way", connections => 6_000_000 / Math.Sqrt(connections), 0, 8, 1, 1 },
        { "the server takes its time", _ => 60_000_000, 0.3, 8, 8, 8 },
        { "one only", connections => 1_000_000 * connections, 0, 1, 1, 1 },
    };

    [Theory]
    [MemberData(nameof(Networks))]
    public void Blobs_at_once_are_as_many_as_are_of_use(string network, Func<int, double> rate, double answer, int most, int least, int atMost)
    {
        BlobRun run = new(most, rate, answer);

        run.For(seconds: 25);

        Assert.True(run.AtOnce >= least && run.AtOnce <= atMost, $"{network}: {run.AtOnce}");
    }

    [Fact]
    public void Trials_that_are_in_vain_cost_little()
    {
        BlobRun each = new(8, connections => 1_000_000 * connections, 0);
        BlobRun line = new(8, _ => 6_000_000, 0);
        each.For(seconds: 10);
        line.For(seconds: 10);
        (long before, long after) = (each.Received, line.Received);

        each.For(seconds: 100);
        line.For(seconds: 100);

        Assert.InRange(each.Received - before, 100 * 8_000_000 * 0.98, double.MaxValue);
        Assert.InRange(line.Received - after, 100 * 6_000_000 * 0.98, double.MaxValue);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_network_that_is_never_the_same_costs_little_too(int seed)
    {
        Random random = new(seed);
        double weather = 1;
        int steps = 0;
        BlobRun run = new(8, connections => 1_000_000 * connections * (weather = steps++ % 30 == 0 ? 0.85 + (0.3 * random.NextDouble()) : weather), 0);
        run.For(seconds: 10);
        long before = run.Received;

        run.For(seconds: 200);

        Assert.InRange(run.Received - before, 200 * 8_000_000 * 0.93, double.MaxValue);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void A_server_that_bears_few_is_seldom_asked_for_more(int bears)
    {
        BlobRun run = new(8, connections => 1_000_000 * connections, 0) { Bears = bears };

        run.For(seconds: 10);
        int early = run.Refused;
        run.For(seconds: 240);

        Assert.InRange(run.AtOnce, Math.Min(bears, 4), bears);
        Assert.InRange(early, 0, 5);
        Assert.InRange(run.Refused - early, 1, 6);
    }

    [Fact]
    public void A_server_that_was_busy_for_a_moment_is_asked_for_as_much_as_before_after_a_while()
    {
        BlobRun run = new(8, connections => 1_000_000 * connections, 0) { Bears = 1 };
        run.For(seconds: 5);
        Assert.Equal(1, run.AtOnce);

        run.Bears = 100;
        run.For(seconds: 60);

        Assert.Equal(8, run.AtOnce);
    }

    [Fact]
    public void Nobody_gives_way_where_nobody_else_is()
    {
        ConnectionBudget budget = new(8, Large, new FakeTime(), blobsAtFirst: 4);
        budget.Enter();
        budget.Enter();

        Assert.True(budget.TryGiveWay(null));
        Assert.False(budget.TryGiveWay(null));
        Assert.False(budget.Admits(running: 1));
        Assert.True(budget.Admits(running: 0));
    }

    [Fact]
    public void A_server_that_refuses_gets_no_blob_beside_the_lanes_that_it_bears()
    {
        ConnectionBudget budget = new(8, Large, new FakeTime(), atFirst: 3, blobsAtFirst: 4);
        budget.Enter();
        Assert.True(budget.TryAdd());
        budget.Heard();
        budget.Enter();
        bool raised = false;
        budget.Raised = () => raised = true;

        Assert.True(budget.TryGiveWay(null)); // the second blob's: two are borne

        Assert.False(budget.Admits(running: 1));
        budget.LeaveExtra();
        Assert.True(raised);
        Assert.True(budget.Admits(running: 1));
    }

    /// <summary>Blobs of half a megabyte and more, without end, in steps of a hundredth of a second.</summary>
    private sealed class BlobRun
    {
        private const double Step = 0.01;
        private const double Size = 500_000;

        private readonly FakeTime time = new();
        private readonly Func<int, double> rate;
        private readonly double answer;
        private readonly int most;
        private readonly ConnectionBudget budget;
        private readonly List<(double Begins, double Left)> running = [];
        private double now;
        private int begun;

        internal BlobRun(int most, Func<int, double> rate, double answer)
        {
            (this.most, this.rate, this.answer) = (most, rate, answer);
            budget = new ConnectionBudget(8, Large, time, blobsAtFirst: 4);
        }

        internal int Bears { get; set; } = int.MaxValue;

        internal int Refused { get; private set; }

        internal long Received { get; private set; }

        /// <summary>In the last step.</summary>
        internal int AtOnce { get; private set; }

        internal void For(double seconds)
        {
            for (double end = now + seconds; now < end; now += Step)
            {
                while (running.Count < most && budget.Admits(running.Count))
                {
                    budget.Enter();
                    if (running.Count < Bears)
                    {
                        // not all of the same size, so that they do not end together
                        running.Add((now + answer, Size * (1 + (begun++ % 7 / 10.0))));
                    }
                    else
                    {
                        Refused++;
                        Assert.True(budget.TryGiveWay(null));
                    }
                }

                AtOnce = running.Count;
                time.Advance(TimeSpan.FromSeconds(Step));
                int sending = running.Count(blob => blob.Begins <= now);
                for (int i = running.Count - 1; i >= 0; i--)
                {
                    if (running[i].Begins <= now)
                    {
                        Send(i, rate(sending) / sending * Step);
                    }
                }
            }
        }

        private void Send(int i, double bytes)
        {
            Received += (long)bytes;
            budget.Received((int)bytes);
            running[i] = running[i] with { Left = running[i].Left - bytes };
            if (running[i].Left <= 0)
            {
                budget.Leave();
                running.RemoveAt(i);
            }
        }
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
