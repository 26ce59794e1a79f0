using NativePull.Cli;

namespace NativePull;

/// <summary>Runs the command line; whatever nobody explained becomes one line and exit code 1.</summary>
internal static class Program
{
    private static async Task<int> Main(string[] arguments)
    {
        try
        {
            return await CommandLine.RunAsync(arguments);
        }
#pragma warning disable CA1031 // the one catch-all: a bug must still be one line and a code
        catch (Exception failure)
#pragma warning restore CA1031
        {
            PullException explained = ExitCode.Explain(failure, null);
            if (CommandLine.WantsJson(arguments))
            {
                Output.Result(ResultJson.OfFailure(null, explained));
            }

            Output.Error(explained.Sentence);
            return ExitCode.Of(explained.Reason);
        }
    }
}
