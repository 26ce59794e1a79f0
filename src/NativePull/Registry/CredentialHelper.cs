using System.Text;
using System.Text.Json;
using NativePull.Native;
using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>What a program that is asked for credentials may see; made by Cli.</summary>
/// <param name="SearchPath">PATH.</param>
/// <param name="Environment">NAME=value.</param>
internal sealed record HelperSettings(string SearchPath, IReadOnlyList<string> Environment)
{
    /// <summary>For one question; then the helper and what it started are killed.</summary>
    internal TimeSpan TimeLimit { get; init; } = TimeSpan.FromSeconds(10);
}

/// <summary>
/// Asks docker-credential-NAME for the credentials of a server (docker-credential-helpers, "get"): the name goes to its standard input, never
/// into its arguments, and what it says is shown to nobody.
/// </summary>
internal static class CredentialHelper
{
    private const int MaximumAnswer = 1024 * 1024; // bytes
    private const int MaximumServer = 1024; // characters; far below what a pipe holds

    /// <returns>Nobody where it knows nobody, and where it failed: then with the trouble.</returns>
    internal static Account Ask(string name, string server, HelperSettings? settings, CancellationToken token)
    {
        string program = $"docker-credential-{name}";
        if (settings is null || name.Length == 0 || name.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('-' or '_' or '.')) || server.Length > MaximumServer)
        {
            return Failed(settings is null ? $"{program} may not be run here" : $"\"{name}\" is not the name of a credential helper");
        }

        if (Find(program, settings.SearchPath) is not { } path)
        {
            return Failed($"{program} is not on PATH");
        }

        try
        {
            ChildResult result = ChildProcess.Run(path, ["get"], settings.Environment, Encoding.UTF8.GetBytes(server), MaximumAnswer, settings.TimeLimit, token);
            return result.End switch
            {
                ChildEnd.OutOfTime => Failed($"{program} did not answer within {settings.TimeLimit.TotalSeconds:0.#} s"),
                ChildEnd.TooMuchOutput => Failed($"{program} said more than {MaximumAnswer} bytes"),
                _ => Read(program, result),
            };
        }
        catch (LinuxException failure)
        {
            return Failed($"{program} cannot be run: {failure.Message}");
        }
    }

    private static Account Read(string program, ChildResult result)
    {
        if (result.Code > 0)
        {
            // errors come on standard output; this one says that all is well and nothing is kept (credentials.errCredentialsNotFoundMessage)
            return Encoding.UTF8.GetString(result.Output).Contains("credentials not found", StringComparison.OrdinalIgnoreCase)
                ? Account.Nobody
                : Failed($"{program} failed with exit code {result.Code}");
        }

        byte[] output = AuthFileContent.WithoutMark(result.Output);
        HelperDocument? answer;
        try
        {
            answer = JsonSerializer.Deserialize(output, RegistryJsonContext.Default.HelperDocument);
        }
        catch (JsonException malformed)
        {
            return Failed($"{program} gave no usable answer (malformed JSON: {JsonFault.Describe(output, malformed)})");
        }

        return answer is { Username: { } user, Secret: { } secret }
            ? user.Length == 0 && secret.Length == 0 ? Account.Nobody : new Account(Credential.OfUser(user, secret), null)
            : Failed($"{program} gave no usable answer (no Username or no Secret)");
    }

    private static string? Find(string program, string searchPath)
    {
        const UnixFileMode executable = UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;
        foreach (string directory in searchPath.Split(':'))
        {
            // an empty element would mean the working directory
            string path = Path.Combine(directory, program);
            if (directory.StartsWith('/') && File.Exists(path) && (File.GetUnixFileMode(path) & executable) != 0)
            {
                return path;
            }
        }

        return null;
    }

    private static Account Failed(string trouble) => new(null, trouble);
}

/// <param name="Secret">With the user "&lt;token&gt;" an identity token, else a password.</param>
internal sealed record HelperDocument(string? Username, string? Secret)
{
    public override string ToString() => "an answer";
}
