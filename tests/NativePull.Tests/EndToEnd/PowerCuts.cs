using System.Diagnostics;
using System.Globalization;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// As many power cuts as one likes, for scripts/power.sh: every scenario on a file system, in machines that are killed at random moments and on disks that
/// lose what was not flushed. Explicit: it takes minutes. Fails where anything was seen that must not be.
/// </summary>
public sealed class PowerCuts
{
    private readonly List<string> violations = [];
    private int cuts;

    [Fact(Explicit = true)]
    public async Task Many()
    {
        Assert.SkipUnless(PowerBench.Missing is null, PowerBench.Missing ?? "");
        int count = int.Parse(Setting("POWER_CUTS", "20"), CultureInfo.InvariantCulture);
        int seed = int.Parse(Setting("POWER_SEED", "1"), CultureInfo.InvariantCulture);
        string[] more = Setting("POWER_OPTIONS", "").Split(' ', StringSplitOptions.RemoveEmptyEntries);
        PowerScenario[] scenarios = [.. PowerScenario.All
            .Where(scenario => scenario.Name.Contains(Setting("POWER_SCENARIO", ""), StringComparison.Ordinal))
            .Select(scenario => scenario with { Options = [.. scenario.Options, .. more] })];
        Row($"{"power",-9} {"file system",-24} {"scenario",-32} {"cuts",5} {"as before",9} {"as after",8} {"resumed",8} {"bytes kept of those received",28} {"again whole",11} {"wrong",6}");
        foreach (string fileSystem in Setting("POWER_FILE_SYSTEMS", "ext4").Split(' '))
        {
            await using PowerBench bench = await PowerBench.MakeAsync(fileSystem, scenarios, Setting("POWER_IMAGE", "") is { Length: > 0 } image ? image : null);
            foreach (PowerScenario scenario in scenarios)
            {
                foreach (string kind in Setting("POWER_KINDS", "machine disk").Split(' '))
                {
                    Tally tally = new(kind, fileSystem, scenario.Name);
                    Random chance = new(seed);
                    await (kind == "machine" ? KillMachinesAsync(bench, scenario, count, chance, tally) : LoseWritesAsync(bench, scenario, count, chance, tally));
                    Row(tally.ToString());
                }
            }
        }

        foreach (string violation in violations.Take(50))
        {
            Row(violation);
        }

        Row($"{cuts} power cuts, {violations.Count} violations, seed {seed}");
        Assert.Empty(violations);
    }

    // Real machines, killed at random moments of a run that was measured before: what the disk has taken stays, what is in memory is gone.
    private async Task KillMachinesAsync(PowerBench bench, PowerScenario scenario, int count, Random chance, Tally tally)
    {
        long begun;
        TimeSpan whole;
        await using (VirtualMachine machine = VirtualMachine.Start(new() { Root = bench.Root(scenario), Disks = [bench.NewDisk(scenario, "disk")] }))
        {
            Assert.Equal("begin", await machine.LineAsync("begin"));
            begun = Stopwatch.GetTimestamp();
            Assert.Equal("exit 0", await machine.LineAsync("exit "));
            whole = Stopwatch.GetElapsedTime(begun);
        }

        while (tally.Cuts < count)
        {
            string disk = bench.NewDisk(scenario, "disk");
            bool isDone = false;
            long toFetch = bench.After.TotalBytes;
            while (!isDone)
            {
                // every third is not cut before its end, but at once afterwards
                TimeSpan moment = chance.Next(3) == 0 ? TimeSpan.MaxValue : whole * chance.NextDouble() * 1.2;
                await using VirtualMachine machine = VirtualMachine.Start(new() { Root = bench.Root(scenario, then: "sleep 1000"), Disks = [disk] });
                Assert.Equal("begin", await machine.LineAsync("begin"));
                Task<string?> exit = machine.LineAsync("exit ");
                await Task.WhenAny(exit, Task.Delay(moment == TimeSpan.MaxValue ? Timeout.InfiniteTimeSpan : moment, TestContext.Current.CancellationToken));
                isDone = exit.IsCompleted;
                await machine.CutPowerAsync();
                DiskInspection found = await bench.InspectAsync(disk, scenario);
                Check(tally, found, isDone, $"{tally.Place}, {Seconds(moment)} of {Seconds(whole)}");
                if (isDone)
                {
                    Complain(await exit == "exit 0" ? [] : machine.Lines, tally);
                    tally.Downloaded(machine.Lines.LastOrDefault(line => line.StartsWith('{')), toFetch);
                }

                toFetch = found.ToFetch;
            }
        }
    }

    // One real run onto a disk that remembers its writes; then what that disk holds after cuts at any of them, where this machine goes on.
    private async Task LoseWritesAsync(PowerBench bench, PowerScenario scenario, int count, Random chance, Tally tally)
    {
        await using PowerDisk disk = new(bench.NewDisk(scenario, "disk"));
        int ended;
        await using (VirtualMachine machine = VirtualMachine.Start(new() { Root = bench.Root(scenario, PowerBench.Eager, "sleep 6"), Disks = [disk.Address] }))
        {
            Assert.Equal("exit 0", await machine.LineAsync("exit "));
            ended = disk.Steps;
            await machine.EndAsync();
        }

        for (int cut = 0; cut < count; cut++)
        {
            int step = disk.AnyMoment(chance);
            disk.WriteAfterCut(step, chance, bench["disk"]);
            DiskInspection found = await bench.InspectAsync(bench["disk"], scenario);
            Check(tally, found, step >= ended, $"{tally.Place}, write {step} of {disk.Steps}, ended at {ended}");
            BinaryResult again = await bench.RunAsync(bench["disk"], scenario);
            // without a store nothing says whose the tree is
            bool isRefused = !scenario.KeepsStore && again.Code == 8;
            Complain(again.Code == 0 || isRefused ? [] : [$"exit {again.Code}: {again.Error}"], tally);
            tally.Downloaded(again.Code == 0 ? again.Out : null, found.ToFetch);
            CheckDone(tally, await bench.InspectAsync(bench["disk"], scenario), $"{tally.Place}, after write {step}, gone on with");
        }
    }

    /// <summary>How much of a blob that comes slowly is still there after a cut, with a kernel's own times for writing things down.</summary>
    [Theory(Explicit = true)]
    [InlineData(1)]
    [InlineData(8)]
    public async Task Parts(int connections)
    {
        Assert.SkipUnless(PowerBench.Missing is null, PowerBench.Missing ?? "");
        Random chance = new(int.Parse(Setting("POWER_SEED", "1"), CultureInfo.InvariantCulture));
        await using FakeRegistry registry = new FakeRegistry().Start();
        new FakeImage(registry, "a/b").Layer(FakeContent.Generated(1, 200_000_000)).Publish();
        foreach (string fileSystem in Setting("POWER_FILE_SYSTEMS", "ext4").Split(' '))
        {
            for (int cut = 0; cut < int.Parse(Setting("POWER_PARTS", "5"), CultureInfo.InvariantCulture); cut++)
            {
                await using ShapingProxy proxy = new(registry.Port) { RateOfEach = 1_000_000 };
                await using PowerBench bench = await PowerBench.MakeAsync(fileSystem, [PowerScenario.All[2]]);
                string disk = bench.NewDisk(PowerScenario.All[2], "disk");
                string pull = $"/nativepull pull 10.0.2.2:{proxy.Port}/a/b --plain-http --store /disk/s --connections {connections} --progress none";
                await using VirtualMachine machine = VirtualMachine.Start(new() { Root = bench.Root("echo begin; " + pull), Disks = [disk] });
                Assert.Equal("begin", await machine.LineAsync("begin"));
                TimeSpan moment = TimeSpan.FromSeconds(5 + (chance.NextDouble() * 55));
                await Task.Delay(moment, TestContext.Current.CancellationToken);
                await machine.CutPowerAsync();
                long received = proxy.Passed;
                string again = (await bench.RunHereAsync(disk, "pull", $"127.0.0.1:{registry.Port}/a/b", "--store", "/disk/s", "--json", "--progress", "none")).Expect(0).Out;
                long kept = 200_000_000 - PowerBench.DownloadedBytes(again);
                Row(string.Create(CultureInfo.InvariantCulture, $"{fileSystem,-24} {connections} connections, cut after {Seconds(moment)}: {received / 1_000_000} MB received, {kept / 1_000_000} MB kept"));
            }
        }
    }

    private void Check(Tally tally, DiskInspection found, bool mustBeNew, string where)
    {
        cuts++;
        tally.Add(found);
        Complain(found.Violations.Select(violation => $"{where}: {violation}"), tally);
        if (mustBeNew)
        {
            CheckDone(tally, found, where);
        }
    }

    private void CheckDone(Tally tally, DiskInspection found, string where) =>
        Complain(found.IsNew ? [] : [$"{where}: it had said that it was done", .. found.Violations], tally);

    private void Complain(IEnumerable<string> found, Tally tally)
    {
        string[] all = [.. found];
        violations.AddRange(all);
        tally.Wrong += all.Length;
    }

    private static string Seconds(TimeSpan time) => time == TimeSpan.MaxValue ? "the end" : time.TotalSeconds.ToString("0.00", CultureInfo.InvariantCulture) + " s";

    private static string Setting(string name, string otherwise) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } set ? set : otherwise;

    private static void Row(string text) => Console.Out.WriteLine("| " + text);

    /// <summary>One line of the table.</summary>
    private sealed class Tally(string kind, string fileSystem, string scenario)
    {
        private int old;
        private int young;
        private int resumed;
        private long kept;
        private long received;
        private int anew;

        internal int Cuts { get; private set; }

        internal int Wrong { get; set; }

        internal string Place => $"{kind}, {fileSystem}, {scenario}";

        internal void Add(DiskInspection found)
        {
            Cuts++;
            young += found.IsNew ? 1 : 0;
            old += found.IsNew ? 0 : 1;
            resumed += found.RightBytes > 0 ? 1 : 0;
            kept += found.RightBytes;
            received += found.PartBytes;
        }

        internal void Downloaded(string? json, long toFetch)
        {
            if (json is not null && PowerBench.DownloadedBytes(json) > toFetch)
            {
                anew++;
            }
        }

        public override string ToString() => string.Create(
            CultureInfo.InvariantCulture, $"{kind,-9} {fileSystem,-24} {scenario,-32} {Cuts,5} {old,9} {young,8} {resumed,8} {$"{kept} of {received}",28} {anew,11} {Wrong,6}");
    }
}
