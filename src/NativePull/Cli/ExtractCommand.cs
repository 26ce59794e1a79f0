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

    // Needs no store, and makes none but where stdin, or more names than memory has room for, have no other place to be kept.
    private static async Task FromSourceAsync(Session session, SourceName source, OutputOptions outputs)
    {
        // what the shell makes of <(…), and /dev/stdin behind a pipe, lie nowhere that an output could be
        if (source.Path != SourceName.Stdin && !Destination.IsStream(source.Path))
        {
            OutputArguments.CheckApart(outputs, ("the source", Destination.Resolve(source.Path)));
        }

        using StandardInput stdin = new();
        outputs = outputs with { Scratch = () => StorePlace(session) };
        SourceExtractor extractor = new(stdin, () => SpoolPathAsync(session, outputs), session.Reporter, TimeProvider.System);
        PullResult result = await extractor.ExtractAsync(source, outputs, session.Platform, session.PlatformIsExplicit, session.Token);
        OutputArguments.Tell(session, result, outputs);
    }

    private static async Task<string> SpoolPathAsync(Session session, OutputOptions outputs)
    {
        string? beside = outputs.Rootfs ?? outputs.Layers ?? (outputs.Tar == OutputOptions.Stdout || Destination.IsStream(outputs.Tar!) ? null : outputs.Tar);
        if (beside is not null)
        {
            // on the file system that will have to hold the result too
            return Destination.InputOf(beside);
        }

        await LayoutIndex.EnsureStoreAsync(session.Layout, session.StoreOptions, session.Token);
        return Path.Combine(session.Layout.Parts, "input");
    }

    // Null where there can be no store (a root that is read-only, no home directory): what was asked for needs none, only more memory then.
    private static string? StorePlace(Session session)
    {
        try
        {
            // on the thread that writes the archive, which has nothing else to do meanwhile
            LayoutIndex.EnsureStoreAsync(session.Layout, session.StoreOptions, session.Token).GetAwaiter().GetResult();
            return session.Layout.Parts;
        }
        catch (Exception failure) when (failure is PullException or IOException or UnauthorizedAccessException)
        {
            session.Reporter.Report(new PullEvent.Warning($"no store for the names that memory has no room for, so memory holds them: {failure.Message}"));
            return null;
        }
    }
}
