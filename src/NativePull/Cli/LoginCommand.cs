using System.CommandLine;
using NativePull.Native;
using NativePull.Oci;
using NativePull.Registry;

namespace NativePull.Cli;

/// <summary><c>login</c> and <c>logout</c>: credentials are tried at the registry before they are written, and never shown.</summary>
internal static class LoginCommand
{
    internal static Command Login(Options options)
    {
        Argument<string> registry = new("REGISTRY") { Description = "HOST[:PORT], or HOST[:PORT]/PATH for a part of it" };
        Command command = new("login", "Try credentials at a registry and keep them in an auth file") { registry };
        Array.ForEach([.. options.Common, .. options.Network], command.Add);
        command.SetAction((parsed, _) => Session.RunAsync(parsed, options, parsed.GetValue(registry), session => LoginAsync(parsed, options, session, parsed.GetValue(registry)!)));
        return command;
    }

    internal static Command Logout(Options options)
    {
        Argument<string> registry = new("REGISTRY") { Description = "As for login" };
        Command command = new("logout", "Remove the credentials of a registry from the auth files") { registry };
        Array.ForEach([.. options.Common, options.AuthFile], command.Add);
        command.SetAction((parsed, _) => Session.RunAsync(parsed, options, parsed.GetValue(registry), session =>
        {
            Logout(session, parsed.GetValue(registry)!);
            return Task.CompletedTask;
        }));
        return command;
    }

    private static async Task LoginAsync(ParseResult parsed, Options options, Session session, string text)
    {
        (string registry, string key) = Parse(text);
        Credential credential = Ask(parsed, options, session.Token);
        using RegistryClient client = new(registry, session.RegistryOptions with { Credentials = Credentials.Of(credential) }, session.Retries);
        bool tried = await client.SignInAsync(session.Token);
        string file = LoginFile.Store(session.Settings.AuthFiles().Select(candidate => candidate.Path).ToList(), key, credential, session.Token);
        session.Reporter.Drain();
        Output.Note(tried ? $"signed in to {key} as {credential.Username}; kept in {file}" : $"{registry} let us in without asking who we are; untried credentials for {key} are kept in {file}");
        if (session.Json)
        {
            Output.Result(ResultJson.Of(new LoginDocument(ResultJson.Schema, key, credential.Username, file, tried)));
        }
    }

    private static void Logout(Session session, string text)
    {
        (_, string key) = Parse(text);
        // every file: one that still had them would let the next pull in
        List<string> changed = [.. session.Settings.AuthFiles().Select(candidate => candidate.Path).Where(file => LoginFile.Remove(file, key, session.Token))];
        Output.Note(changed.Count == 0 ? $"no auth file has credentials for {key}" : $"removed the credentials for {key} from {string.Join(" and ", changed)}");
    }

    // As references name it, so that the entry is found by a pull.
    private static (string Registry, string Key) Parse(string text)
    {
        string name = text.StartsWith("https://", StringComparison.OrdinalIgnoreCase) ? text["https://".Length..] : text;
        name = name.TrimEnd('/');
        const string image = "/a/b"; // two parts, for one would be completed with "library/"
        if (!Reference.TryParse(name + image, out Reference? reference, out string? problem))
        {
            throw new PullException(PullError.Usage, $"\"{text}\": {problem}");
        }

        string path = ("/" + reference.Repository)[..^image.Length];
        return reference.Registry == "docker.io" && !name.Contains("docker.io", StringComparison.OrdinalIgnoreCase)
            ? throw new PullException(PullError.Usage, $"\"{text}\" is not a registry (host or host:port)")
            : (reference.Registry, reference.Registry + path);
    }

    private static Credential Ask(ParseResult parsed, Options options, CancellationToken token)
    {
        string? user = parsed.GetValue(options.Username);
        bool fromStdin = parsed.GetValue(options.PasswordStdin);
        bool canAsk = !fromStdin && !Console.IsInputRedirected;
        if (user is null && canAsk)
        {
            Output.Raw("Username: "u8);
            user = Terminal.ReadLine(secret: false, token);
        }

        if (string.IsNullOrEmpty(user))
        {
            throw new PullException(PullError.Usage, "login needs --username USER");
        }

        if (user.Contains(':', StringComparison.Ordinal))
        {
            throw new PullException(PullError.Usage, "a user name cannot have a colon (RFC 7617)");
        }

        if (!fromStdin && !canAsk)
        {
            throw new PullException(PullError.Usage, "login takes the password from --password-stdin, or asks for it at a terminal");
        }

        if (canAsk)
        {
            Output.Raw("Password: "u8);
        }

        string? password = fromStdin ? RegistrySettings.PasswordFromStdin(token) : Terminal.ReadLine(secret: true, token);
        return string.IsNullOrEmpty(password)
            ? throw new PullException(PullError.Usage, "the password is empty")
            : new Credential(user, password);
    }
}
