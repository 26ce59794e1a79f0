using System.Globalization;
using System.Text;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What registries hold besides images.</summary>
public sealed class ArtifactTests
{
    [Fact]
    public async Task An_artifact_is_pulled_and_pulled_again_and_cannot_be_extracted()
    {
        using TemporaryDirectory directory = new();
        await using FakeRegistry registry = new FakeRegistry().Start();
        Descriptor config = registry.AddBlob("a/chart", "{}"u8.ToArray(), "application/vnd.oci.empty.v1+json");
        Descriptor chart = registry.AddBlob("a/chart", "chart"u8.ToArray(), "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
        Descriptor manifest = registry.AddManifest(
            "a/chart",
            "1",
            Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"artifactType":"application/vnd.example.chart","config":{{Json(config, "e30=")}},"layers":[{{Json(chart, "Y2hhcnQ=")}}]}"""),
            MediaTypes.OciManifest);
        string reference = $"{registry.Address}/a/chart:1";

        BinaryResult pulled = await Binary.RunAsync("pull", reference, "--json", "--store", directory["store"]);
        BinaryResult offline = await Binary.RunAsync("pull", reference, "--policy", "never", "--store", directory["store"]);
        BinaryResult inspected = await Binary.RunAsync("inspect", reference, "--json", "--store", directory["store"]);
        BinaryResult listed = await Binary.RunAsync("list", "--store", directory["store"]);
        BinaryResult extracted = await Binary.RunAsync("pull", reference, "--rootfs", directory["root"], "--store", directory["store"]);

        Assert.DoesNotContain("diffId", pulled.Expect(0).Out, StringComparison.Ordinal);
        Assert.Single(registry.Requests, request => request.Path.Contains("/manifests/1", StringComparison.Ordinal) && request.Status == 200 && request == registry.Requests[0]);
        Assert.DoesNotContain(registry.Requests, request => request.Path.Contains("/blobs/", StringComparison.Ordinal)); // both were in the manifest
        Assert.Equal("chart", await File.ReadAllTextAsync(directory[$"store/blobs/sha256/{chart.Digest.Hex}"], TestContext.Current.CancellationToken));
        Assert.EndsWith($"@{manifest.Digest}\n", offline.Expect(0).Out, StringComparison.Ordinal);
        inspected.Expect(0);
        listed.Expect(0);
        Assert.Contains("application/vnd.example.chart", extracted.Expect(7).Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(directory["root"]));
    }

    [Fact]
    public async Task A_nested_index_is_found_again_offline()
    {
        using TemporaryDirectory directory = new();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish("inner", withIndex: true);
        byte[] outer = Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{MediaTypes.OciIndex}}","manifests":[{"mediaType":"{{MediaTypes.OciIndex}}","digest":"{{image.Digest}}","size":{{(await SizeAsync(registry, image)).ToString(CultureInfo.InvariantCulture)}}}]}""");
        Descriptor described = registry.AddManifest("a/b", "outer", outer, MediaTypes.OciIndex);
        string reference = $"{registry.Address}/a/b:outer";

        (await Binary.RunAsync("pull", reference, "--store", directory["store"])).Expect(0);
        BinaryResult offline = await Binary.RunAsync("extract", reference, "--rootfs", directory["root"], "--store", directory["store"]);

        Assert.EndsWith($"@{described.Digest}\n", offline.Expect(0).Out, StringComparison.Ordinal);
        Assert.True(File.Exists(directory["root/f"]));
    }

    private static async Task<long> SizeAsync(FakeRegistry registry, FakeImage image)
    {
        using var http = new HttpClient();
        using var request = new HttpRequestMessage(HttpMethod.Get, $"http://{registry.Address}/v2/a/b/manifests/{image.Digest}");
        request.Headers.TryAddWithoutValidation("Accept", MediaTypes.OciIndex);
        using HttpResponseMessage answer = await http.SendAsync(request, TestContext.Current.CancellationToken);
        return (await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)).Length;
    }

    private static string Json(Descriptor descriptor, string data) => string.Create(
        CultureInfo.InvariantCulture,
        $"{{\"mediaType\":\"{descriptor.MediaType}\",\"digest\":\"{descriptor.Digest}\",\"size\":{descriptor.Size},\"data\":\"{data}\"}}");
}
