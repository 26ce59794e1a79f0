using System.Globalization;
using NativePull.Layers;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// One overlay-ready directory a layer below one directory of the user's, <c>NN-HEX</c>: sorted bottom to top, HEX being the first 12 digits of the
/// diff ID. All of them are made in a staging directory and appear by one rename.
/// </summary>
/// <param name="isThere">Whether the destination already is this image's.</param>
internal sealed class LayersExtraction(
    string destination, bool replace, StoreOptions store, Func<bool> isThere, IReadOnlyList<LayerSource> sources, ExtractOptions options) : IDisposable
{
    private readonly ExtractOptions overlay = options with { Format = LayerFormat.Overlay };
    private StagedDirectory? staged;

    /// <summary>What was written and lost, bottom first; null where nothing had to be made.</summary>
    internal IReadOnlyList<ExtractReport>? Reports { get; private set; }

    /// <summary>Which directory it is, before and after it is published; null where nothing had to be made.</summary>
    internal string? Identity => staged?.Identity;

    /// <summary>The directories' names, bottom first.</summary>
    internal static IReadOnlyList<string> NamesOf(IReadOnlyList<PlannedLayer> layers)
    {
        // as many digits as sorting by name needs
        int digits = Math.Max(2, layers.Count.ToString(CultureInfo.InvariantCulture).Length);
        return [.. layers.Select((layer, i) => (i + 1).ToString("D" + digits.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture) + "-" + layer.DiffId.Short)];
    }

    /// <summary>Takes the destination, after waiting for a live process that has it.</summary>
    internal async Task BeginAsync(CancellationToken token) =>
        staged = await StagedDirectory.BeginAsync(destination, store, isThere, token, replace);

    /// <summary>Ends when every layer is applied and settled; blobs may still await their commit.</summary>
    internal async Task RunAsync(CancellationToken token)
    {
        while (staged is { } target)
        {
            try
            {
                await ApplyAllAsync(target.Path, token);
                File.SetUnixFileMode(target.Path, DirectoryMode);
                return;
            }
            catch (PartRestartedException)
            {
                // what was read so far were not the blob's bytes
                target.Clear();
            }
        }
    }

    /// <inheritdoc cref="StagedDirectory.Prepare"/>
    internal void Prepare() => staged?.Prepare();

    internal void Publish() => staged?.Publish();

    /// <summary>As <see cref="StagedDirectory.RemoveOld"/>.</summary>
    internal void RemoveOld() => staged?.RemoveOld();

    public void Dispose() => staged?.Dispose();

    private const UnixFileMode DirectoryMode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute
        | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;

    private async Task ApplyAllAsync(string below, CancellationToken token)
    {
        Allowance allowance = new(overlay.Limits);
        ExtractReport[] reports = new ExtractReport[sources.Count];
        string[] paths = [.. NamesOf([.. sources.Select(source => source.Layer)]).Select(name => Path.Combine(below, name))];
        using WorkGroup work = new(token);
        using SemaphoreSlim slots = new(Math.Max(1, Environment.ProcessorCount));
        using SemaphoreSlim open = new(LowerRoots.MaximumOpen);
        Task lower = Task.CompletedTask;
        for (int i = 0; i < sources.Count; i++)
        {
            int position = i;
            Task before = lower;
            lower = work.Run(cancel => ApplyAsync(paths, reports, allowance, position, open, slots, before, cancel));
        }

        await work.AwaitAllAsync();
        Reports = reports;
    }

    private async Task ApplyAsync(
        string[] paths, ExtractReport[] reports, Allowance allowance, int position, SemaphoreSlim open, SemaphoreSlim slots, Task lower, CancellationToken token)
    {
        // both are taken bottom-up: the lowest unfinished layer always has them, so waiting for it ends
        await open.WaitAsync(token);
        try
        {
            Directory.CreateDirectory(paths[position]);
            using RootDirectory root = RootDirectory.Open(paths[position], overlay.KernelResolution);
            using LayerApplier applier = new(root, overlay, allowance);
            await slots.WaitAsync(token);
            try
            {
                await Blocking.OnOwnThread(() => sources[position].Apply(applier, "layer", token), token);
            }
            finally
            {
                slots.Release();
            }

            await lower;
            await Blocking.OnOwnThread(() => OverlayExtraction.Settle(sources[position], applier, paths, position, overlay, token), token);
            reports[position] = applier.Report;
        }
        finally
        {
            open.Release();
        }
    }
}
