using System.CommandLine;
using NativePull.Pull;
using NativePull.Store;

namespace NativePull.Cli;

/// <summary>What <c>pull</c> and <c>extract</c> have in common: where the image shall go, and where the result line goes.</summary>
internal static class OutputArguments
{
    /// <summary>Runs the work with the options typed, or tells what is wrong with them.</summary>
    /// <param name="rootfs">As typed; null: not asked for.</param>
    /// <param name="mustHave">Whether a call without any output is a wrong one.</param>
    internal static Task<int> RunAsync(
        ParseResult parsed, Options options, string? rootfs, int images, bool mustHave, Func<OutputOptions, Task<int>> work)
    {
        try
        {
            return work(Read(parsed, options, rootfs, images, mustHave));
        }
        catch (Exception failure) when (ExitCode.IsExpected(failure))
        {
            PullException explained = ExitCode.Explain(failure, null);
            if (parsed.GetValue(options.Json))
            {
                Output.Result(ResultJson.OfFailure(null, explained));
            }

            Output.Error(explained.Sentence);
            return Task.FromResult(ExitCode.Of(explained.Reason));
        }
    }

    /// <summary>Refuses outputs inside something that must stay as it is, around it, or made where it lies.</summary>
    /// <exception cref="PullException">Usage.</exception>
    internal static void CheckApart(OutputOptions outputs, (string What, string Path) other)
    {
        foreach ((string option, string path, bool isTree) in Paths(outputs))
        {
            if (Destination.IsWithin(path, other.Path) || (isTree && Destination.IsWithin(other.Path, path)))
            {
                throw new PullException(PullError.Usage, $"{option} {path} and {other.What} at {other.Path} lie in each other");
            }

            CheckKept(option, path, other);
        }
    }

    /// <summary>The result, once everything is done: on stdout, or on stderr where the archive went to stdout.</summary>
    internal static void Tell(Session session, PullResult result, OutputOptions outputs)
    {
        session.Reporter.Drain();
        string line = $"{result.Name}@{result.Digest}";
        if (outputs.Tar == OutputOptions.Stdout)
        {
            Output.Raw(Output.Encode(line + "\n"));
        }
        else
        {
            Output.Result(session.Json ? ResultJson.Of(result) : line);
        }
    }

    private static OutputOptions Read(ParseResult parsed, Options options, string? rootfs, int images, bool mustHave)
    {
        string? layers = parsed.GetValue(options.LayerDirectories);
        string? tar = parsed.GetValue(options.Tar);
        if (rootfs is "")
        {
            throw new PullException(PullError.Usage, $"DIR: {Options.NamesNothing}");
        }

        if (tar is "/dev/stdout" or "/dev/fd/1" or "/proc/self/fd/1")
        {
            // opened anew it would have the result line behind the archive
            tar = OutputOptions.Stdout;
        }

        string? any = rootfs is not null ? "--rootfs" : layers is not null ? "--layers" : tar is not null ? "--tar" : null;
        if (any is not null && images > 1)
        {
            throw new PullException(PullError.Usage, $"{any} takes one reference, not {images}");
        }

        if (any is null && mustHave)
        {
            throw new PullException(PullError.Usage, "extract needs --rootfs DIR, --layers DIR or --tar FILE");
        }

        bool replace = parsed.GetValue(options.Replace);
        if (replace && rootfs is null && layers is null)
        {
            throw new PullException(PullError.Usage, "--replace needs --rootfs DIR or --layers DIR");
        }

        if (tar == OutputOptions.Stdout && parsed.GetValue(options.Json))
        {
            throw new PullException(PullError.Usage, "--json and --tar - both want stdout");
        }

        if (tar == OutputOptions.Stdout && !Console.IsOutputRedirected)
        {
            throw new PullException(PullError.Usage, "stdout is a terminal, which is no place for an archive");
        }

        OutputOptions outputs = new()
        {
            Rootfs = rootfs is null ? null : Destination.OfDirectory(rootfs),
            Layers = layers is null ? null : Destination.OfDirectory(layers),
            Tar = tar is null or OutputOptions.Stdout ? tar : Destination.OfFile(tar),
            Replace = replace,
            Sync = !parsed.GetValue(options.NoSync),
            Extract = ExtractionSettings.Of(parsed, options),
        };
        CheckEachOther(outputs);
        return outputs;
    }

    private static void CheckEachOther(OutputOptions outputs)
    {
        (string Option, string Path, bool IsTree)[] paths = [.. Paths(outputs)];
        for (int i = 0; i < paths.Length; i++)
        {
            for (int other = i + 1; other < paths.Length; other++)
            {
                CheckKept(paths[i].Option, paths[i].Path, (paths[other].Option, paths[other].Path));
                CheckKept(paths[other].Option, paths[other].Path, (paths[i].Option, paths[i].Path));
                if (Destination.IsWithin(paths[i].Path, paths[other].Path) || Destination.IsWithin(paths[other].Path, paths[i].Path))
                {
                    throw new PullException(
                        PullError.Usage, $"{paths[i].Option} {paths[i].Path} and {paths[other].Option} {paths[other].Path} lie in each other");
                }
            }
        }
    }

    // What lies where an output's work in progress does would be taken for what a killed call has left.
    private static void CheckKept(string option, string path, (string What, string Path) other)
    {
        foreach (string place in new[] { Destination.InProgressAt(path), Destination.InputOf(path) })
        {
            if (Destination.IsWithin(other.Path, place))
            {
                throw new PullException(PullError.Usage, $"{other.What} at {other.Path} would be removed, for {option} {path} is made at {place}");
            }
        }
    }

    private static IEnumerable<(string Option, string Path, bool IsTree)> Paths(OutputOptions outputs)
    {
        if (outputs.Rootfs is { } rootfs)
        {
            yield return ("--rootfs", rootfs, true);
        }

        if (outputs.Layers is { } layers)
        {
            yield return ("--layers", layers, true);
        }

        if (outputs.Tar is { } tar and not OutputOptions.Stdout)
        {
            yield return ("--tar", tar, false);
        }
    }
}
