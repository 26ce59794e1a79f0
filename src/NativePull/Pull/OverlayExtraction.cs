using NativePull.Layers;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// One overlay-ready directory a layer, inside the store. Layers are applied in parallel; what depends on the layers below (implied parents,
/// hard links into them) is settled bottom-up once those are published.
/// </summary>
internal sealed class OverlayExtraction(IReadOnlyList<LayerSource> sources, LayerStore store, ExtractOptions options)
{
    private readonly ExtractOptions overlay = options with { Format = LayerFormat.Overlay };
    private readonly Allowance allowance = new(options.Limits);
    private readonly string?[] paths = new string?[sources.Count];
    private readonly ExtractReport?[] reports = new ExtractReport?[sources.Count];
    private readonly string variant = VariantOf(options);

    /// <summary>The published directories, bottom first; complete when every task of <see cref="Start"/> is.</summary>
    internal IReadOnlyList<string?> Paths => paths;

    /// <summary>What was written and lost, bottom first; null for a layer that was there.</summary>
    internal IReadOnlyList<ExtractReport?> Reports => reports;

    /// <summary>Under which policies; see <see cref="ExtractOptions.Variant"/>.</summary>
    internal static string VariantOf(ExtractOptions options) => (options with { Format = LayerFormat.Overlay }).Variant;

    /// <summary>Adds one task a layer to <paramref name="work"/>.</summary>
    internal void Start(WorkGroup work)
    {
        // given bottom-up: the lowest unfinished layer always has a slot, so waiting for it ends
        SemaphoreSlim slots = new(Math.Max(1, Environment.ProcessorCount));
        // and so with what those hold open that are applied and wait for it
        SemaphoreSlim open = new(LowerRoots.MaximumOpen);
        Task below = Task.CompletedTask;
        for (int i = 0; i < sources.Count; i++)
        {
            int position = i;
            Task lower = below;
            below = work.Run(token => ExtractAsync(position, open, slots, lower, token));
        }
    }

    private async Task ExtractAsync(int position, SemaphoreSlim open, SemaphoreSlim slots, Task lower, CancellationToken token)
    {
        LayerSource source = sources[position];
        await open.WaitAsync(token);
        try
        {
            if (await ApplyInTurnAsync(source, slots, token) is { } applied)
            {
                using (applied)
                {
                    await lower;
                    await source.Completion;
                    await Blocking.OnOwnThread(() => Settle(source, applied.Applier, paths, position, overlay, token), token);
                    applied.Staged.Publish();
                    reports[position] = applied.Applier.Report;
                }
            }
        }
        finally
        {
            open.Release();
        }

        paths[position] = store.TryFind(source.Layer.ChainId, variant, out string? path)
            ? path
            : throw new PullException(PullError.StoreDamaged, $"the layer directory of chain {source.Layer.ChainId} is not there after it was published");
    }

    // Null: it is there.
    private async Task<Applied?> ApplyInTurnAsync(LayerSource source, SemaphoreSlim slots, CancellationToken token)
    {
        await slots.WaitAsync(token);
        try
        {
            return store.TryFind(source.Layer.ChainId, variant, out _) ? null : await ApplyAsync(source, token);
        }
        finally
        {
            slots.Release();
        }
    }

    // Null: another process published it while we waited for its lock.
    private async Task<Applied?> ApplyAsync(LayerSource source, CancellationToken token)
    {
        while (true)
        {
            StagedDirectory? staged = await store.BeginAsync(source.Layer.ChainId, variant, token);
            if (staged is null)
            {
                return null;
            }

            Applied applied = new(staged, overlay, allowance);
            bool done = false;
            try
            {
                await Blocking.OnOwnThread(() => source.Apply(applied.Applier, "layer", token), token);
                done = true;
                return applied;
            }
            catch (PartRestartedException)
            {
                // what was read so far were not the blob's bytes: the staging directory goes, and another is begun
                allowance.Return(applied.Applier.Report);
            }
            finally
            {
                if (!done)
                {
                    applied.Dispose();
                }
            }
        }
    }

    /// <summary>Settles the layer at a position on those below it.</summary>
    /// <param name="paths">Every layer's directory, bottom first; those below the position are settled.</param>
    internal static void Settle(
        LayerSource source, LayerApplier applier, IReadOnlyList<string?> paths, int position, ExtractOptions options, CancellationToken token)
    {
        using LowerRoots lowersTopFirst = new(paths, position, options.KernelResolution);
        source.Settle(applier, lowersTopFirst, token);
    }

    /// <summary>A layer's tree between being applied and being published.</summary>
    private sealed class Applied : IDisposable
    {
        private readonly RootDirectory root;

        internal Applied(StagedDirectory staged, ExtractOptions options, Allowance allowance)
        {
            Staged = staged;
            root = RootDirectory.Open(staged.Path, options.KernelResolution);
            Applier = new LayerApplier(root, options, allowance);
        }

        internal StagedDirectory Staged { get; }

        internal LayerApplier Applier { get; }

        public void Dispose()
        {
            Applier.Dispose();
            root.Dispose();
            Staged.Dispose();
        }
    }
}
