using NativePull.Layers;
using NativePull.Oci;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// Everything that one image shall become outside the store. The trees grow while blobs arrive; the archive, which reads each layer twice, is written
/// when they are all here; only when all of it is made is the first of it published. Disposing leaves nothing half-made behind.
/// </summary>
/// <param name="known">Says which trees are this image's already; null where no catalog remembers.</param>
internal sealed class Outputs(OutputOptions options, Digest image, IReadOnlyList<LayerSource> sources, Catalog? known) : IDisposable
{
    private readonly string flatVariant = FlatExtraction.VariantOf(options.Extract);

    // one path is one tree: which kind of tree is part of what the catalog remembers of it
    private readonly string layersVariant = "layers-" + OverlayExtraction.VariantOf(options.Extract);

    private readonly Lock gate = new();
    private FlatExtraction? flat;
    private LayersExtraction? layers;
    private OutputFile? tar;

    /// <summary>What was written and lost: of the flattened tree where one was made, else of the layer directories; null where neither was.</summary>
    internal ExtractReport? Report => flat?.Report ?? ExtractReport.Sum(layers?.Reports);

    /// <summary>The same of each layer directory, bottom first; null where none were made.</summary>
    internal IReadOnlyList<ExtractReport>? LayerReports => layers?.Reports;

    /// <summary>Refuses, before anything is fetched, what can never be published.</summary>
    /// <exception cref="PullException">Machine.</exception>
    internal void Check()
    {
        Check(options.Rootfs, HasRootfs);
        Check(options.Layers, HasLayers);
    }

    /// <summary>Starts the trees; complete when every task of <paramref name="work"/> is.</summary>
    internal void Start(WorkGroup work)
    {
        List<(string Destination, Func<CancellationToken, Task> Begin, Func<CancellationToken, Task> Run)> trees = [];
        if (options.Rootfs is { } rootfs)
        {
            flat = new FlatExtraction(rootfs, options.Replace, Store, HasRootfs, sources, options.Extract);
            trees.Add((rootfs, flat.BeginAsync, flat.RunAsync));
        }

        if (options.Layers is { } directory)
        {
            layers = new LayersExtraction(directory, options.Replace, Store, HasLayers, sources, options.Extract);
            trees.Add((directory, layers.BeginAsync, layers.RunAsync));
        }

        // A destination is held until all are published. Everybody takes them in the order of their names: else two calls for the same two would
        // each have one and wait for the other.
        Task before = Task.CompletedTask;
        foreach ((_, Func<CancellationToken, Task> begin, _) in trees.OrderBy(tree => tree.Destination, StringComparer.Ordinal))
        {
            Task earlier = before;
            before = work.Run(async token =>
            {
                await earlier;
                await begin(token);
            });
        }

        foreach ((_, _, Func<CancellationToken, Task> run) in trees)
        {
            _ = work.Run(async token =>
            {
                await before;
                await run(token);
            });
        }
    }

    /// <summary>Writes the archive; every blob is here.</summary>
    internal async Task WriteArchiveAsync(CancellationToken token)
    {
        if (options.Tar is not { } path)
        {
            return;
        }

        bool isStream = path == OutputOptions.Stdout || Destination.IsStream(path);
        Task writing = Blocking.OnOwnThread(
            () =>
            {
                tar = path == OutputOptions.Stdout ? OutputFile.Stdout() : OutputFile.Begin(path, options.Sync);
                Flatten(tar, token);
            },
            token);
        // whoever reads a pipe may never come, or never read on: then the thread stays behind, and the staging goes without it
        await (isStream ? writing.WaitAsync(token) : writing);
    }

    /// <summary>Makes visible what was made; then what it replaced is removed, which may take long and may fail.</summary>
    internal void Publish()
    {
        // what turns out only now to be impossible for one of them is done for none
        flat?.Prepare();
        layers?.Prepare();
        tar?.Prepare();
        try
        {
            // said before it is done: after a crash between the two the directory is still recognised, or is not there at all
            if (flat?.Identity is { } root)
            {
                known?.RecordRootfs(options.Rootfs!, image, flatVariant, root);
                flat.Publish();
            }

            if (layers?.Identity is { } directory)
            {
                known?.RecordRootfs(options.Layers!, image, layersVariant, directory);
                layers.Publish();
            }

            tar?.Publish();
        }
        finally
        {
            RemoveOld();
        }
    }

    /// <summary>The published layer directories, bottom first; null where none were asked for.</summary>
    internal IReadOnlyList<string>? LayerPaths => options.Layers is not { } directory
        ? null
        : [.. LayersExtraction.NamesOf([.. sources.Select(source => source.Layer)]).Select(name => Path.Combine(directory, name))];

    public void Dispose()
    {
        flat?.Dispose();
        layers?.Dispose();
        tar?.Dispose();
    }

    private void RemoveOld()
    {
        try
        {
            flat?.RemoveOld();
        }
        finally
        {
            layers?.RemoveOld();
        }
    }

    private void Check(string? destination, Func<bool> isThere)
    {
        if (destination is null || isThere())
        {
            return;
        }

        try
        {
            StagedDirectory.Check(destination, options.Replace);
        }
        catch (PullException) when (isThere())
        {
            // published by another process after we looked
        }
    }

    private StoreOptions Store => new() { Sync = options.Sync };

    private bool HasRootfs() => Has(options.Rootfs!, flatVariant);

    private bool HasLayers() => Has(options.Layers!, layersVariant);

    // both trees may be waiting for other processes at once, and a catalog is one connection
    private bool Has(string destination, string variant)
    {
        lock (gate)
        {
            return known?.HasRootfs(destination, image, variant) ?? false;
        }
    }

    private void Flatten(OutputFile output, CancellationToken token)
    {
        LayerLimits limits = options.Extract.Limits;
        long? free = output.FreeBytes;
        using FlatArchive archive = new(
            limits with { MaximumUnpacked = limits.MaximumUnpacked ?? (free is null ? limits.MaximumStreamed : null) }, free, output.Directory is { } beside ? () => beside : options.Scratch);
        foreach (LayerSource source in sources)
        {
            source.Read("tar headers", tar => archive.Merge(tar, token), options.Extract.Limits, token);
        }

        archive.Begin(output);
        foreach (LayerSource source in sources)
        {
            source.Read("tar", tar => archive.Write(tar, token), options.Extract.Limits, token);
        }

        archive.End();
    }
}
