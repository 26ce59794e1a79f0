using System.Runtime.CompilerServices;
using NativePull.Oci;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// The executable in real machines: as the kernel's first program, in the README's init, and where the power goes. Power is cut at moments from fixed
/// seeds; scripts/power.sh does it as often as one likes.
/// </summary>
public sealed class VirtualMachineTests
{
    private const int Seed = 20;

    // what a kernel says when its first program has ended, and an exit code in the form of wait(2)
    private const string LastWord = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000";

    [Theory]
    [InlineData("extract oci:/image --rootfs /tree --tar /tree.tar", 0)]
    [InlineData("pull 127.0.0.1:5000/a/b --retries 1", 5)]
    public async Task As_the_kernels_first_program_in_a_root_of_its_own_it_ends_with_its_exit_code(string command, int code)
    {
        Assert.SkipUnless(VirtualMachine.Missing is null, VirtualMachine.Missing ?? "");
        using TemporaryDirectory layout = new();
        string digest = (await SmallImage.MakeAsync(layout["image"], "demo")).ToString();
        Initramfs root = new Initramfs().File("nativepull", await File.ReadAllBytesAsync(Binary.File, TestContext.Current.CancellationToken)).Tree("image", layout["image"]);

        await using VirtualMachine machine = VirtualMachine.Start(new() { Root = root, Append = $"rdinit=/nativepull -- {command}" });
        IReadOnlyList<string> lines = await machine.EndAsync();

        Assert.Contains(lines, line => line.Contains($"{LastWord}{code:x2}00", StringComparison.Ordinal));
        Assert.Equal(code == 0, lines.Contains($"oci:/image@{digest}"));
    }

    [Fact]
    public async Task The_init_of_the_README_boots_what_it_pulled_and_without_the_registry_what_was_there()
    {
        SkipUnlessReady();
        using TemporaryDirectory scratch = new();
        await PowerBench.FormatAsync(scratch["disk"], "ext4");
        string init;
        await using (FakeRegistry registry = new FakeRegistry().Start())
        {
            byte[] tar = new TarBuilder()
                .Directory("bin/").File("bin/busybox", await File.ReadAllBytesAsync("/bin/busybox", TestContext.Current.CancellationToken), mode: 0x1ED)
                .Directory("sbin/").File("sbin/init", "#!/bin/busybox sh\n/bin/busybox echo \"new root, process $$\"\n/bin/busybox poweroff -f\n", mode: 0x1ED)
                .End().ToArray();
            new FakeImage(registry, "os/root").Layer(TarBuilder.GZip(tar), Digest.Of(tar)).Publish("1");
            init = InitOfReadme().Replace(":5000", $":{registry.Port}", StringComparison.Ordinal);
            Assert.Equal(["new root, process 1"], await BootAsync());
        }

        Assert.Equal(["nativepull said 5, going on with what was there", "new root, process 1"], await BootAsync());

        async Task<string[]> BootAsync()
        {
            await using VirtualMachine machine = VirtualMachine.Start(new() { Root = VirtualMachine.RootWith(init), Disks = [scratch["disk"]] });
            return [.. (await machine.EndAsync()).Where(line => line.Contains("new root", StringComparison.Ordinal) || line.Contains("going on", StringComparison.Ordinal))];
        }
    }

    [Fact]
    public async Task As_PID_1_it_goes_on_after_each_power_cut_and_after_a_reboot_knows_what_it_did()
    {
        SkipUnlessReady();
        PowerScenario scenario = PowerScenario.All[0];
        await using PowerBench bench = await PowerBench.MakeAsync("ext4", [scenario]);
        string disk = bench.NewDisk(scenario, "disk");
        // nothing but the executable is left of the root, and of mounts only the disk
        string alone = "umount /proc; /bin/busybox rm -rf /bin /dev /init /modules /proc /root; exec " + bench.Command(scenario);
        Random chance = new(Seed);

        for (int cut = 0; cut < 3; cut++)
        {
            await using VirtualMachine machine = VirtualMachine.Start(new() { Root = bench.Root($"{PowerBench.Eager}\necho begin\n{alone}"), Disks = [disk] });
            Assert.True(await machine.LineAsync("begin") is not null, string.Join("\n", machine.Lines));
            await Task.Delay(chance.Next(300, 3000), TestContext.Current.CancellationToken);
            await machine.CutPowerAsync();
            Assert.Empty((await bench.InspectAsync(disk, scenario)).Violations);
        }

        await using (VirtualMachine machine = VirtualMachine.Start(new() { Root = bench.Root(alone), Disks = [disk] }))
        {
            Assert.NotNull(await machine.LineAsync("{"));
            IReadOnlyList<string> lines = await machine.EndAsync();
            Assert.Contains(lines, line => line.Contains($"{LastWord}0000", StringComparison.Ordinal));
        }

        DiskInspection found = await bench.InspectAsync(disk, scenario);
        Assert.Empty(found.Violations);
        Assert.True(found.IsNew);

        // another disk was put in: the same file system has another device number
        File.Copy(bench.NewDisk(scenario, "other"), bench["first"]);
        await using VirtualMachine later = VirtualMachine.Start(
            new() { Root = bench.Root(bench.Command(scenario) + "; echo \"exit $?\"", "vdb"), Disks = [bench["first"], disk] });
        Assert.Equal("exit 0", await later.LineAsync("exit "));
        Assert.Equal(0, PowerBench.DownloadedBytes(later.Lines.Single(line => line.StartsWith('{'))));
    }

    [Theory]
    [InlineData(0, "ext4")]
    [InlineData(1, "ext4,data=writeback")]
    public async Task What_a_disk_loses_that_was_not_flushed_is_made_again_and_what_was_published_is_whole(int which, string fileSystem)
    {
        SkipUnlessReady();
        PowerScenario scenario = PowerScenario.All[which];
        await using PowerBench bench = await PowerBench.MakeAsync(fileSystem, [scenario]);
        await using PowerDisk disk = new(bench.NewDisk(scenario, "disk"));
        int ended;
        await using (VirtualMachine machine = VirtualMachine.Start(new() { Root = bench.Root(scenario, PowerBench.Eager, "sleep 2"), Disks = [disk.Address] }))
        {
            Assert.Equal("exit 0", await machine.LineAsync("exit "));
            ended = disk.Steps;
            await machine.EndAsync();
        }

        Random chance = new(Seed);
        for (int cut = 0; cut < 12; cut++)
        {
            int step = cut == 0 ? ended : disk.AnyMoment(chance);
            disk.WriteAfterCut(step, chance, bench["disk"]);
            DiskInspection found = await bench.InspectAsync(bench["disk"], scenario);
            Assert.True(found.Violations.Count == 0, $"cut at {step} of {disk.Steps}:\n{string.Join('\n', found.Violations)}");
            Assert.True(found.IsNew || step < ended, $"cut at {step}, after the end at {ended}: not all is there");

            BinaryResult again = (await bench.RunAsync(bench["disk"], scenario)).Expect(0);
            Assert.InRange(PowerBench.DownloadedBytes(again.Out), 0, found.IsNew ? 0 : bench.After.TotalBytes);
            found = await bench.InspectAsync(bench["disk"], scenario);
            Assert.Empty(found.Violations);
            Assert.True(found.IsNew);
        }
    }

    private static void SkipUnlessReady() => Assert.SkipUnless(PowerBench.Missing is null, PowerBench.Missing ?? "");

    private static string InitOfReadme([CallerFilePath] string here = "")
    {
        string text = File.ReadAllText(Path.Combine(Path.GetDirectoryName(here)!, "../../../README.md"));
        int start = text.IndexOf("\n#!/bin/sh\n", StringComparison.Ordinal);
        Assert.True(start >= 0, "README.md has no init");
        return text[(start + 1)..text.IndexOf("\n```", start, StringComparison.Ordinal)];
    }
}
