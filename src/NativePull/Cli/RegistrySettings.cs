using System.CommandLine;
using System.Text;
using NativePull.Native;
using NativePull.Registry;

namespace NativePull.Cli;

/// <summary>What options, environment and this machine's files say of registries: trust, proxies, mirrors, credentials.</summary>
/// <param name="warnings">Told what is wrong with credentials and mirrors without being a failure.</param>
/// <param name="stop">Ends a wait for standard input.</param>
internal sealed class RegistrySettings(ParseResult parsed, Options options, IProgress<string> warnings, CancellationToken stop)
{
    // bytes; tokens that stand in for passwords have a few KiB
    private const int MaximumPassword = 64 * 1024;

    private RegistriesConf? registriesConf;

    /// <exception cref="PullException">Usage: they contradict each other, or a file they name cannot be used.</exception>
    internal RegistryOptions Make()
    {
        RegistryOptions defaults = new() { Credentials = MakeCredentials() };
        return defaults with
        {
            ConnectTimeout = RetryPolicy.Countable(parsed.GetValue(options.ConnectTimeout) ?? defaults.ConnectTimeout),
            StallTimeout = RetryPolicy.Countable(parsed.GetValue(options.StallTimeout) ?? defaults.StallTimeout),
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
            RootsAreNamed = UserPaths.IsSet("SSL_CERT_FILE") || UserPaths.IsSet("SSL_CERT_DIR"),
            CertificateDirectories = [.. new[] { UserPaths.InHome(".config/containers/certs.d") }.OfType<string>(), "/etc/containers/certs.d", "/etc/docker/certs.d"],
            ForeignLayers = parsed.GetValue(options.ForeignLayers),
            Mirrors = new MirrorSettings
            {
                Given = parsed.GetValue(options.Mirror) ?? [],
                HostsDirectory = parsed.GetValue(options.HostsDir),
                Conf = RegistriesConf,
            },
            Proxy = ProxySettings.Of(Environment.GetEnvironmentVariable),
            Warnings = warnings,
            UserAgent = $"nativepull/{Session.Version}",
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
            return Credentials.Of(Credential.OfUser(user, PasswordFromStdin(stop)));
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

    /// <summary>Where a machine says that a name without a registry may mean several, Docker Hub would be a guess.</summary>
    /// <returns>What is unclear; null: nothing.</returns>
    /// <exception cref="PullException">Usage: registries.conf cannot be used.</exception>
    internal string? ShortNameProblem(string text)
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

    /// <summary>All of stdin, without the line's end.</summary>
    /// <exception cref="PullException">Usage: it is empty, or no password.</exception>
    internal static string PasswordFromStdin(CancellationToken token)
    {
        byte[] content = Terminal.ReadToEnd(MaximumPassword, token)
            ?? throw new PullException(PullError.Usage, $"--password-stdin: more than {MaximumPassword} bytes on standard input are no password");
        string password = Encoding.UTF8.GetString(content).TrimEnd('\r', '\n');
        return password.Length > 0 ? password : throw new PullException(PullError.Usage, "--password-stdin: the password is empty");
    }

    private static string ReadToken(string file)
    {
        string text;
        try
        {
            text = File.ReadAllText(file).Trim();
        }
        catch (Exception missing) when (missing is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new PullException(PullError.Usage, $"{file}: no such file of a registry token");
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
        {
            throw new PullException(PullError.Machine, $"{file}: the registry token cannot be read", unreadable);
        }

        return text.Length > 0 && text.All(c => c is > ' ' and <= '~')
            ? text
            : throw new PullException(PullError.Usage, $"{file}: not one token");
    }

    // A helper sees the caller's environment, without what stands in here for what the caller does not have.
    private static HelperSettings Helpers() => new(
        Environment.GetEnvironmentVariable("PATH") ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        [
            .. Environment.GetEnvironmentVariables().Cast<System.Collections.DictionaryEntry>()
                .Where(variable => variable.Key is not ("HOME" or "OPENSSL_CONF") || variable.Value is not UserPaths.StandIn)
                .Select(variable => $"{variable.Key}={variable.Value}"),
        ]);

    /// <summary>Credentials came with this call, for one registry.</summary>
    internal bool HasOwnCredentials => parsed.GetValue(options.Username) is not null || parsed.GetValue(options.RegistryTokenFile) is not null;

    private static IEnumerable<string> UsualAuthFiles() => new[]
    {
        Directory.Exists(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR")) ? UserPaths.Below("XDG_RUNTIME_DIR", "containers/auth.json") : null,
        UserPaths.Below("XDG_CONFIG_HOME", "containers/auth.json") ?? UserPaths.InHome(".config/containers/auth.json"),
        UserPaths.Below("DOCKER_CONFIG", "config.json") ?? UserPaths.InHome(".docker/config.json"),
    }.OfType<string>();

    // Where distributions keep the merged bundle: Debian, Fedora, openSUSE, RHEL, Alpine and the BSDs.
    private static IReadOnlyList<string> RootFiles() =>
        Environment.GetEnvironmentVariable("SSL_CERT_FILE") is { Length: > 0 } named ? [named]
            : UserPaths.IsSet("SSL_CERT_DIR") ? []
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
            : UserPaths.IsSet("SSL_CERT_FILE") ? []
            : ["/etc/ssl/certs", "/etc/pki/tls/certs", "/system/etc/security/cacerts"];
}
