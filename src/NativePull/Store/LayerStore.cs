using System.Diagnostics.CodeAnalysis;
using NativePull.Oci;

namespace NativePull.Store;

/// <summary>Extracted overlay directories by chain ID: there means complete, for they are published by rename.</summary>
internal sealed class LayerStore(StoreLayout layout, StoreOptions options)
{
    internal bool TryFind(ChainId layer, [NotNullWhen(true)] out string? path)
    {
        path = layout.Layer(layer);
        if (Directory.Exists(path))
        {
            return true;
        }

        path = null;
        return false;
    }

    /// <summary>A staging directory for the layer. Waits for a process that is making it; null: it is there, now or after that wait.</summary>
    /// <exception cref="PullException">Locked.</exception>
    internal async Task<StagedDirectory?> BeginAsync(ChainId layer, CancellationToken token)
    {
        LockWait? wait = null;
        while (!TryFind(layer, out _))
        {
            if (StagedDirectory.TryBegin(layout.Layer(layer), options.Sync) is { } staged)
            {
                return staged;
            }

            // a live process is extracting: how far it is cannot be seen from here, so the wait is for as long as its lock lives
            wait ??= new LockWait(options with { LockTimeout = TimeSpan.MaxValue }, $"the layer of chain {layer}", () => 0);
            await wait.OnceMoreAsync(token);
        }

        return null;
    }
}
