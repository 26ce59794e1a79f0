using System.Globalization;
using System.Text.Json;
using NativePull.Oci;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// What tests of power cuts share: an image in two versions, its registry, disks with a file system on which a scenario can begin, and what is done with a
/// disk after a cut. A guest knows the registry by the same name as this machine, so that either goes on where the other was cut off.
/// </summary>
internal sealed class PowerBench : IAsyncDisposable
{
    private const string Host = "registry.test";

    /// <summary>Lines of a guest's script: it writes to its disk within a fifth of a second what it otherwise keeps for half a minute.</summary>
    internal const string Eager = "echo 10 > /proc/sys/vm/dirty_writeback_centisecs; echo 20 > /proc/sys/vm/dirty_expire_centisecs";

    private readonly TemporaryDirectory scratch = new();
    private readonly FakeRegistry fake = new FakeRegistry().Start();
    private readonly string fileSystem;
    private RealServer? real;

    private PowerBench(string fileSystem) => this.fileSystem = fileSystem;

    internal UndisturbedPull Before { get; private set; } = null!;

    internal UndisturbedPull After { get; private set; } = null!;

    /// <summary>Why there is none here; null where there is.</summary>
    internal static string? Missing => VirtualMachine.Missing ?? (Environment.IsPrivilegedProcess ? null : "disks are mounted to be looked at, which needs root");

    internal string this[string below] => scratch[below];

    /// <param name="fileSystem">With the options of its mount in the guest, as in "ext4,data=writeback".</param>
    /// <param name="image">LAYOUT:TAG of what is pulled, from a real registry; null: some megabytes made here.</param>
    internal static async Task<PowerBench> MakeAsync(string fileSystem, IReadOnlyList<PowerScenario> scenarios, string? image = null)
    {
        PowerBench bench = new(fileSystem);
        if (image is not null)
        {
            bench.real = RealServer.Registry(bench.scratch, "registry");
        }

        await bench.PublishAsync(null, Base(), Upper(1));
        bench.Before = await UndisturbedPull.MakeAsync(bench.Pull("127.0.0.1"));
        foreach (PowerScenario scenario in scenarios)
        {
            await bench.PrepareAsync(scenario);
        }

        await bench.PublishAsync(image, Base(), Upper(2), Upper(3));
        bench.After = await UndisturbedPull.MakeAsync(bench.Pull("127.0.0.1"));
        return bench;
    }

    /// <summary>The first root of a machine that does what the scenario says, between the lines "begin" and "exit N".</summary>
    /// <param name="before">Lines of the script before that.</param>
    /// <param name="then">Lines after that.</param>
    internal Initramfs Root(PowerScenario scenario, string before = "", string then = "") => Root(
        $"""
        {before}
        echo begin
        {Command(scenario)}
        echo "exit $?"
        {then}
        """);

    /// <summary>The first root of a machine that runs a script with a network, and with the disk at /disk.</summary>
    /// <param name="device">Which disk that is.</param>
    internal Initramfs Root(string script, string device = "vda")
    {
        string[] type = fileSystem.Split(',', 2);
        return VirtualMachine.RootWith(
            $"""
            ip link set eth0 up
            ip addr add 10.0.2.15/24 dev eth0
            mount -t {type[0]} -o {string.Join(',', ["rw", .. type.Skip(1)])} /dev/{device} /disk || echo "no disk"
            {script}
            """,
            type[0]);
    }

    /// <summary>What the scenario says, as a line of a guest's script.</summary>
    internal string Command(PowerScenario scenario) => $"/nativepull {string.Join(' ', [.. Pull("10.0.2.2"), .. scenario.Options])} --json --progress none";

    /// <summary>A new disk on which the scenario can begin.</summary>
    internal string NewDisk(PowerScenario scenario, string name)
    {
        PowerDisk.Copy(scratch[FileOf(scenario)], scratch[name]);
        return scratch[name];
    }

    /// <summary>Mounts a disk, which replays its journal, and looks at it.</summary>
    internal async Task<DiskInspection> InspectAsync(string disk, PowerScenario scenario)
    {
        await using DiskMount mount = await DiskMount.MakeAsync(disk, scratch["machine/disk"], fileSystem);
        return DiskInspection.Of(mount.Path, Before, After, scenario);
    }

    /// <summary>Does on this machine, and onto this disk, what the scenario says.</summary>
    internal Task<BinaryResult> RunAsync(string disk, PowerScenario scenario) => RunHereAsync(disk, [.. Pull("127.0.0.1"), .. scenario.Options, "--json", "--progress", "none"]);

    /// <summary>Runs the executable on this machine in a root that holds nothing else, with the disk at /disk.</summary>
    internal async Task<BinaryResult> RunHereAsync(string disk, params string[] arguments)
    {
        await using DiskMount mount = await DiskMount.MakeAsync(disk, scratch["machine/disk"], fileSystem);
        if (!File.Exists(scratch["machine/nativepull"]))
        {
            File.Copy(Binary.File, scratch["machine/nativepull"]);
        }

        return await Binary.ProgramAsync("chroot", [scratch["machine"], "/nativepull", .. arguments]);
    }

    /// <summary>What a result says of bytes transferred.</summary>
    internal static long DownloadedBytes(string json) => JsonDocument.Parse(json).RootElement.GetProperty("bytes").GetProperty("downloaded").GetInt64();

    public async ValueTask DisposeAsync()
    {
        await fake.DisposeAsync();
        if (real is not null)
        {
            await real.DisposeAsync();
        }

        Before.Dispose();
        After.Dispose();
        scratch.Dispose();
    }

    private async Task PublishAsync(string? image, params TarBuilder[] layers)
    {
        if (real is null)
        {
            FakeImage made = new(fake, "a/b");
            foreach (byte[] tar in layers.Select(layer => layer.End().ToArray()))
            {
                made.Layer(TarBuilder.GZip(tar), Digest.Of(tar));
            }

            made.Publish();
            return;
        }

        if (image is null)
        {
            await SmallImage.MakeAsync(scratch["small"], "1");
        }

        await WitnessFixture.SkopeoAsync(
            "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", $"oci:{image ?? scratch["small"] + ":1"}", $"docker://127.0.0.1:{real.Port}/a/b:latest");
    }

    private string[] Pull(string address)
    {
        int port = real?.Port ?? fake.Port;
        return ["pull", $"{Host}:{port}/a/b", "--plain-http", "--resolve", string.Create(CultureInfo.InvariantCulture, $"{Host}:{port}:{address}")];
    }

    /// <summary>Makes an empty disk.</summary>
    internal static async Task FormatAsync(string disk, string type, long size = 320 << 20)
    {
        await using (FileStream image = File.Create(disk))
        {
            image.SetLength(size); // it takes no more room than what is written to it; xfs wants 300 MiB
        }

        // small disks would get smaller blocks than those in use have
        (await Binary.ProgramAsync($"mkfs.{type}", type == "ext4" ? ["-q", "-F", "-b", "4096", disk] : ["-q", "-f", disk])).Expect(0);
    }

    private async Task PrepareAsync(PowerScenario scenario)
    {
        string disk = scratch[FileOf(scenario)];
        await FormatAsync(disk, fileSystem.Split(',')[0], (real is null ? 320L : 2048L) << 20);
        if (scenario.IsUpdate)
        {
            (await RunAsync(disk, scenario)).Expect(0);
        }
    }

    private static string FileOf(PowerScenario scenario) => $"{scenario.Name.Replace(' ', '-')}.disk";

    // Many small files, so that a tree has many ways to be there in part.
    private static TarBuilder Base()
    {
        TarBuilder tar = new TarBuilder().Directory("etc/", mtime: 1).Directory("lib/", mtime: 2).Directory("bin/");
        for (int i = 0; i < 120; i++)
        {
            tar.File($"lib/{i:d3}", FakeContent.Generated(i, i * 97 % 9000).ToArray(), mtime: i, uid: i % 3);
        }

        return tar.File("bin/tool", FakeContent.Generated(1000, 300_000).ToArray(), mode: 0x9ED).HardLink("bin/other", "bin/tool").Symlink("bin/link", "tool").Fifo("fifo");
    }

    private static TarBuilder Upper(int version)
    {
        TarBuilder tar = new TarBuilder().Directory($"opt{version}/", mtime: version).Whiteout($"lib/{version:d3}").Xattr("user.version", $"{version}").File("etc/version", $"{version}");
        for (int i = 0; i < 40; i++)
        {
            tar.File($"opt{version}/{i}", FakeContent.Generated((version * 1000) + i, 3000).ToArray());
        }

        return tar.File($"opt{version}/large", FakeContent.Generated(version, 1_500_000).ToArray(), mtime: version);
    }
}

/// <summary>A disk's file system, mounted here until disposed.</summary>
internal sealed class DiskMount : IAsyncDisposable
{
    private DiskMount(string path) => Path = path;

    internal string Path { get; }

    internal static async Task<DiskMount> MakeAsync(string disk, string path, string fileSystem)
    {
        Directory.CreateDirectory(path);
        string[] type = fileSystem.Split(',', 2);
        // a copy of a disk has its name, which xfs would take for the same one
        (await Binary.ProgramAsync("mount", "-t", type[0], "-o", type[0] == "xfs" ? "loop,nouuid" : "loop", disk, path)).Expect(0);
        return new DiskMount(path);
    }

    public ValueTask DisposeAsync() => new(Binary.UnmountAsync(Path));
}
