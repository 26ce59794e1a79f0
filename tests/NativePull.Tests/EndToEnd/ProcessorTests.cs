using System.Text;
using System.Text.Json;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What the published executable knows of the processor it runs on; the compiler may have answered for it.</summary>
public sealed class ProcessorTests
{
    [Fact]
    public async Task The_best_level_of_this_processor_is_taken_from_an_index()
    {
        Assert.SkipUnless(System.Runtime.Intrinsics.X86.X86Base.X64.IsSupported, "the levels are of x86-64");
        // glibc's loader asks the processor too (ld.so(8), glibc-hwcaps); /proc/cpuinfo leaves out what some kernels do not name
        string loader = (await Binary.ProgramAsync("/lib64/ld-linux-x86-64.so.2", "--help")).Expect(0).Out;
        int level = Enumerable.Range(2, 3).LastOrDefault(number => loader.Contains($"x86-64-v{number} (supported", StringComparison.Ordinal), 1);
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage[] images = [.. Enumerable.Range(1, 4).Select(number => new FakeImage(registry, "a/b").Layer(($"v{number}", [1])).Publish($"v{number}"))];
        string entries = string.Join(',', images.Select((image, index) =>
            $$$"""{"mediaType":"{{{MediaTypes.OciManifest}}}","digest":"{{{image.Digest}}}","size":{{{registry.SizeOf("a/b", image.Digest)}}},"platform":{"os":"linux","architecture":"amd64","variant":"v{{{index + 1}}}"}}"""));
        registry.AddManifest("a/b", "all", Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.OciIndex}}","manifests":[{{entries}}]}"""), MediaTypes.OciIndex);
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", $"{registry.Address}/a/b:all", "--store", store["s"], "--json");

        using JsonDocument json = JsonDocument.Parse(result.Expect(0).Out);
        Assert.Equal(images[level - 1].Digest.ToString(), json.RootElement.GetProperty("manifest").GetString());
    }
}
