using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace NativePull.Tests.EndToEnd;

/// <summary>Holds the tables of README.md against the help of the executable.</summary>
public sealed partial class ReadmeTests
{
    [Fact]
    public async Task Every_option_of_every_command_is_in_a_table_and_nothing_else_is()
    {
        SortedSet<string> offered = [];
        foreach (string command in await CommandsAsync())
        {
            offered.UnionWith(Options(OfHelp(), (await Binary.RunAsync(command, "--help")).Expect(0).Out));
        }

        offered.Remove("--help");

        Assert.Equal(offered, Options(Name(), string.Join('\n', FirstCells("Commands").Concat(FirstCells("Options")))));
    }

    [Fact]
    public async Task The_table_of_commands_has_every_command()
    {
        List<string> cells = FirstCells("Commands");

        foreach (string command in await CommandsAsync())
        {
            Assert.True(cells.Exists(cell => Regex.IsMatch(cell, $@"\b{command}\b")), $"{command} is not in the table");
        }
    }

    private static async Task<List<string>> CommandsAsync()
    {
        string help = (await Binary.RunAsync("--help")).Expect(0).Out;
        List<string> commands = [.. Command().Matches(help[help.IndexOf("\nCommands:", StringComparison.Ordinal)..]).Select(found => found.Groups[1].Value)];
        Assert.Contains("pull", commands);
        return commands;
    }

    private static SortedSet<string> Options(Regex pattern, string text) => [.. pattern.Matches(text).Select(found => found.Groups[1].Value)];

    private static List<string> FirstCells(string section)
    {
        string text = File.ReadAllText(Path.Combine(Repository(), "README.md"));
        int start = text.IndexOf($"\n## {section}\n", StringComparison.Ordinal);
        Assert.True(start >= 0, $"README.md has no section {section}");
        int end = text.IndexOf("\n## ", start + 1, StringComparison.Ordinal);
        return [.. text[start..end].Split('\n').Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Select(line => UnescapedBar().Split(line)[1])];
    }

    private static string Repository([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../.."));

    [GeneratedRegex(@"(?m)^  ([a-z]+) ")]
    private static partial Regex Command();

    [GeneratedRegex(@"(?m)^  (?:-., )*(--[a-z-]+)")]
    private static partial Regex OfHelp();

    [GeneratedRegex("(--[a-z][a-z-]*)")]
    private static partial Regex Name();

    [GeneratedRegex(@"(?<!\\)\|")]
    private static partial Regex UnescapedBar();
}
