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

    // what stands in for an absent HOME, so that certificate chains can be built
    private const string StandIn = "/nonexistent";

    private readonly ParseResult parsed;
    private readonly Options options;
    private readonly Interruption interruption = new();
    private readonly Dictionary<string, RegistryClient> registries = [];
    private readonly TimeSpan? limit;
    private readonly CancellationTokenSource ending;
    private readonly WarningReports warnings;
    private RegistryOptions? registryOptions;
    private RegistriesConf? registriesConf;

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
        }

        Reporter = new Reporter(
            parsed.GetValue(options.Progress),
            parsed.GetValue(options.Quiet),
            parsed.GetValue(options.Verbose),
            !Console.IsErrorRedirected && Environment.GetEnvironmentVariable("TERM") is { Length: > 0 } terminal && terminal != "dumb",
            TimeProvider.System);
        warnings = new WarningReports(Reporter);
        Retries = new RetryReports(Reporter);
    }

    internal static string Version { get; } =
        typeof(Session).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    internal Reporter Reporter { get; }

    internal IProgress<RetryNotice> Retries { get; }

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
        // a call with one bad reference is a wrong call: nothing of it is done
        List<(string Text, Reference Reference)> parsedReferences = [];
        foreach (string text in references)
        {
            if (!Reference.TryParse(text, out Reference? reference, out string? problem))
            {
                return session.Conclude([(text, new PullException(PullError.InvalidReference, $"reference \"{text}\": {problem}"))]);
            }

            if (session.ShortNameProblem(text) is { } unclear)
            {
                return session.Conclude([(text, new PullException(PullError.InvalidReference, $"reference \"{text}\": {unclear}"))]);
            }

            parsedReferences.Add((text, reference));
        }

        if (session.HasOwnCredentials && parsedReferences.Select(one => one.Reference.Registry).Distinct().Skip(1).Any())
        {
            return session.Conclude([(null, new PullException(PullError.Usage, "one user or token cannot be for several registries: name references of one"))]);
        }

        foreach ((string text, Reference reference) in parsedReferences)
        {
            if (await session.TryAsync(() => work(session, reference)) is { } failure)
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
        return session.Conclude(await session.TryAsync(() => work(session)) is { } failure ? [(subject, failure)] : []);
    }

    internal Platform Platform => parsed.GetValue(options.Platform) ?? Platform.OfThisMachine;

    internal bool PlatformIsExplicit => parsed.GetValue(options.Platform) is not null;

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
    internal RegistryOptions RegistryOptions => registryOptions ??= MakeRegistryOptions();

    public void Dispose()
    {
        foreach (RegistryClient client in registries.Values)
        {
            client.Dispose();
        }

        Reporter.Dispose();
        ending.Dispose();
        interruption.Dispose();
    }

    private async Task<PullException?> TryAsync(Func<Task> work)
    {
        try
        {
            await work();
            return null;
        }
        catch (Exception failure) when (failure is PullException or IOException or UnauthorizedAccessException or OperationCanceledException)
        {
            return failure is OperationCanceledException && interruption.Reason is null && ending.IsCancellationRequested
                ? new PullException(PullError.Deadline, $"not done within the {limit!.Value.TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture)} s of --deadline; parts are kept") // only the deadline else cancels
                : ExitCode.Explain(failure, interruption.Reason);
        }
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
        if (parsed.GetValue(options.Store) is { Length: > 0 } typed)
        {
            return Path.GetFullPath(typed);
        }

        if (Environment.IsPrivilegedProcess)
        {
            return "/var/lib/nativepull";
        }

        return EnvironmentPath("XDG_DATA_HOME", "nativepull")
            ?? HomePath(".local/share/nativepull")
            ?? throw new PullException(PullError.Usage, "where to keep images is not known without a home directory: give --store DIR");
    }

    private RegistryOptions MakeRegistryOptions()
    {
        RegistryOptions defaults = new() { Credentials = MakeCredentials() };
        return defaults with
        {
            ConnectTimeout = parsed.GetValue(options.ConnectTimeout) ?? defaults.ConnectTimeout,
            StallTimeout = parsed.GetValue(options.StallTimeout) ?? defaults.StallTimeout,
            MinimumRate = parsed.GetValue(options.MinRate) ?? defaults.MinimumRate,
            Retry = defaults.Retry with { Tries = parsed.GetValue(options.Retries) ?? defaults.Retry.Tries },
            WaitNetwork = parsed.GetValue(options.WaitNetwork) ?? defaults.WaitNetwork,
            Resolve = parsed.GetValue(options.Resolve) ?? defaults.Resolve,
            PlainHttp = parsed.GetValue(options.PlainHttp),
            InsecureSkipTlsVerify = parsed.GetValue(options.InsecureSkipTlsVerify),
            CaFile = parsed.GetValue(options.CaFile),
            CertDirectory = parsed.GetValue(options.CertDir),
            RootFiles = RootFiles(),
            RootDirectories = RootDirectories(),
            RootsAreNamed = IsSet("SSL_CERT_FILE") || IsSet("SSL_CERT_DIR"),
            CertificateDirectories = [.. new[] { HomePath(".config/containers/certs.d") }.OfType<string>(), "/etc/containers/certs.d", "/etc/docker/certs.d"],
            ForeignLayers = parsed.GetValue(options.ForeignLayers),
            Mirrors = new MirrorSettings
            {
                Given = parsed.GetValue(options.Mirror) ?? [],
                HostsDirectory = parsed.GetValue(options.HostsDir),
                Conf = RegistriesConf,
            },
            Proxy = ProxySettings.Of(Environment.GetEnvironmentVariable),
            Warnings = warnings,
            UserAgent = $"nativepull/{Version}",
        };
    }

    // login has its own
    private Credentials MakeCredentials()
    {
        if (parsed.CommandResult.Command.Name == "login")
        {
            return Credentials.Anonymous;
        }

        string? user = parsed.GetValue(options.Username);
        bool fromStdin = parsed.GetValue(options.PasswordStdin);
        if (parsed.GetValue(options.Anonymous))
        {
            return Credentials.Anonymous;
        }

        if ((user is null) == fromStdin)
        {
            throw new PullException(PullError.Usage, "--username and --password-stdin go together");
        }

        if (user is not null)
        {
            return Credentials.Of(Credential.OfUser(user, PasswordFromStdin()));
        }

        return parsed.GetValue(options.RegistryTokenFile) is { Length: > 0 } tokenFile
            ? Credentials.Of(Credential.OfRegistryToken(ReadToken(tokenFile)))
            : Credentials.FromFiles(AuthFiles(), Helpers(), warnings);
    }

    /// <summary>Where credentials are looked for, in order.</summary>
    internal IReadOnlyList<AuthFile> AuthFiles() =>
        parsed.GetValue(options.AuthFile) is { Length: > 0 } named ? [new AuthFile(named, IsRequired: true)]
        : Environment.GetEnvironmentVariable("REGISTRY_AUTH_FILE") is { Length: > 0 } environment ? [new AuthFile(environment, IsRequired: true)]
        : [.. UsualAuthFiles().Select(path => new AuthFile(path, IsRequired: false))];

    // Where a machine says that a name without a registry may mean several, Docker Hub would be a guess.
    private string? ShortNameProblem(string text)
    {
        int slash = text.IndexOf('/', StringComparison.Ordinal);
        bool isShort = slash < 0 || !(text.AsSpan(0, slash).ContainsAny('.', ':') || text[..slash].Equals("localhost", StringComparison.OrdinalIgnoreCase));
        return isShort && parsed.CommandResult.Command.Options.Contains(options.RegistriesConf) && RegistriesConf?.SearchRegistries is { } search && search is not ["docker.io"]
            ? $"a short name, which registries.conf lets mean {(search.Count == 0 ? "nothing" : string.Join(" or ", search))}: give the registry too"
            : null;
    }

    private RegistriesConf? RegistriesConf => registriesConf ??=
        (parsed.GetValue(options.RegistriesConf) ?? Environment.GetEnvironmentVariable("CONTAINERS_REGISTRIES_CONF")) is { Length: > 0 } file
            ? NativePull.Registry.RegistriesConf.Load(file)
            : null;

    internal static string PasswordFromStdin() => Console.In.ReadToEnd().TrimEnd('\r', '\n');

    private static string ReadToken(string file)
    {
        string text = File.ReadAllText(file).Trim();
        return text.Length > 0 && text.All(c => c is > ' ' and <= '~')
            ? text
            : throw new PullException(PullError.Usage, $"{file}: not one token");
    }

    // A helper sees the caller's environment, without what stands in here for what the caller does not have.
    private static HelperSettings Helpers() => new(
        Environment.GetEnvironmentVariable("PATH") ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        [
            .. Environment.GetEnvironmentVariables().Cast<System.Collections.DictionaryEntry>()
                .Where(variable => variable.Key is not ("HOME" or "OPENSSL_CONF") || variable.Value is not StandIn)
                .Select(variable => $"{variable.Key}={variable.Value}"),
        ]);

    private bool HasOwnCredentials => parsed.GetValue(options.Username) is not null || parsed.GetValue(options.RegistryTokenFile) is not null;

    private bool UsedEmbeddedRoots => registries.Values.Any(client => client.UsedEmbeddedRoots);

    private static IEnumerable<string> UsualAuthFiles() => new[]
    {
        Directory.Exists(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR")) ? EnvironmentPath("XDG_RUNTIME_DIR", "containers/auth.json") : null,
        EnvironmentPath("XDG_CONFIG_HOME", "containers/auth.json") ?? HomePath(".config/containers/auth.json"),
        EnvironmentPath("DOCKER_CONFIG", "config.json") ?? HomePath(".docker/config.json"),
    }.OfType<string>();

    // Where distributions keep the merged bundle: Debian, Fedora, openSUSE, RHEL, Alpine and the BSDs.
    private static IReadOnlyList<string> RootFiles() =>
        Environment.GetEnvironmentVariable("SSL_CERT_FILE") is { Length: > 0 } named ? [named]
            : IsSet("SSL_CERT_DIR") ? []
            :
            [
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
                "/etc/ssl/ca-bundle.pem",
                "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                "/etc/ssl/cert.pem",
            ];

    // The same, where there is no bundle: Debian and its descendants, RHEL, Android.
    private static IReadOnlyList<string> RootDirectories() =>
        Environment.GetEnvironmentVariable("SSL_CERT_DIR") is { Length: > 0 } named ? named.Split(':', StringSplitOptions.RemoveEmptyEntries)
            : IsSet("SSL_CERT_FILE") ? []
            : ["/etc/ssl/certs", "/etc/pki/tls/certs", "/system/etc/security/cacerts"];

    private static bool IsSet(string variable) => Environment.GetEnvironmentVariable(variable) is { Length: > 0 };

    private static string? EnvironmentPath(string variable, string below) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } directory ? Path.Combine(directory, below) : null;

    private static string? HomePath(string below) =>
        Environment.GetEnvironmentVariable("HOME") is { Length: > 0 } home && home != StandIn ? Path.Combine(home, below) : null;

    /// <summary>Warnings of the way to the registries are shown at once, and are part of the result.</summary>
    private sealed class WarningReports(IProgress<PullEvent> events) : IProgress<string>
    {
        private readonly Lock gate = new();
        private readonly List<string> texts = [];

        internal IReadOnlyList<string> Texts
        {
            get
            {
                lock (gate)
                {
                    return [.. texts];
                }
            }
        }

        public void Report(string value)
        {
            lock (gate)
            {
                texts.Add(value);
            }

            events.Report(new PullEvent.Warning(value));
        }
    }

    private sealed class RetryReports(IProgress<PullEvent> events) : IProgress<RetryNotice>
    {
        public void Report(RetryNotice value) => events.Report(new PullEvent.Retrying(value.What, value.Try, value.Wait, value.Reason));
    }
}
