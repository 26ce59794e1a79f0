using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace NativePull.Tests.Architecture;

/// <summary>Holds the table "who may use whom" of src/README.md against every source file.</summary>
public sealed partial class RoomTests
{
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["Oci"] = [],
        ["Native"] = [],
        ["IO"] = ["Oci"],
        ["Registry"] = ["IO", "Native", "Oci"],
        ["Store"] = ["IO", "Native", "Oci"],
        ["Layers"] = ["IO", "Native", "Oci"],
        ["Pull"] = ["Registry", "Store", "Layers", "IO", "Oci"],
        ["Cli"] = ["Pull", "Registry", "Store", "Layers", "IO", "Native", "Oci"],
    };

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

    private static string[] FilesOf(string room) => Directory.GetFiles(Path.Combine(Source(), room), "*.cs");

    private static string Source([CallerFilePath] string here = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../../src/NativePull"));

    [GeneratedRegex(@"(?<![.\w])NativePull\.([A-Z]\w*)\b")]
    private static partial Regex RoomName();

    [GeneratedRegex(@"(?m)//.*$")]
    private static partial Regex Comment();
}
