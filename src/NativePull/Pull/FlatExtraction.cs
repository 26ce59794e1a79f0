using NativePull.Layers;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// All layers in order onto one root, in a staging directory beside the destination. Nothing is visible until <see cref="Publish"/>; disposing
/// without it leaves nothing behind.
/// </summary>
/// <param name="isThere">Whether the destination already is this image's.</param>
internal sealed class FlatExtraction(
    string destination, bool replace, StoreOptions store, Func<bool> isThere, IReadOnlyList<LayerSource> sources, ExtractOptions options) : IDisposable
{
    private readonly ExtractOptions flat = options with { Format = LayerFormat.Flat };
    private StagedDirectory? staged;

    /// <summary>Takes the destination, after waiting for a live process that has it.</summary>
    internal async Task BeginAsync(CancellationToken token) =>
        staged = await StagedDirectory.BeginAsync(destination, store, isThere, token, replace);

    /// <summary>Ends when every layer is applied; blobs may still await their commit.</summary>
    internal async Task RunAsync(CancellationToken token)
    {
        while (staged is { } target)
        {
            try
            {
                await Blocking.OnOwnThread(() => ApplyAll(target, token), token);
                return;
            }
            catch (PartRestartedException)
            {
                // what was read so far were not the blob's bytes: all of it again, from the first layer
                target.Clear();
            }
        }
    }

    /// <summary>What was written and lost, of all layers together; null where nothing had to be made.</summary>
    internal ExtractReport? Report { get; private set; }

    /// <summary>Under which policies; see <see cref="ExtractOptions.Variant"/>.</summary>
    internal static string VariantOf(ExtractOptions options) => (options with { Format = LayerFormat.Flat }).Variant;

    /// <summary>Which directory it is, before and after it is published; null where nothing had to be made.</summary>
    internal string? Identity => staged?.Identity;

    /// <inheritdoc cref="StagedDirectory.Prepare"/>
    internal void Prepare() => staged?.Prepare();

    internal void Publish() => staged?.Publish();

    /// <summary>As <see cref="StagedDirectory.RemoveOld"/>.</summary>
    internal void RemoveOld() => staged?.RemoveOld();

    public void Dispose() => staged?.Dispose();

    private void ApplyAll(StagedDirectory target, CancellationToken token)
    {
        using RootDirectory root = RootDirectory.Open(target.Path, flat.KernelResolution);
        ExtractReport total = new();
        Allowance allowance = new(flat.Limits);
        new EntryMetadata(flat, total, allowance).Default(root.Handle, default);
        root.SetDefaults();
        foreach (LayerSource source in sources)
        {
            using LayerApplier applier = new(root, flat, allowance);
            source.Apply(applier, "rootfs", token);
            source.Settle(applier, [], token);
            total.Add(applier.Report);
        }

        Report = total;
    }
}
