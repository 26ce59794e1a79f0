namespace NativePull.Cli;

/// <summary>Where the environment says that a user's files are.</summary>
internal static class UserPaths
{
    /// <summary>What stands in for an absent HOME, so that certificate chains can be built.</summary>
    internal const string StandIn = "/nonexistent";

    /// <summary>Whether a variable has a value; an empty one has none.</summary>
    internal static bool IsSet(string variable) => Environment.GetEnvironmentVariable(variable) is { Length: > 0 };

    /// <summary>Below the directory that a variable names; null where it names none, as a relative path in one of XDG's does not (basedir-spec, "ignore it").</summary>
    internal static string? Below(string variable, string path) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } directory
        && (directory[0] == '/' || !variable.StartsWith("XDG_", StringComparison.Ordinal)) ? Path.Combine(directory, path) : null;

    /// <summary>Below the home directory; null where there is none.</summary>
    internal static string? InHome(string path) =>
        Environment.GetEnvironmentVariable("HOME") is { Length: > 0 } home && home != StandIn ? Path.Combine(home, path) : null;
}
