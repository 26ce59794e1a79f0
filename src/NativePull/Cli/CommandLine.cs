using System.CommandLine;
using System.CommandLine.Parsing;

namespace NativePull.Cli;

/// <summary>The grammar: commands, their arguments and options; what runs them is in the *Command files.</summary>
internal static class CommandLine
{
    private static readonly ParserConfiguration Configuration = new() { ResponseFileTokenReplacer = null };

    /// <summary>Parses, runs, and gives the exit code. Never throws for what a user or a registry did.</summary>
    internal static async Task<int> RunAsync(string[] arguments)
    {
        RootCommand root = Build();
        ParseResult parsed = WithEnvironment(root, arguments);
        if (parsed.Errors.Count > 0)
        {
            // one line, whatever the parser found; System.CommandLine itself would print its help and answer 1
            Output.Error($"{parsed.Errors[0].Message.TrimEnd('.')} (see nativepull {HelpPath(parsed)}--help)");
            return ExitCode.Usage;
        }

        if (UnknownOption(parsed) is { } unknown)
        {
            Output.Error($"unknown option {unknown} (see nativepull {HelpPath(parsed)}--help)");
            return ExitCode.Usage;
        }

        InvocationConfiguration invocation = new() { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null };
        return await parsed.InvokeAsync(invocation, CancellationToken.None);
    }

    /// <summary>Whether a failure outside of any work, for want of memory say, shall be a document too.</summary>
    internal static bool WantsJson(string[] arguments) =>
        arguments.TakeWhile(word => word != "--").Any(word => word is "--json" or "--json=true" or "--json:true") || Environment.GetEnvironmentVariable("NATIVEPULL_JSON") is "true" or "1";

    private static RootCommand Build()
    {
        Options options = new();
        RootCommand root = new("Pulls OCI and Docker images from any registry: verified, resumable, from an empty root. nativepull REF DIR is short for pull REF --rootfs DIR.");
        // hidden: help would show them before each command's own
        Argument<string?> shortReference = new("REF") { Arity = ArgumentArity.ZeroOrOne, Hidden = true };
        Argument<string?> shortDirectory = new("DIR") { Arity = ArgumentArity.ZeroOrOne, Hidden = true };
        root.Add(shortReference);
        root.Add(shortDirectory);
        Add(root, [options.Replace], options.Pulling, options.Common, options.Network, options.Extraction);
        root.SetAction((parsed, _) => parsed.GetValue(shortReference) is { } reference && parsed.GetValue(shortDirectory) is { } directory
            ? PullCommand.RunAsync(parsed, options, [reference], directory)
            : Task.FromResult(MissingArguments()));

        root.Add(Pull(options));
        root.Add(Extract(options));
        root.Add(Layers(options));
        root.Add(Inspect(options));
        root.Add(List(options));
        root.Add(TagsCommand.Tags(options));
        root.Add(LoginCommand.Login(options));
        root.Add(LoginCommand.Logout(options));
        Command version = new("version", "Print the version");
        version.SetAction(_ => Output.Result($"nativepull {Session.Version}"));
        root.Add(version);
        return root;
    }

    private static Command Pull(Options options)
    {
        Argument<string[]> references = new("REF") { Arity = ArgumentArity.OneOrMore, Description = "[REGISTRY/]REPOSITORY[:TAG][@DIGEST]" };
        Command command = new("pull", "Resolve, fetch, verify and record images") { references };
        Add(command, [options.Extract], options.Outputs, options.Pulling, options.Common, options.Network, options.Extraction);
        command.SetAction((parsed, _) => PullCommand.RunAsync(parsed, options, parsed.GetValue(references)!, parsed.GetValue(options.Rootfs)));
        return command;
    }

    private static Command Extract(Options options)
    {
        Argument<string> source = new("SOURCE")
        {
            Description = "REF of the store, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REF]; FILE - is stdin, :@N the N-th image from 0",
        };
        Command command = new("extract", "Turn an image of the store, a layout or an archive into files, offline") { source };
        Add(command, options.Outputs, [options.Platform], options.Common, options.Extraction);
        command.SetAction((parsed, _) => ExtractCommand.RunAsync(parsed, options, parsed.GetValue(source)!));
        return command;
    }

    private static Command Layers(Options options)
    {
        Argument<string> reference = new("REF") { Description = "An image in the store, pulled with --extract" };
        Option<bool> overlay = new("--overlay") { Description = "Print the lowerdir options for mount -t overlay" };
        Command command = new("layers", "Print the extracted layer directories, bottom to top") { reference, overlay };
        Add(command, [options.Platform], options.Common, options.Extraction);
        command.SetAction((parsed, _) => StoreCommands.LayersAsync(parsed, options, parsed.GetValue(reference)!, parsed.GetValue(overlay)));
        return command;
    }

    private static Command Inspect(Options options)
    {
        Argument<string> reference = new("REF");
        Option<bool> raw = new("--raw") { Description = "Print the manifest, or the index the reference names, byte for byte" };
        Option<bool> config = new("--config") { Description = "Print the config, byte for byte" };
        Option<bool> digest = new("--digest") { Description = "Print the digest the reference resolves to" };
        Option<bool> remote = new("--remote") { Description = "Ask the registry, not the store" };
        Command command = new("inspect", "Show manifest, config and layers; from the store, else from the registry") { reference, raw, config, digest, remote };
        Add(command, [options.Platform], options.Common, options.Network);
        command.SetAction((parsed, _) =>
        {
            InspectView view = parsed.GetValue(raw) ? InspectView.Raw
                : parsed.GetValue(config) ? InspectView.Config
                : parsed.GetValue(digest) ? InspectView.Digest
                : InspectView.Summary;
            return StoreCommands.InspectAsync(parsed, options, parsed.GetValue(reference)!, view, parsed.GetValue(remote));
        });
        return command;
    }

    private static Command List(Options options)
    {
        Command command = new("list", "Print the images of the store");
        Add(command, options.Common);
        command.SetAction((parsed, _) => StoreCommands.ListAsync(parsed, options));
        return command;
    }

    private static void Add(Command command, params Option[][] groups)
    {
        foreach (Option option in groups.SelectMany(group => group))
        {
            command.Add(option);
        }
    }

    private static int MissingArguments()
    {
        Output.Error("a command is missing, or REF and DIR (see nativepull --help)");
        return ExitCode.Usage;
    }

    // What the environment sets and the command line does not is parsed as if it had been typed, so that it meets the same checks.
    private static ParseResult WithEnvironment(RootCommand root, string[] arguments)
    {
        ParseResult parsed = root.Parse(arguments, Configuration);
        List<string> added = [];
        foreach (Option option in parsed.CommandResult.Command.Options)
        {
            bool typed = parsed.GetResult(option) is { Implicit: false };
            string? value = option.Name is "--help" or "--version" ? null : Environment.GetEnvironmentVariable(Options.EnvironmentName(option));
            if (!typed && !string.IsNullOrEmpty(value))
            {
                added.Add($"{option.Name}={(option is Option<bool> ? OfFlag(value) : value)}");
            }
        }

        return added.Count == 0 ? parsed : root.Parse([.. arguments.TakeWhile(word => word != "--"), .. added, .. arguments.SkipWhile(word => word != "--")], Configuration);
    }

    // A variable that is a flag has 1 in it more often than not.
    private static string OfFlag(string value) => value switch { "1" => "true", "0" => "false", _ => value };

    // The parser takes what it does not know for an argument; no reference begins with a dash, and a directory that does can follow "--".
    private static string? UnknownOption(ParseResult parsed) => parsed.Tokens
        .TakeWhile(token => token.Type != TokenType.DoubleDash)
        .FirstOrDefault(token => token.Type == TokenType.Argument && token.Value.Length > 1 && token.Value[0] == '-')?.Value;

    private static string HelpPath(ParseResult parsed) => parsed.CommandResult.Command is RootCommand ? "" : parsed.CommandResult.Command.Name + " ";
}
