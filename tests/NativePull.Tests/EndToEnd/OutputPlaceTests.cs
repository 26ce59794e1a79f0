using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What lies at and beside the place of an output: what an output may have for a name, and what is kept of what was there.</summary>
public sealed class OutputPlaceTests
{
    [Theory]
    [InlineData(256)]
    [InlineData(64)]
    public async Task However_few_open_files_there_may_be_three_hundred_layers_become_directories(int files)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 300; i++)
        {
            // a directory that no layer lists is looked for in all of those below
            image.Layer(($"d{i % 7}/f{i}", [(byte)i]));
        }

        image.Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await RunAsync(work, image, $"ulimit -n {files}; $1 pull $2 --store s --extract -q && $1 extract $2 --store s --layers l -q");

        result.Expect(0);
        Assert.Equal(300, Directory.GetDirectories(work["l"]).Length);
        Assert.Equal(300, Directory.GetFiles(work["l"], "*", SearchOption.AllDirectories).Length);
        Assert.Equal(300, Directory.GetDirectories(work["s/layers/sha256"]).Length);
    }

    private static Task<BinaryResult> RunAsync(TemporaryDirectory work, FakeImage image, string script) =>
        Binary.ProgramAsync("bash", "-c", $"cd '{work.Path}'; {script}", "bash", Binary.File, image.Reference());
}
