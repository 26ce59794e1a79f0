using System.CommandLine;
using System.Globalization;
using System.Reflection;
using NativePull.Layers;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Registry;
using NativePull.Store;

namespace NativePull.Cli;

/// <summary>
/// One run of the program: typed text and environment become options here and nowhere else; signals, progress and the store are held
/// for as long as the command runs.
/// </summary>
internal sealed class Session : IDisposable
{
    private const string EmbeddedRootsNotice = "this machine has no CA bundle; the built-in Mozilla roots were used";

    private readonly ParseResult parsed;
    private readonly Options options;
    private readonly Interruption interruption = new();
    private readonly Dictionary<string, RegistryClient> registries = [];
    // What the deadline's cancellation has not ended by then hangs in a read or write that nothing can cancel: a pipe that is not read, or written.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1.7);
    private static readonly TimeSpan LastWord = TimeSpan.FromSeconds(0.1);

    private readonly TimeSpan? limit;
    private readonly Timer? impatience;
    private readonly CancellationTokenSource ending;
    private readonly WarningReports warnings;
    private RegistryOptions? registryOptions;
    private volatile string? subject; // of the work under way, as it was typed

    internal Session(ParseResult parsed, Options options)
    {
        this.parsed = parsed;
        this.options = options;
        // a mask such as 0777 must not keep this process out of its own store and staging
        Privileges.KeepOwnerBits();
        limit = parsed.GetValue(options.Deadline);
        ending = CancellationTokenSource.CreateLinkedTokenSource(interruption.Token);
        if (limit is { } time && time.TotalMilliseconds < int.MaxValue) // weeks: no limit
        {
            ending.CancelAfter(time);
            impatience = new Timer(_ => EndAtOnce(), null, time + Patience, Timeout.InfiniteTimeSpan);
        }

        interruption.OutOfTime = () => TellAtOnce(ExitCode.Explain(new OperationCanceledException(), interruption.Reason));

        Reporter = new Reporter(
            parsed.GetValue(options.Progress) ?? ProgressMode.Auto,
            parsed.GetValue(options.Quiet),
            parsed.GetValue(options.Verbose),
            !Console.IsErrorRedirected && Environment.GetEnvironmentVariable("TERM") is { Length: > 0 } terminal && terminal != "dumb",
            TimeProvider.System);
        warnings = new WarningReports(Reporter);
        Retries = new RetryReports(Reporter);
        Settings = new RegistrySettings(parsed, options, warnings, ending.Token);
    }

    internal static string Version { get; } =
        typeof(Session).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    internal Reporter Reporter { get; }

    internal IProgress<RetryNotice> Retries { get; }

    internal RegistrySettings Settings { get; }

    /// <summary>What the way to the registries gave rise to, so far.</summary>
    internal IReadOnlyList<string> RegistryWarnings => [.. warnings.Texts, .. UsedEmbeddedRoots ? [EmbeddedRootsNotice] : Array.Empty<string>()];

    internal bool Json => parsed.GetValue(options.Json);

    internal CancellationToken Token => ending.Token;

    /// <summary>Runs the work for each reference; one that fails is told, and the others still have their turn.</summary>
    /// <returns>The exit code: that of the first failure.</returns>
    internal static async Task<int> RunAsync(ParseResult parsed, Options options, IReadOnlyList<string> references, Func<Session, Reference, Task> work)
    {
        using Session session = new(parsed, options);
        List<(string? Text, PullException Failure)> failures = [];
        List<(string Text, Reference Reference)> parsedReferences = [];
        foreach (string text in references)
        {
            try
            {
                parsedReferences.Add((text, session.Parse(text)));
            }
            catch (PullException wrong)
            {
                // a call with one bad reference is a wrong call: nothing of it is done
                return session.Conclude([(text, wrong)]);
            }
        }

        if (session.Settings.HasOwnCredentials && parsedReferences.Select(one => one.Reference.Registry).Distinct().Skip(1).Any())
        {
            return session.Conclude([(null, new PullException(PullError.Usage, "one user or token cannot be for several registries: name references of one"))]);
        }

        foreach ((string text, Reference reference) in parsedReferences)
        {
            if (await session.TryAsync(text, () => work(session, reference)) is { } failure)
            {
                failures.Add((text, failure));
            }

            if (session.ending.IsCancellationRequested)
            {
                break;
            }
        }

        return session.Conclude(failures);
    }

    /// <summary>The same for work that is about no reference.</summary>
    internal static Task<int> RunAsync(ParseResult parsed, Options options, Func<Session, Task> work) => RunAsync(parsed, options, null, work);

    /// <summary>The same for work about something else that failures are told with.</summary>
    internal static async Task<int> RunAsync(ParseResult parsed, Options options, string? subject, Func<Session, Task> work)
    {
        using Session session = new(parsed, options);
        return session.Conclude(await session.TryAsync(subject, () => work(session)) is { } failure ? [(subject, failure)] : []);
    }

    internal Platform Platform => parsed.GetValue(options.Platform) ?? Platform.OfThisMachine;

    internal bool PlatformIsExplicit => parsed.GetValue(options.Platform) is not null;

    /// <summary>Whether what is fetched is to be gone when the call is done.</summary>
    internal bool KeepsNoStore => parsed.GetValue(options.Store) == "none";

    internal StoreLayout Layout => new(StorePath());

    internal StoreOptions StoreOptions => new() { Sync = !parsed.GetValue(options.NoSync) };

    /// <summary>The client of one registry, made when first needed and kept: its connections and tokens serve every reference.</summary>
    internal RegistryClient Registry(string name)
    {
        if (!registries.TryGetValue(name, out RegistryClient? client))
        {
            client = new RegistryClient(name, RegistryOptions, Retries);
            registries.Add(name, client);
        }

        return client;
    }

    /// <summary>The same for all registries; made when first needed, for a password may come from stdin.</summary>
    internal RegistryOptions RegistryOptions => registryOptions ??= Settings.Make();

    public void Dispose()
    {
        foreach (RegistryClient client in registries.Values)
        {
            client.Dispose();
        }

        Reporter.Dispose();
        impatience?.Dispose();
        ending.Dispose();
        interruption.Dispose();
    }

    private Reference Parse(string text) =>
        !Reference.TryParse(text, out Reference? reference, out string? problem) ? throw new PullException(PullError.InvalidReference, $"reference \"{text}\": {problem}")
        : Settings.ShortNameProblem(text) is { } unclear ? throw new PullException(PullError.InvalidReference, $"reference \"{text}\": {unclear}")
        : reference;

    private async Task<PullException?> TryAsync(string? what, Func<Task> work)
    {
        subject = what;
        try
        {
            await work();
            return null;
        }
        catch (Exception failure) when (ExitCode.IsExpected(failure))
        {
            return failure is OperationCanceledException && interruption.Reason is null && ending.IsCancellationRequested
                ? DeadlinePassed() // only the deadline else cancels
                : ExitCode.Explain(failure, interruption.Reason);
        }
    }

    private bool UsedEmbeddedRoots => registries.Values.Any(client => client.UsedEmbeddedRoots);

    private PullException DeadlinePassed() =>
        new(PullError.Deadline, $"not done within the {limit.GetValueOrDefault().TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture)} s of --deadline; parts are kept");

    // As safe as a signal's hard end: everything on disk is resumable or invisible.
    private void EndAtOnce()
    {
        if (interruption.Reason is not null)
        {
            return; // which has its own end
        }

        PullException failure = DeadlinePassed();
        TellAtOnce(failure);
        Environment.Exit(ExitCode.Of(failure.Reason));
    }

    // Neither stream need be read by anybody.
    private void TellAtOnce(PullException failure)
    {
        if (Json)
        {
            Thread result = new(() => Output.Result(ResultJson.OfFailure(subject, failure))) { IsBackground = true, Name = "last word" };
            result.Start();
            result.Join(LastWord);
        }

        Output.Error(failure.Sentence, LastWord);
    }

    private int Conclude(IReadOnlyList<(string? Text, PullException Failure)> failures)
    {
        if (parsed.GetValue(options.Verbose) && UsedEmbeddedRoots)
        {
            Output.Note(EmbeddedRootsNotice);
        }

        // after the bars are gone, so that the sentence is the last thing seen
        Reporter.Dispose();
        foreach ((string? text, PullException failure) in failures)
        {
            if (Json)
            {
                Output.Result(ResultJson.OfFailure(text, failure));
            }

            Output.Error(failure.Sentence);
        }

        return failures.Count == 0 ? ExitCode.Done : ExitCode.Of(failures[0].Failure.Reason);
    }

    private string StorePath()
    {
        if (KeepsNoStore)
        {
            throw new PullException(PullError.Usage, "--store none is for pull with --rootfs DIR alone (a directory of that name is ./none)");
        }

        if (parsed.GetValue(options.Store) is { Length: > 0 } typed)
        {
            return Path.GetFullPath(typed);
        }

        if (Environment.IsPrivilegedProcess)
        {
            return "/var/lib/nativepull";
        }

        return UserPaths.Below("XDG_DATA_HOME", "nativepull")
            ?? UserPaths.InHome(".local/share/nativepull")
            ?? throw new PullException(PullError.Usage, "where to keep images is not known without a home directory: give --store DIR");
    }

    /// <summary>Warnings of the way to the registries are shown at once, and are part of the result.</summary>
    private sealed class WarningReports(IProgress<PullEvent> events) : IProgress<string>
    {
        private readonly WarningCollector collected = new(events);

        internal IReadOnlyList<string> Texts => collected.Texts;

        public void Report(string value) => collected.Report(new PullEvent.Warning(value));
    }

    private sealed class RetryReports(IProgress<PullEvent> events) : IProgress<RetryNotice>
    {
        public void Report(RetryNotice value) => events.Report(new PullEvent.Retrying(value.What, value.Try, value.Wait, value.Reason));
    }
}
