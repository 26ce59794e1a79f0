using System.Diagnostics;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What each policy asks of the registry, by what the store has.</summary>
public sealed class PolicyTests
{
    private const string Head = "HEAD latest";
    private const string Get = "GET latest";

    /// <summary>Policy (empty: the default), tag or digest, what has happened since the first pull; exit code, requests.</summary>
    public static TheoryData<string, string, string, int, string[]> Table => new()
    {
        { "", "tag", "nothing", 0, [Head] },
        { "", "digest", "nothing", 0, [] },
        { "", "tag", "the tag moved", 0, [Head, Get, "blobs"] },
        { "", "digest", "the tag moved", 0, [] },
        { "newer", "tag", "nothing", 0, [Head] },
        { "newer", "tag", "HEAD is refused", 0, [Head, Get] },
        { "newer", "tag", "HEAD names no digest", 0, [Head, Get] },
        { "newer", "tag", "the registry is gone", 5, [Head] },
        { "newer", "tag", "a blob is lost", 0, [Head, "blobs"] },
        { "missing", "tag", "nothing", 0, [] },
        { "missing", "tag", "the tag moved", 0, [] },
        { "missing", "tag", "the registry is gone", 0, [] },
        { "missing", "tag", "the store is new", 0, [Get, "GET digest", "blobs"] },
        { "always", "tag", "nothing", 0, [Head] },
        { "always", "digest", "nothing", 0, ["HEAD digest"] },
        { "never", "tag", "nothing", 0, [] },
        { "never", "tag", "the tag moved", 0, [] },
        { "never", "digest", "nothing", 0, [] },
        { "never", "tag", "the store is new", 3, [] },
    };

    [Theory]
    [MemberData(nameof(Table))]
    public async Task Each_policy_asks_for_what_it_needs_and_no_more(string policy, string by, string since, int code, string[] expected)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish(withIndex: true);
        string reference = by == "tag" ? image.Reference() : $"{registry.Address}/a/b@{image.Digest}";
        using TemporaryDirectory store = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"])).Expect(0);
        int before = registry.Requests.Count;
        string at = store["s"];
        switch (since)
        {
            case "the tag moved":
                new FakeImage(registry, "a/b").RandomLayer("g", 1000).Publish();
                break;
            case "HEAD is refused":
                registry.Faults.On("manifests/latest", new Fault { Status = 405 });
                break;
            case "HEAD names no digest":
                registry.Faults.On("manifests/latest", new Fault { Headers = [("Docker-Content-Digest", "")] });
                break;
            case "a blob is lost":
                File.Delete(store[$"s/blobs/sha256/{image.Layers[0].Digest.Hex}"]);
                break;
            case "the store is new":
                at = store["new"];
                break;
            case "the registry is gone":
                registry.Faults.On("", new Fault { NoAnswer = true }, times: 1000);
                break;
        }

        BinaryResult result = await Binary.RunAsync(["pull", reference, "--store", at, "--retries", "1", .. policy.Length == 0 ? Array.Empty<string>() : ["--policy", policy]]);

        result.Expect(code);
        Assert.Equal(expected, registry.Requests.Skip(before).Select(Short).Distinct());
    }

    [Fact]
    public async Task Never_opens_no_socket()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        using TemporaryDirectory store = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"])).Expect(0);

        using Process traced = Binary.Start(
            null, "strace", ["-f", "-qq", "-e", "trace=network", "-o", store["trace"], Binary.File, "pull", image.Reference(), "--store", store["s"], "--rootfs", store["r"], "--policy", "never"]);
        (await Binary.FinishAsync(traced)).Expect(0);

        Assert.DoesNotContain("socket(", await File.ReadAllTextAsync(store["trace"], TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 6)]
    public async Task Check_tag_fails_where_the_tag_points_elsewhere(bool moved, int code)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        if (moved)
        {
            new FakeImage(registry, "a/b").RandomLayer("g", 1000).Publish();
        }

        using TemporaryDirectory store = new();
        string[] pull = ["pull", $"{image.Reference()}@{image.Digest}", "--store", store["s"], "--json"];

        (await Binary.RunAsync(pull)).Expect(0);
        BinaryResult result = await Binary.RunAsync([.. pull, "--check-tag"]);

        Assert.Contains(moved ? "\"reason\":\"unexpected\"" : $"\"digest\":\"{image.Digest}\"", result.Expect(code).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Check_tag_without_a_tag_or_a_digest_is_a_wrong_call()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--check-tag")).Expect(2);
    }

    [Fact]
    public async Task A_tag_is_pulled_while_it_is_the_digest_that_is_expected_and_what_is_here_stays_when_it_is_not()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage first = new FakeImage(registry, "a/b").RandomLayer("f", 1000).Publish();
        using TemporaryDirectory store = new();
        string[] pull = ["pull", first.Reference(), "--store", store["s"], "--expect", first.Digest.ToString()];

        (await Binary.RunAsync(pull)).Expect(0);
        FakeImage second = new FakeImage(registry, "a/b").RandomLayer("g", 1000).Publish();
        BinaryResult moved = (await Binary.RunAsync(pull)).Expect(6);
        BinaryResult here = await Binary.RunAsync("pull", first.Reference(), "--store", store["s"], "--policy", "never", "--expect", first.Digest.ToString());

        Assert.Contains(first.Digest.ToString(), moved.Error, StringComparison.Ordinal);
        Assert.Contains(second.Digest.ToString(), moved.Error, StringComparison.Ordinal);
        Assert.EndsWith($"@{first.Digest}\n", here.Expect(0).Out, StringComparison.Ordinal);
        Assert.False(File.Exists(store[$"s/blobs/sha256/{second.Layers[0].Digest.Hex}"]));
    }

    private static string Short(SeenRequest request) => request.Path.Contains("/blobs/", StringComparison.Ordinal)
        ? "blobs"
        : $"{request.Method} {(request.Path.Contains("sha256:", StringComparison.Ordinal) ? "digest" : "latest")}";
}
