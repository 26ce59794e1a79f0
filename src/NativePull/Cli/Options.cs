using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using NativePull.Layers;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Registry;

namespace NativePull.Cli;

/// <summary>
/// Every option once, with its parser and help text. Each may also be given by the environment as NATIVEPULL_ and its name in capitals
/// (<c>--limit-rate</c>: <c>NATIVEPULL_LIMIT_RATE</c>); the command line wins.
/// </summary>
internal sealed class Options
{
    internal Option<string?> Store { get; } = Text("--store", "DIR", "Where images are kept (default: /var/lib/nativepull as root, else below the data directory of the user); none, with --rootfs DIR: nowhere, but in DIR.part until that is done");

    internal Option<bool> Json { get; } = new("--json") { Description = "Print one JSON document per reference on stdout" };

    internal Option<bool> Quiet { get; } = new("--quiet", "-q") { Description = "Say nothing but the result and an error" };

    internal Option<bool> Verbose { get; } = new("--verbose", "-v") { Description = "Say more of what happens" };

    internal Option<ProgressMode?> Progress { get; } = OneOf<ProgressMode>(
        "--progress", "How progress is shown on stderr (default: auto, which draws bars on a terminal and else prints lines)");

    internal Option<Platform?> Platform { get; } = Parsed<Platform?>(
        "--platform",
        "OS/ARCH[/VARIANT]",
        "The platform to pull (default: this machine's)",
        text => Oci.Platform.TryParse(text, out Platform? platform) ? platform : null,
        "is not a platform (OS/ARCH or OS/ARCH/VARIANT)");

    internal Option<PullPolicy?> Policy { get; } = OneOf<PullPolicy>(
        "--policy", "When the registry is asked: newer, missing, always, never (default: newer for a tag, missing for a digest)");

    internal Option<Digest?> Expect { get; } = Parsed<Digest?>(
        "--expect",
        "DIGEST",
        "Fail unless the reference resolves to this digest",
        text => Digest.TryParse(text, out Digest digest) ? digest : null,
        "is not a digest (sha256: and 64, or sha512: and 128, lower-case hex digits)");

    internal Option<bool> Extract { get; } = new("--extract") { Description = "Extract each layer inside the store, ready for overlayfs" };

    internal Option<string?> Rootfs { get; } = Text("--rootfs", "DIR", "Publish the flattened root file system at DIR, which must be absent or empty");

    internal Option<string?> LayerDirectories { get; } = Text("--layers", "DIR", "Lay out one overlay-ready directory a layer at DIR, which must be absent or empty");

    internal Option<string?> Tar { get; } = Text("--tar", "FILE|-", "Write the flattened root file system as one archive to FILE, or to stdout");

    internal Option<bool> Replace { get; } = new("--replace") { Description = "Put the new tree in the place of what DIR holds, in one step" };

    internal Option<int?> Jobs { get; } = Parsed<int?>(
        "--jobs",
        "N",
        "Blobs downloaded at once at most, 1 to 64 (default: 8)",
        text => int.TryParse(text, out int jobs) && jobs is >= 1 and <= 64 ? jobs : null,
        "is not a number from 1 to 64");

    internal Option<long?> LimitRate { get; } = Parsed<long?>(
        "--limit-rate",
        "RATE",
        "Bytes per second over all downloads together, such as 10MiB",
        text => Values.TryParseSize(text, out long rate) && rate > 0 ? rate : null,
        "is not a size such as 10MiB");

    internal Option<int?> Connections { get; } = Parsed<int?>(
        "--connections",
        "N",
        "Connections for one large blob at most, 1 to 16; added while they add throughput (default: 8)",
        text => int.TryParse(text, out int connections) && connections is >= 1 and <= 16 ? connections : null,
        "is not a number from 1 to 16");

    internal Option<bool> CheckTag { get; } = new("--check-tag") { Description = "With NAME:TAG@DIGEST: fail unless the tag points to that digest" };

    internal Option<int?> Retries { get; } = Parsed<int?>(
        "--retries",
        "N|forever",
        "Tries in a row without progress before a registry is given up, 1 to 1000 (default: 6)",
        text => text == "forever" ? int.MaxValue : int.TryParse(text, out int tries) && tries is >= 1 and <= 1000 ? tries : null,
        "is not a number from 1 to 1000, nor forever");

    internal Option<TimeSpan?> Deadline { get; } = Duration("--deadline", "End with exit code 5 after so long; parts are kept");

    internal Option<TimeSpan?> WaitNetwork { get; } = Duration("--wait-network", "Wait so long for a route and a resolver, as at boot, without counting tries");

    internal Option<long?> MinRate { get; } = Parsed<long?>(
        "--min-rate",
        "RATE",
        "Bytes per second, averaged over the stall time-out, below which a connection is replaced; 0: never (default: 100)",
        text => Values.TryParseSize(text, out long rate) ? rate : null,
        "is not a size such as 10KiB");

    internal Option<FixedAddress[]?> Resolve { get; } = Repeated<FixedAddress>(
        "--resolve",
        "HOST:PORT:ADDRESS",
        "Find HOST at ADDRESS, without a resolver; repeatable, several addresses are raced",
        text => Values.TryParseFixedAddress(text, out FixedAddress? one) ? (true, one) : default,
        text => $"\"{text}\" is not HOST:PORT:ADDRESS");

    internal Option<TimeSpan?> ConnectTimeout { get; } = Duration("--connect-timeout", "How long connecting may take (default: 10s)");

    internal Option<TimeSpan?> StallTimeout { get; } = Duration("--stall-timeout", "How long a transfer may be without a byte (default: 30s)");

    internal Option<string?> AuthFile { get; } = Text("--authfile", "FILE", "Credentials, in the format of docker's config.json");

    internal Option<string?> Username { get; } = Text("--username", "USER", "Sign in as USER; the password comes from --password-stdin");

    internal Option<bool> PasswordStdin { get; } = new("--password-stdin") { Description = "Read the password from stdin" };

    internal Option<string?> RegistryTokenFile { get; } = Text("--registry-token-file", "FILE", "Sign in with the bearer token in this file");

    internal Option<bool> Anonymous { get; } = new("--anonymous") { Description = "Use no credentials, whatever the files hold" };

    internal Option<string?> CaFile { get; } = Text("--ca-file", "FILE", "Trust only the certificates in this PEM file");

    internal Option<(string Registry, Uri Address)[]?> Mirror { get; } = Repeated<(string Registry, Uri Address)>(
        "--mirror",
        "HOST=URL",
        "Ask URL first for what HOST has by digest; repeatable, tried in order",
        ParseMirror,
        _ => "not HOST=http://… or HOST=https://…, without a user"); // the text is not shown, for it may hold a password

    internal Option<bool> ForeignLayers { get; } = new("--foreign-layers") { Description = "Fetch layers that the registry does not have from the addresses in the manifest" };

    internal Option<string?> HostsDir { get; } = Text("--hosts-dir", "DIR", "Mirrors in the format of containerd: DIR/HOST/hosts.toml");

    internal Option<string?> RegistriesConf { get; } = Text("--registries-conf", "FILE", "Mirrors in the format of containers' registries.conf, version 2");

    internal Option<string?> CertDir { get; } = Text("--cert-dir", "DIR", "Authorities (*.crt) and a client certificate (*.cert, *.key) for the registry");

    internal Option<bool> PlainHttp { get; } = new("--plain-http") { Description = "Use http instead of https" };

    internal Option<bool> InsecureSkipTlsVerify { get; } = new("--insecure-skip-tls-verify") { Description = "Accept any certificate" };

    internal Option<OwnershipPolicy?> Ownership { get; } = OneOf<OwnershipPolicy>(
        "--ownership",
        "Whose files are: keep (what cannot be set is counted), squash (all yours), map (--uid-map, --gid-map), override-stat (all yours, the rest in user.containers.override_stat) (default: keep)");

    internal Option<IdRange[]> UidMap { get; } = Ranges("--uid-map", "Users for --ownership map: N from C in the image become those from H; repeatable");

    internal Option<IdRange[]> GidMap { get; } = Ranges("--gid-map", "Groups for --ownership map");

    internal Option<XattrPolicy?> Xattrs { get; } = OneOf<XattrPolicy>(
        "--xattrs", "Extended attributes: keep (refusal fails), try (refusal is counted), drop (default: keep as root, else try)");

    internal Option<DevicePolicy?> Devices { get; } = OneOf<DevicePolicy>(
        "--devices", "Device nodes: make, skip (counted), fail (default: make as root and for override-stat, else skip)");

    internal Option<WhiteoutStyle?> Whiteouts { get; } = OneOf<WhiteoutStyle>(
        "--whiteouts",
        "Removal in layers: overlay (trusted.overlay.*), overlay-user (user.overlay.*, for mounts with userxattr) (default: overlay where this process may set trusted.*)");

    internal Option<long?> MaxUnpacked { get; } = Parsed<long?>(
        "--max-unpacked",
        "SIZE",
        "Content that the layers of an image may unpack to (default: what the file system has free)",
        text => Values.TryParseSize(text, out long size) && size > 0 ? size : null,
        "is not a size such as 64GiB");

    internal Option<long?> MaxEntries { get; } = Parsed<long?>(
        "--max-entries",
        "N",
        "Entries that the layers of an image may have (default: 10000000)",
        text => long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long entries) && entries > 0 ? entries : null,
        "is not a number from 1");

    internal Option<(string Name, int Value)[]?> Limit { get; } = Repeated<(string Name, int Value)>(
        "--limit",
        "NAME=N",
        "What one archive may ask for, repeatable: ratio (2000), name (64KiB), depth (4096), pax (1MiB), xattrs (256), xattr (64KiB), runs (1048576), held (32MiB), memory (12MiB; names beyond it go to a file)",
        ExtractionSettings.ParseLimit,
        text => $"\"{text}\" is not one of {string.Join(", ", ExtractionSettings.LimitNames)}, = and a number or size from 1 to 1GiB");

    internal Option<bool> NoSync { get; } = new("--no-sync") { Description = "Do not wait until what was written is on the disk" };

    internal Option[] Common => [Store, Json, Quiet, Verbose, Progress];

    internal Option[] Network =>
        [AuthFile, Username, PasswordStdin, RegistryTokenFile, Anonymous, CaFile, CertDir, PlainHttp, InsecureSkipTlsVerify, Retries, ConnectTimeout, StallTimeout,
        MinRate, Deadline, WaitNetwork, Resolve, Mirror, HostsDir, RegistriesConf, ForeignLayers];

    internal Option[] Pulling => [Platform, Policy, Expect, CheckTag, Jobs, Connections, LimitRate];

    internal Option[] Outputs => [Rootfs, LayerDirectories, Tar, Replace];

    internal Option[] Extraction => [Ownership, UidMap, GidMap, Xattrs, Devices, Whiteouts, MaxUnpacked, MaxEntries, Limit, NoSync];

    internal Options()
    {
        // by their words: the value of an option that has an error of its own cannot be asked for
        const string map = "map";
        Ownership.Validators.Add(result =>
        {
            if (IsWord(result, map) && (result.GetResult(UidMap) is null || result.GetResult(GidMap) is null))
            {
                result.AddError("--ownership map needs --uid-map and --gid-map");
            }
        });
        foreach (Option ranges in new[] { UidMap, GidMap })
        {
            ranges.Validators.Add(result =>
            {
                if (result.GetResult(Ownership) is not { } ownership || !IsWord(ownership, map))
                {
                    result.AddError($"{ranges.Name} needs --ownership map");
                }
            });
        }

        static bool IsWord(OptionResult result, string word) => result.Tokens.Count == 1 && result.Tokens[0].Value == word;
    }

    /// <summary>A script's variable without a value, most likely: to go on without it would be another call than was meant.</summary>
    internal const string NamesNothing = "\"\" names nothing";

    /// <summary>The environment's name of an option.</summary>
    internal static string EnvironmentName(Option option) =>
        "NATIVEPULL_" + option.Name.TrimStart('-').Replace('-', '_').ToUpperInvariant();

    private static Option<string?> Text(string name, string help, string description)
    {
        Option<string?> option = new(name) { HelpName = help, Description = description };
        option.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: "" }])
            {
                result.AddError($"{name}: {NamesNothing}");
            }
        });
        return option;
    }

    private static Option<TimeSpan?> Duration(string name, string description) => Parsed<TimeSpan?>(
        name,
        "TIME",
        description,
        text => Values.TryParseDuration(text, out TimeSpan duration) && duration > TimeSpan.Zero ? duration : null,
        "is not a duration such as 500ms, 30s or 10m");

    // Repeatable; in the environment, where an option can only be set once, with commas.
    private static Option<T[]?> Repeated<T>(string name, string help, string description, Func<string, (bool IsValid, T Value)> parse, Func<string, string> problem)
    {
        return new Option<T[]?>(name) { HelpName = help, Description = description, Arity = ArgumentArity.OneOrMore, CustomParser = ParseTokens };

        T[]? ParseTokens(ArgumentResult result)
        {
            List<T> all = [];
            foreach (string text in result.Tokens.SelectMany(token => token.Value.Split(',')))
            {
                (bool isValid, T value) = parse(text);
                if (isValid)
                {
                    all.Add(value);
                }
                else
                {
                    result.AddError($"{name}: {problem(text)}");
                }
            }

            return [.. all];
        }
    }

    private static (bool IsValid, (string Registry, Uri Address) Value) ParseMirror(string text)
    {
        string[] parts = text.Split('=', 2);
        return parts.Length == 2 && parts[0].Length > 0 && Uri.TryCreate(parts[1], UriKind.Absolute, out Uri? address) && address.Scheme is "http" or "https" && address.UserInfo.Length == 0
            ? (true, (parts[0].ToLowerInvariant(), address))
            : default;
    }

    // A parser that gives null for what it does not take.
    private static Option<T> Parsed<T>(string name, string help, string description, Func<string, T> parse, string problem)
    {
        return new Option<T>(name) { HelpName = help, Description = description, CustomParser = ParseToken };

        T? ParseToken(ArgumentResult result)
        {
            string text = result.Tokens.Count == 1 ? result.Tokens[0].Value : "";
            T value = parse(text);
            if (value is null)
            {
                result.AddError($"{name}: \"{text}\" {problem}");
            }

            return value;
        }
    }

    private static Option<T?> OneOf<T>(string name, string description)
        where T : struct, Enum => Parsed<T?>(name, Choices<T>("|"), description, Choose<T>, $"is not one of {Choices<T>(", ")}");

    private static Option<IdRange[]> Ranges(string name, string description)
    {
        return new Option<IdRange[]>(name) { HelpName = "C:H:N", Description = description, CustomParser = Parse, Arity = ArgumentArity.OneOrMore };

        IdRange[]? Parse(ArgumentResult result)
        {
            if (Values.TryParseRanges(result.Tokens.SelectMany(token => token.Value.Split(',')), out IReadOnlyList<IdRange> ranges, out string? problem))
            {
                return [.. ranges];
            }

            result.AddError($"{name}: {problem}");
            return null;
        }
    }

    private static T? Choose<T>(string text)
        where T : struct, Enum
    {
        foreach (T value in Enum.GetValues<T>())
        {
            if (Values.Kebab(value.ToString()) == text)
            {
                return value;
            }
        }

        return null;
    }

    private static string Choices<T>(string separator)
        where T : struct, Enum => string.Join(separator, Enum.GetNames<T>().Select(Values.Kebab));
}
