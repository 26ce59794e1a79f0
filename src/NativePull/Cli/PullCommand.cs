using System.CommandLine;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Cli;

/// <summary><c>pull</c> and its offline half <c>extract</c>: typed values → options → conductor → result.</summary>
internal static class PullCommand
{
    internal static Task<int> RunAsync(ParseResult parsed, Options options, IReadOnlyList<string> references, string? rootfs)
    {
        if (rootfs is not null && references.Count > 1)
        {
            Output.Error($"--rootfs takes one reference, not {references.Count}");
            return Task.FromResult(ExitCode.Usage);
        }

        PullOptions pull = MakeOptions(parsed, options) with
        {
            Policy = parsed.GetValue(options.Policy),
            Expect = parsed.GetValue(options.Expect),
            ExtractLayers = parsed.GetValue(options.Extract),
            Rootfs = rootfs is null ? null : Path.GetFullPath(rootfs),
            Jobs = parsed.GetValue(options.Jobs) ?? new PullOptions { Platform = Platform.OfThisMachine }.Jobs,
            Connections = parsed.GetValue(options.Connections) ?? new PullOptions { Platform = Platform.OfThisMachine }.Connections,
            CheckTag = parsed.GetValue(options.CheckTag),
            LimitRate = parsed.GetValue(options.LimitRate),
        };
        return Session.RunAsync(parsed, options, references, (session, reference) =>
            PullAsync(session, reference, pull.Policy == PullPolicy.Never ? null : session.Registry(reference.Registry), pull));
    }

    internal static Task<int> ExtractAsync(ParseResult parsed, Options options, string reference)
    {
        if (parsed.GetValue(options.Rootfs) is not { } rootfs)
        {
            Output.Error("extract needs --rootfs DIR");
            return Task.FromResult(ExitCode.Usage);
        }

        PullOptions pull = MakeOptions(parsed, options) with { Policy = PullPolicy.Never, Rootfs = Path.GetFullPath(rootfs) };
        return Session.RunAsync(parsed, options, [reference], (session, named) => PullAsync(session, named, null, pull));
    }

    private static PullOptions MakeOptions(ParseResult parsed, Options options)
    {
        return new PullOptions
        {
            Platform = parsed.GetValue(options.Platform) ?? Platform.OfThisMachine,
            PlatformIsExplicit = parsed.GetValue(options.Platform) is not null,
            Sync = !parsed.GetValue(options.NoSync),
            Extract = ExtractionSettings.Of(parsed, options),
        };
    }

    private static async Task PullAsync(Session session, Reference reference, RegistryClient? registry, PullOptions pull)
    {
        StoreLayout layout = session.Layout;
        BlobStore blobs = new(layout, session.StoreOptions);
        LayerStore layers = new(layout, session.StoreOptions);
        if (registry is null && !File.Exists(layout.Database))
        {
            throw new PullException(PullError.NotInStore, $"{reference}: there is no store at {layout.Root}");
        }

        if (pull.Rootfs is { } rootfs)
        {
            StagedDirectory.CheckKind(rootfs);
        }

        using Catalog catalog = await Catalog.OpenAsync(layout, session.StoreOptions, session.Token);
        ImagePuller puller = new(registry, blobs, layers, catalog, session.Reporter, TimeProvider.System);
        PullResult result = await puller.PullAsync(reference, pull, session.Token);
        session.Reporter.Drain();
        Output.Result(session.Json ? ResultJson.Of(result with { Warnings = [.. session.RegistryWarnings, .. result.Warnings] }) : reference.NameAt(result.Digest));
    }
}
