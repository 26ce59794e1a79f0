using System.Diagnostics;
using System.Globalization;
using System.Text;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Conformance;

/// <summary>
/// A containerd of the test's own and the trees that its snapshotters make of images, mounted until disposed. Its state and its mounts are in memory, in
/// namespaces that end with this process: nothing of it is seen or left on the machine, and a daemon that the machine may have is not asked.
/// </summary>
internal sealed class Containerd : IDisposable
{
    internal const string Overlayfs = "overlayfs";

    /// <summary>One directory that each layer is applied to a copy of.</summary>
    internal const string Native = "native";

    internal static readonly string[] Snapshotters = [Overlayfs, Native];

    // $1 where the layout is, and the chain ID of each image in its order; then the snapshotters. `ctr images mount` would be shorter, but 1.6's takes no
    // notice of --snapshotter, nor does `ctr snapshots unpack`: that one asks the namespace.
    private const string Script = """
        set -eu
        mount -t tmpfs -o mode=0755 scratch /mnt
        cat >/mnt/config.toml <<END
        version = 2
        root = "/mnt/root"
        state = "/mnt/state"
        disabled_plugins = [
          "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
        [grpc]
        address = "/mnt/socket"
        END
        # a list of lower directories is longer than the 255 bytes that the newer calls, which util-linux 2.39 makes, take in one piece
        export CONTAINERD_ADDRESS=/mnt/socket LIBMOUNT_FORCE_MOUNT2=always
        containerd --config /mnt/config.toml --log-level error >/mnt/log 2>&1 &
        daemon=$!
        until ctr version >/dev/null 2>&1; do kill -0 $daemon || { cat /mnt/log; exit 1; }; sleep 0.05; done
        cd "$1"; shift
        unpack() {
          export CONTAINERD_NAMESPACE=$1
          mkdir /mnt/$1
          ctr namespaces create $1 containerd.io/defaults/snapshotter=$1
          tar -c -C layout . | ctr images import --no-unpack --base-name stack - >/mnt/$1.said 2>&1 || { cat /mnt/$1.said; exit 1; }
          ctr images ls | sed -nE 's/^stack:([0-9]+) +[^ ]+ +(sha256:[0-9a-f]+) .*/\1 \2/p' | sort -n | paste -d ' ' - chains >/mnt/$1.images
          while read -r image manifest chain; do
            tree=/mnt/$1/$image
            mkdir $tree
            if ctr snapshots unpack $manifest >/mnt/$1.said 2>&1; then
              eval "$(ctr snapshots --snapshotter $1 view --target $tree view-$image $chain)"
            else
              rmdir $tree
              mv /mnt/$1.said $tree
            fi
          done </mnt/$1.images
        }
        jobs=
        for snapshotter; do unpack $snapshotter & jobs="$jobs $!"; done
        for job in $jobs; do wait $job; done
        echo ready
        read -r _ || true
        """;

    private readonly TemporaryDirectory work = new();
    private readonly Process process;
    private readonly int count;

    // Debian's package unpacked, by scripts/containerd.sh; else what is on PATH
    private static readonly string Path = $"{Environment.GetEnvironmentVariable("NATIVEPULL_CONTAINERD")}:{Environment.GetEnvironmentVariable("PATH")}";

    internal Containerd(IReadOnlyList<IEnumerable<byte[]>> images, params string[] snapshotters)
    {
        count = images.Count;
        LayoutDirectory.Write(work["layout"], images.Select((layers, i) => (i.ToString(CultureInfo.InvariantCulture), layers.Select(LayoutLayer.Of))));
        File.WriteAllLines(work["chains"], images.Select(ChainOf));
        ProcessStartInfo start = new(
            "unshare", ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", Script, "bash", work.Path, .. snapshotters])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["PATH"] = Path;
        process = Process.Start(start) ?? throw new InvalidOperationException("unshare did not start");
        string? said = process.StandardOutput.ReadLine();
        if (said != "ready")
        {
            process.StandardInput.Close();
            string error = $"{said}\n{process.StandardOutput.ReadToEnd()}\n{process.StandardError.ReadToEnd()}";
            Dispose();
            throw new InvalidOperationException($"containerd did not do its work: {error}");
        }
    }

    internal static void SkipUnlessPossible()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "containerd and mounting need root");
        Assert.SkipUnless(Array.TrueForAll(["containerd", "ctr"], IsHere), "the other side is containerd, and it is not here (scripts/containerd.sh)");

        static bool IsHere(string name) => Array.Exists(Path.Split(':', StringSplitOptions.RemoveEmptyEntries), place => File.Exists($"{place}/{name}"));
    }

    /// <summary>The tree's directory, as it is seen from here; null where containerd refuses the image, and what it says.</summary>
    internal string? Tree(string snapshotter, int image, out string complaint)
    {
        Assert.InRange(image, 0, count - 1);
        string place = string.Create(CultureInfo.InvariantCulture, $"/proc/{process.Id}/root/mnt/{snapshotter}/{image}");
        bool made = Directory.Exists(place);
        complaint = made ? "" : File.ReadAllText(place);
        return made ? place : null;
    }

    // "ChainID(L₀|...|Lₙ₋₁|Lₙ) = Digest(ChainID(L₀|...|Lₙ₋₁) + " " + DiffID(Lₙ))" (image-spec, config.md)
    private static string ChainOf(IEnumerable<byte[]> layers) => layers.Select(layer => Digest.Of(layer).ToString())
        .Aggregate((chain, layer) => Digest.Of(Encoding.ASCII.GetBytes($"{chain} {layer}")).ToString());

    public void Dispose()
    {
        process.StandardInput.Close();
        process.WaitForExit();
        process.Dispose();
        work.Dispose();
    }
}
