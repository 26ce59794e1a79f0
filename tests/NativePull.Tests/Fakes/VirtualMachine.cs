using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Fakes;

/// <summary>What a machine is made of.</summary>
internal sealed record VirtualMachineParts
{
    /// <summary>MiB.</summary>
    internal int Memory { get; init; } = 384;

    /// <summary>Images, or addresses that qemu understands; /dev/vda, /dev/vdb and so on.</summary>
    internal IReadOnlyList<string> Disks { get; init; } = [];

    /// <summary>The first root.</summary>
    internal required Initramfs Root { get; init; }

    /// <summary>More for the kernel's command line.</summary>
    internal string Append { get; init; } = "";
}

/// <summary>
/// A real machine for an instant: a kernel, memory, disks and a network on which there is nothing but this machine's loopback, as 10.0.2.2. What it
/// prints is read line by line; its power can be cut. What is needed is made by scripts/vm.sh.
/// </summary>
internal sealed class VirtualMachine : IAsyncDisposable
{
    // Far above what any machine takes on a busy one: only what would never end meets it.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);

    private static readonly string Parts =
        Environment.GetEnvironmentVariable("NATIVEPULL_VM") is { Length: > 0 } named ? Path.GetFullPath(named) : Path.Combine(Repository(), "artifacts/vm");

    private readonly Lock gate = new();
    private readonly List<string> lines = [];
    private readonly TaskCompletionSource ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TemporaryDirectory directory;
    private readonly Process qemu;
    private TaskCompletionSource more = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private VirtualMachine(TemporaryDirectory directory, Process qemu)
    {
        this.directory = directory;
        this.qemu = qemu;
        qemu.OutputDataReceived += (_, line) => Add(line.Data);
        qemu.ErrorDataReceived += (_, line) => Add(line.Data is { } said ? "qemu: " + said : "");
        qemu.BeginOutputReadLine();
        qemu.BeginErrorReadLine();
    }

    /// <summary>Why there is none here; null where there is.</summary>
    internal static string? Missing => File.Exists(Path.Combine(Parts, "stamp")) && File.Exists("/usr/bin/qemu-system-x86_64") && File.Exists("/bin/busybox")
        ? null
        : "no kernel for virtual machines, or no qemu; scripts/vm.sh makes and installs them";

    /// <summary>What was printed so far.</summary>
    internal IReadOnlyList<string> Lines
    {
        get
        {
            lock (gate)
            {
                return [.. lines];
            }
        }
    }

    /// <summary>
    /// A root of busybox and the executable, with the script as what is run first: /dev and /proc are there when it begins, and the machine is switched off
    /// when it ends.
    /// </summary>
    /// <param name="fileSystem">Whose driver is loaded.</param>
    internal static Initramfs RootWith(string script, string fileSystem = "ext4")
    {
        string[] drivers = ["virtio_pci", "virtio_blk", "virtio_net", .. fileSystem == "ext4" ? Array.Empty<string>() : [fileSystem]];
        string[] modules = [.. drivers.SelectMany(driver => File.ReadAllLines(Path.Combine(Parts, $"modules/{driver}.list"))).Distinct()];
        Initramfs root = new Initramfs()
            .File("bin/busybox", File.ReadAllBytes("/bin/busybox"))
            .File("nativepull", File.ReadAllBytes(Binary.File))
            .EmptyDirectory("proc")
            .EmptyDirectory("disk")
            .File("init", $"""
                #!/bin/busybox sh
                /bin/busybox --install -s /bin
                export PATH=/:/bin
                mount -t devtmpfs dev /dev
                mount -t proc proc /proc
                for module in {string.Join(' ', modules)}; do insmod /modules/$module.ko; done
                {script}
                poweroff -f

                """);
        foreach (string module in modules)
        {
            root.File($"modules/{module}.ko", File.ReadAllBytes(Path.Combine(Parts, $"modules/{module}.ko")));
        }

        return root;
    }

    internal static VirtualMachine Start(VirtualMachineParts parts)
    {
        TemporaryDirectory directory = new();
        parts.Root.WriteTo(directory["initramfs"]);
        string accelerator = File.ReadAllText(Path.Combine(Parts, "accel")).Trim();
        string[] arguments =
        [
            "-accel", accelerator, "-cpu", accelerator == "kvm" ? "host" : "max", "-smp", "1", "-m", parts.Memory.ToString(CultureInfo.InvariantCulture),
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-kernel", Path.Combine(Parts, "vmlinuz"), "-initrd", directory["initramfs"],
            // nothing that makes an emulated processor slow, no check of a timer that a busy one fails; a kernel that has lost its first program ends the machine
            "-append", $"console=ttyS0 quiet panic=-1 mitigations=off nokaslr init_on_alloc=0 no_timer_check {parts.Append}",
            // no route beyond this network is set in the guest, and version 6 would set one by itself
            "-nic", "user,model=virtio-net-pci,ipv6=off",
            .. parts.Disks.SelectMany(disk => new[] { "-drive", $"file={disk},if=virtio,format=raw,cache=writeback" }),
        ];
        return new VirtualMachine(directory, Binary.Start(null, "qemu-system-x86_64", arguments));
    }

    /// <summary>The first line that begins so, now or to come; null: the machine has ended without it.</summary>
    internal async Task<string?> LineAsync(string beginning)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(Patience);
        while (true)
        {
            Task change;
            lock (gate)
            {
                if (lines.Find(line => line.StartsWith(beginning, StringComparison.Ordinal)) is { } found)
                {
                    return found;
                }

                change = ended.Task.IsCompleted ? Task.CompletedTask : more.Task;
            }

            if (change.IsCompleted && ended.Task.IsCompleted)
            {
                return null;
            }

            try
            {
                await Task.WhenAny(change, ended.Task).WaitAsync(limit.Token);
            }
            catch (OperationCanceledException) when (!TestContext.Current.CancellationToken.IsCancellationRequested)
            {
                Assert.Fail($"no line \"{beginning}\" within {Patience}:\n{string.Join('\n', Lines)}");
            }
        }
    }

    /// <summary>Waits until it has switched itself off, and gives what it printed.</summary>
    internal async Task<IReadOnlyList<string>> EndAsync()
    {
        await LineAsync("\0never");
        return Lines;
    }

    /// <summary>At once: what is in its memory is gone, what its disks have taken is there. Whether it was still on.</summary>
    internal async Task<bool> CutPowerAsync()
    {
        bool wasOn = !qemu.HasExited;
        qemu.Kill();
        await qemu.WaitForExitAsync(TestContext.Current.CancellationToken);
        return wasOn;
    }

    public async ValueTask DisposeAsync()
    {
        if (!qemu.HasExited)
        {
            qemu.Kill();
        }

        await qemu.WaitForExitAsync(CancellationToken.None);
        qemu.Dispose();
        directory.Dispose();
    }

    private void Add(string? line)
    {
        TaskCompletionSource waiting;
        lock (gate)
        {
            waiting = more;
            more = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            if (line is null)
            {
                ended.TrySetResult();
            }
            else if (line.Length > 0)
            {
                lines.Add(line.TrimEnd('\r'));
            }
        }

        waiting.TrySetResult();
    }

    private static string Repository([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../.."));
}
