using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>Layer directories made by a user whom the image's own modes keep out of them, as they do not keep out root.</summary>
public sealed class ClosedDirectoryTests
{
    [Theory]
    [InlineData("0")]
    [InlineData("111")]
    [InlineData("333")]
    [InlineData("400")]
    [InlineData("600")]
    public async Task What_lower_layers_have_in_directories_that_are_closed_is_found_and_they_stay_closed(string mode)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming another user needs root");
        int bits = Convert.ToInt32(mode, 8);
        TarBuilder[] layers =
        [
            new TarBuilder().Directory("a/", bits).Directory("a/b/", bits).Directory("a/b/q/", bits).File("a/f"),
            new TarBuilder().File("a/b/q/c/x").HardLink("h", "a/f"),
            new TarBuilder().File("a/b/q/c/y").HardLink("h", "a/b/q/c/x").Whiteout("a/f").Whiteout("a/absent/g"),
        ];
        using LayerRun run = new(layers.Select(layer => LayoutLayer.Of(layer.End().ToArray())));
        string script = """
            set -e; cd "$1"; chmod 755 .; mkdir d; chown 65534 d
            setpriv --reuid 65534 --regid 65534 --clear-groups "$2" extract oci:layout -q --platform linux/amd64 --layers d/l --whiteouts overlay-user >/dev/null
            cd d/l; find . -name '[abq]' -printf '%m\n' | sort -u; find . -mindepth 2 -printf '%P %y\n' | sed 's/-[^/]*//' | LC_ALL=C sort
            """;

        BinaryResult result = await Binary.ProgramAsync("bash", "-c", script, "bash", run.Path, Binary.File);

        string[] lines = result.Expect(0).Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(
            [
                mode,
                "01/a d", "01/a/b d", "01/a/b/q d", "01/a/f f",
                "02/a d", "02/a/b d", "02/a/b/q d", "02/a/b/q/c d", "02/a/b/q/c/x f", "02/a/f f", "02/h f",
                "03/a d", "03/a/b d", "03/a/b/q d", "03/a/b/q/c d", "03/a/b/q/c/x f", "03/a/b/q/c/y f", "03/a/f c", "03/h f",
            ],
            lines);
    }
}
