using System.CommandLine;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Cli;

/// <summary><c>pull</c>: typed values → options → conductor → result.</summary>
internal static class PullCommand
{
    internal static Task<int> RunAsync(ParseResult parsed, Options options, IReadOnlyList<string> references, string? rootfs) =>
        OutputArguments.RunAsync(parsed, options, rootfs, references.Count, mustHave: false, outputs =>
        {
            PullOptions defaults = new() { Platform = parsed.GetValue(options.Platform) ?? Platform.OfThisMachine };
            PullOptions pull = defaults with
            {
                PlatformIsExplicit = parsed.GetValue(options.Platform) is not null,
                Policy = parsed.GetValue(options.Policy),
                Expect = parsed.GetValue(options.Expect),
                ExtractLayers = parsed.GetValue(options.Extract),
                Jobs = parsed.GetValue(options.Jobs) ?? defaults.Jobs,
                Connections = parsed.GetValue(options.Connections) ?? defaults.Connections,
                CheckTag = parsed.GetValue(options.CheckTag),
                LimitRate = parsed.GetValue(options.LimitRate),
                Outputs = outputs,
            };
            return Session.RunAsync(parsed, options, references, (session, reference) =>
                PullAsync(session, reference, pull.Policy == PullPolicy.Never ? null : session.Registry(reference.Registry), pull));
        });

    /// <param name="registry">Null: offline.</param>
    internal static async Task PullAsync(Session session, Reference reference, RegistryClient? registry, PullOptions pull)
    {
        if (!session.KeepsNoStore || registry is null)
        {
            OutputArguments.Tell(session, await PullIntoAsync(session.Layout, session, reference, registry, pull), pull.Outputs);
            return;
        }

        if (pull.Outputs.Rootfs is not { } rootfs || pull.ExtractLayers)
        {
            throw new PullException(
                PullError.Usage, $"--store none keeps nothing, so it {(pull.ExtractLayers ? "has no place for the layers of --extract" : "needs --rootfs DIR")} (a directory of that name is ./none)");
        }

        using TemporaryStore store = await TemporaryStore.BeginAsync(rootfs + ".part", session.StoreOptions, session.Token);
        PullResult result = await PullIntoAsync(store.Layout, session, reference, registry, pull);
        store.Remove();
        OutputArguments.Tell(session, result, pull.Outputs);
    }

    private static async Task<PullResult> PullIntoAsync(StoreLayout layout, Session session, Reference reference, RegistryClient? registry, PullOptions pull)
    {
        OutputArguments.CheckApart(pull.Outputs, ("the store", Destination.Resolve(layout.Root)));
        BlobStore blobs = new(layout, session.StoreOptions);
        LayerStore layers = new(layout, session.StoreOptions);
        if (registry is null && !File.Exists(layout.Database))
        {
            throw new PullException(PullError.NotInStore, $"{reference}: there is no store at {layout.Root}");
        }

        using Catalog catalog = await Catalog.OpenAsync(layout, session.StoreOptions, session.Token);
        ImagePuller puller = new(registry, blobs, layers, catalog, session.Reporter, TimeProvider.System);
        PullOptions here = pull with { Outputs = pull.Outputs with { Scratch = () => layout.Parts } };
        PullResult result = await puller.PullAsync(reference, here, session.Token);
        return result with { Warnings = [.. session.RegistryWarnings, .. result.Warnings] };
    }
}
