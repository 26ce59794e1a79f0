using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// All of what makes GitHub's registry another than the simple ones, in one pull: an index only for those who accept its type (404 otherwise),
/// 401 and a token for a scope, blobs on another host behind signed links of short life.
/// </summary>
public sealed class GitHubRegistryTests
{
    private const long Size = 3_000_000;
    private const long Cut = 1_234_567;

    [Fact]
    public async Task Tokens_and_links_that_end_in_the_middle_cost_one_request_each_and_no_byte_twice()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), HasStorage = true, LinkUses = 1 }.Start();
        registry.StorageAddress = $"localhost:{registry.StoragePort}";
        FakeContent content = FakeContent.Generated(3, Size);
        FakeImage image = new FakeImage(registry, "org/app").Layer(content).Publish(withIndex: true);
        string blob = $"registry /v2/org/app/blobs/{content.Digest}";
        // the body breaks off; the link is worth nothing any more, and neither is the token that would get a new one
        registry.Faults.On($"cdn /data/org/app@{content.Digest}", new Fault { CutAfter = Cut, BeforeAnswer = registry.ExpireTokens });
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--json", "-v");

        result.Expect(0);
        Assert.Equal(
            [
                "registry GET manifests 401", "token GET 200", "registry GET manifests 200", "registry GET manifests 200",
                "registry GET blobs 307", "cdn GET 200",
                "registry GET blobs 307", "cdn GET 200",
                "registry GET blobs 401", "token GET 200", "registry GET blobs 307", "cdn GET 206",
            ],
            registry.Requests.Select(Told));
        Assert.Equal(Size, Of(registry, content).Sum(request => request.BytesSent));
        Assert.Equal($"bytes={Cut}-", Of(registry, content)[^1]["Range"]);
        Assert.All(registry.RequestsOf("token"), request => Assert.Contains("scope=repository%3Aorg%2Fapp%3Apull", request.Path, StringComparison.Ordinal));
        Assert.All(registry.RequestsOf("cdn"), request => Assert.Null(request["Authorization"]));
        Assert.DoesNotContain("token-", result.Out + result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("signature", result.Out + result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Several_connections_for_one_blob_each_get_a_link_of_their_own()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), HasStorage = true, LinkUses = 1 }.Start();
        await using ShapingProxy slow = new(registry.StoragePort) { RateOfEach = 10_000_000 };
        registry.StorageAddress = slow.Address;
        FakeContent content = FakeContent.Generated(4, 60_000_000);
        FakeImage image = new FakeImage(registry, "org/app").Layer(content).Publish(withIndex: true);
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"])).Expect(0);

        SeenRequest[] sent = Of(registry, content);
        Assert.True(sent.Select(request => request.Connection).Distinct().Count() > 1, string.Join('\n', sent.AsEnumerable()));
        Assert.DoesNotContain(sent, request => request.Status == 403);
        Assert.Single(registry.RequestsOf("token"));
    }

    private static SeenRequest[] Of(FakeRegistry registry, FakeContent content) =>
        [.. registry.RequestsOf("cdn").Where(request => request.Path.Contains(content.Digest.Hex, StringComparison.Ordinal))];

    private static string Told(SeenRequest request)
    {
        string kind = request.Server != "registry" ? "" : request.Path.Contains("/blobs/", StringComparison.Ordinal) ? " blobs" : " manifests";
        return $"{request.Server} {request.Method}{kind} {request.Status}";
    }
}
