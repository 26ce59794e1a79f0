using System.CommandLine;
using NativePull.Pull;
using NativePull.Store;

namespace NativePull.Cli;

/// <summary><c>extract</c>: an image that is already on this machine becomes files; no socket is opened.</summary>
internal static class ExtractCommand
{
    internal static Task<int> RunAsync(ParseResult parsed, Options options, string text) =>
        OutputArguments.RunAsync(parsed, options, parsed.GetValue(options.Rootfs), 1, mustHave: true, outputs =>
            SourceName.TryParse(text) is { } source
                ? Session.RunAsync(parsed, options, text, session => FromSourceAsync(session, source, outputs))
                : Session.RunAsync(parsed, options, [text], (session, reference) => PullCommand.PullAsync(session, reference, null, new PullOptions
                {
                    Platform = session.Platform,
                    PlatformIsExplicit = session.PlatformIsExplicit,
                    Policy = PullPolicy.Never,
                    Outputs = outputs,
                })));

    // Needs no store, and makes none but where stdin has no other place to be kept.
    private static async Task FromSourceAsync(Session session, SourceName source, OutputOptions outputs)
    {
        if (source.Path != SourceName.Stdin)
        {
            OutputArguments.CheckApart(outputs, ("the source", Destination.Resolve(source.Path)));
        }

        using StandardInput stdin = new();
        SourceExtractor extractor = new(stdin, () => SpoolPathAsync(session, outputs), session.Reporter, TimeProvider.System);
        PullResult result = await extractor.ExtractAsync(source, outputs, session.Platform, session.PlatformIsExplicit, session.Token);
        OutputArguments.Tell(session, result, outputs);
    }

    private static async Task<string> SpoolPathAsync(Session session, OutputOptions outputs)
    {
        string? beside = outputs.Rootfs ?? outputs.Layers ?? (outputs.Tar == OutputOptions.Stdout || Destination.IsStream(outputs.Tar!) ? null : outputs.Tar);
        if (beside is not null)
        {
            return SpoolFile.Beside(beside);
        }

        await LayoutIndex.EnsureStoreAsync(session.Layout, session.StoreOptions, session.Token);
        return Path.Combine(session.Layout.Parts, "input");
    }
}
