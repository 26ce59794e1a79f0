using System.Diagnostics;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>The executable with mirrors in all three notations.</summary>
public sealed class MirrorPullTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();

    [Theory]
    [InlineData("--mirror")]
    [InlineData("--hosts-dir")]
    [InlineData("--registries-conf")]
    public async Task A_mirror_that_dies_in_the_middle_is_left_and_the_same_part_goes_on_elsewhere(string notation)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeRegistry mirror = new FakeRegistry().Start();
        string reference = new FakeImage(registry, "a/b").Layer(("f", Content(1, 900_000))).Layer(("g", Content(2, 900_000))).Publish().Reference();
        FakeImage copy = new FakeImage(mirror, "a/b").Layer(("f", Content(1, 900_000))).Layer(("g", Content(2, 900_000))).Publish();
        Fault stall = mirror.Faults.On($"blobs/{copy.Layers[0].Digest}", new Fault { StallAfter = 500_000 });
        using System.Diagnostics.Process running = Binary.Start(
            null, Binary.File, ["pull", reference, "--jobs", "1", "--json", "--extract", "--store", directory["store"], .. Notation(notation, registry, mirror)]);

        await stall.Reached;
        await mirror.DisposeAsync();
        BinaryResult result = await Binary.FinishAsync(running);

        result.Expect(0);
        Assert.Contains("\"warnings\":[\"mirror ", result.Out, StringComparison.Ordinal);
        SeenRequest rest = Assert.Single(registry.Requests, request => request.Path.Contains(copy.Layers[0].Digest.ToString(), StringComparison.Ordinal));
        Assert.StartsWith("bytes=", rest["Range"], StringComparison.Ordinal);
        Assert.NotEqual("bytes=0-", rest["Range"]);
        Assert.DoesNotContain("retry", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_layer_that_a_mirror_gives_wrong_is_fetched_anew_from_the_registry()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        mirror.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { WrongByteAt = 1000 }, times: 100);

        BinaryResult result = await Binary.RunAsync(
            ["pull", image.Reference(), "--json", "--rootfs", directory["root"], "--store", directory["store"], .. Notation("--mirror", registry, mirror)]);

        Assert.Contains("has another digest", result.Expect(0).Out, StringComparison.Ordinal);
        Assert.Equal(Content(1, 900_000), await File.ReadAllBytesAsync(directory["root/f"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task What_is_extracted_while_a_mirror_gives_it_wrong_is_extracted_anew()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        await using FakeRegistry mirror = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        new FakeImage(mirror, "a/b").Layer(("f", Content(1, 900_000))).Publish();
        // long broken for who unpacks it before it is known to be wrong
        Fault fault = new() { WrongByteAt = 12, StallAfter = 800_000 };
        mirror.Faults.On($"blobs/{image.Layers[0].Digest}", fault, times: 100);

        using Process running = Binary.Start(
            null,
            Binary.File,
            ["pull", image.Reference(), "--json", "--extract", "--rootfs", directory["root"], "--layers", directory["layers"], "--store", directory["store"], .. Notation("--mirror", registry, mirror)]);
        await fault.Reached;
        await Task.Delay(500, TestContext.Current.CancellationToken);
        fault.Release();
        BinaryResult result = await Binary.FinishAsync(running);

        Assert.Contains("has another digest", result.Expect(0).Out, StringComparison.Ordinal);
        Assert.Equal(Content(1, 900_000), await File.ReadAllBytesAsync(directory["root/f"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_blocked_registry_and_an_unclear_short_name_are_refused()
    {
        await File.WriteAllTextAsync(
            directory["registries.conf"],
            "unqualified-search-registries = [\"one.example\", \"two.example\"]\n[[registry]]\nlocation = \"blocked.example\"\nblocked = true\n",
            TestContext.Current.CancellationToken);
        Dictionary<string, string> environment = new() { ["CONTAINERS_REGISTRIES_CONF"] = directory["registries.conf"] };

        BinaryResult blocked = await Binary.RunAsync(environment, "pull", "blocked.example/a/b", "--store", directory["store"]);
        BinaryResult unclear = await Binary.RunAsync(environment, "pull", "alpine", "--store", directory["store"]);
        await File.AppendAllTextAsync(directory["registries.conf"], "x = ?\n", TestContext.Current.CancellationToken);
        BinaryResult broken = await Binary.RunAsync(environment, "pull", "other.example/a/b", "--store", directory["store"]);

        Assert.Contains("blocked by", blocked.Expect(7).Error, StringComparison.Ordinal);
        Assert.Contains("one.example or two.example", unclear.Expect(2).Error, StringComparison.Ordinal);
        Assert.Contains("registries.conf, line 5: ", broken.Expect(2).Error, StringComparison.Ordinal);
    }

    public void Dispose() => directory.Dispose();

    private static byte[] Content(int seed, int length) => FakeContent.Generated(seed, length).ToArray();

    private string[] Notation(string notation, FakeRegistry registry, FakeRegistry mirror)
    {
        Directory.CreateDirectory(directory[registry.Address]);
        File.WriteAllText(directory[$"{registry.Address}/hosts.toml"], $"server = \"{registry.Url}\"\n\n[host.\"{mirror.Url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        File.WriteAllText(directory["registries.conf"], $"[[registry]]\nlocation = \"{registry.Address}\"\n[[registry.mirror]]\nlocation = \"{mirror.Address}\"\ninsecure = true\n");
        return notation switch
        {
            "--mirror" => [notation, $"{registry.Address}={mirror.Url}"],
            "--hosts-dir" => [notation, directory.Path],
            _ => [notation, directory["registries.conf"]],
        };
    }
}
