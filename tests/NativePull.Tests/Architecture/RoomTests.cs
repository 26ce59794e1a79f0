using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace NativePull.Tests.Architecture;

/// <summary>Holds the table "who may use whom" of src/README.md against every source file.</summary>
public sealed partial class RoomTests
{
    private static readonly Dictionary<string, string[]> Allowed = ReadTable();

    public static TheoryData<string> Rooms => [.. Allowed.Keys];

    [Theory]
    [MemberData(nameof(Rooms))]
    public void A_room_uses_only_the_rooms_it_may(string room)
    {
        string[] files = FilesOf(room);
        Assert.NotEmpty(files);
        foreach (string file in files)
        {
            // comments may speak of any room; code may not
            string code = Comment().Replace(File.ReadAllText(file), "");
            Assert.Contains($"namespace NativePull.{room};", code, StringComparison.Ordinal);
            foreach (Match used in RoomName().Matches(code))
            {
                string name = used.Groups[1].Value;
                Assert.True(
                    !Allowed.ContainsKey(name) || name == room || Allowed[room].Contains(name),
                    $"{Path.GetFileName(file)} of {room} uses {name}");
            }

            // a type by its room's name alone needs no using
            foreach (Match used in QualifiedType().Matches(code))
            {
                string name = used.Groups[1].Value;
                Assert.False(
                    Allowed.ContainsKey(name) && name != room && !Allowed[room].Contains(name) && File.Exists(Path.Combine(Source(), name, used.Groups[2].Value + ".cs")),
                    $"{Path.GetFileName(file)} of {room} uses {used.Value}");
            }
        }
    }

    [Fact]
    public void Unsafe_code_and_imports_are_in_Native_alone()
    {
        foreach (string room in Allowed.Keys.Where(room => room != "Native"))
        {
            foreach (string file in FilesOf(room))
            {
                Assert.DoesNotMatch(@"\bunsafe\b|LibraryImport|DllImport|NativeLibrary\.", Comment().Replace(File.ReadAllText(file), ""));
            }
        }
    }

    [Fact]
    public void Console_and_environment_are_read_in_Cli_alone()
    {
        foreach (string room in Allowed.Keys.Where(room => room != "Cli"))
        {
            foreach (string file in FilesOf(room))
            {
                Assert.DoesNotMatch(@"\bConsole\.|GetEnvironmentVariable|GetFolderPath", Comment().Replace(File.ReadAllText(file), ""));
            }
        }
    }

    [Fact]
    public void Every_directory_is_a_room_of_the_table()
    {
        IEnumerable<string> directories = Directory.GetDirectories(Source()).Select(path => Path.GetFileName(path)).Where(name => name is not ("bin" or "obj"));

        Assert.Equal(directories.Order(), Allowed.Keys.Order());
    }

    // | `Room` | what it is for | rooms it may use (and what for) |
    private static Dictionary<string, string[]> ReadTable()
    {
        string[][] rows = [.. File.ReadLines(Path.Combine(Source(), "../README.md"))
            .Where(line => line.StartsWith("| `", StringComparison.Ordinal) && line.Split('|').Length == 5)
            .Select(line => line.Split('|')[1..4])];
        string[] rooms = [.. rows.Select(row => row[0].Trim(' ', '`'))];
        return rows.Zip(rooms).ToDictionary(
            pair => pair.Second,
            pair => Remark().Replace(pair.First[2], "").Trim() switch
            {
                "all" => rooms,
                "nothing of ours" => [],
                string list => list.Split(',', StringSplitOptions.TrimEntries),
            });
    }

    private static string[] FilesOf(string room) => Directory.GetFiles(Path.Combine(Source(), room), "*.cs");

    private static string Source([CallerFilePath] string here = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../../src/NativePull"));

    [GeneratedRegex(@"(?<![.\w])NativePull\.([A-Z]\w*)\b")]
    private static partial Regex RoomName();

    [GeneratedRegex(@"(?<![.\w])([A-Z]\w*)\.([A-Z]\w*)")]
    private static partial Regex QualifiedType();

    [GeneratedRegex(@"\(.*?\)")]
    private static partial Regex Remark();

    [GeneratedRegex(@"(?m)//.*$")]
    private static partial Regex Comment();
}
