using System.Runtime.CompilerServices;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Architecture;

/// <summary>The shell scripts of the project, which no compiler looks at.</summary>
public sealed class ScriptTests
{
    [Fact]
    public async Task Shellcheck_finds_nothing_in_any_script()
    {
        string[] scripts = [.. Directory.GetFiles(Path.Combine(Repository(), "scripts"), "*.sh"), Path.Combine(Repository(), "tests/NativePull.Tests/Golden/make.sh")];
        Assert.NotEmpty(scripts);

        BinaryResult result = await Binary.ProgramAsync("shellcheck", ["--source-path", Repository(), "--format=gcc", .. scripts]);

        Assert.Equal("", result.Out);
        result.Expect(0);
    }

    private static string Repository([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../.."));
}
