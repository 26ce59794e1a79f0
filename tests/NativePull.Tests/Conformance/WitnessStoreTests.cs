using System.Diagnostics;
using System.Text.Json;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>The store is an OCI image layout that skopeo and umoci read in place, at any moment; both select an image by its whole reference.</summary>
[Collection(WitnessTests.Name)]
public sealed class WitnessStoreTests(WitnessFixture fixture)
{
    [Fact]
    public async Task Skopeo_sees_the_image_under_its_reference_with_the_digest_we_print()
    {
        fixture.SkipUnlessReady();

        using JsonDocument seen = JsonDocument.Parse(await WitnessFixture.SkopeoAsync("inspect", $"oci:{fixture.Store}:{fixture.Reference}"));
        using JsonDocument there = JsonDocument.Parse(await WitnessFixture.SkopeoAsync("inspect", "--tls-verify=false", $"docker://{fixture.Reference}"));

        Assert.Equal($"{fixture.Address}/demo/debian@{fixture.Digest}\n", fixture.Pull.Expect(0).Out);
        Assert.Equal(fixture.Digest, seen.RootElement.GetProperty("Digest").GetString());
        Assert.Equal(fixture.Digest, there.RootElement.GetProperty("Digest").GetString());
        Assert.Equal(there.RootElement.GetProperty("Layers").ToString(), seen.RootElement.GetProperty("Layers").ToString());
    }

    [Fact]
    public async Task Skopeo_copies_every_blob_out_of_the_store_unchanged()
    {
        fixture.SkipUnlessReady();
        using TemporaryDirectory scratch = new();

        await WitnessFixture.SkopeoAsync("copy", "--quiet", "--preserve-digests", $"oci:{fixture.Store}:{fixture.Reference}", $"dir:{scratch["copy"]}");

        string[] blobs = [.. Directory.GetFiles(scratch["copy"]).Select(path => Path.GetFileName(path)).Where(name => name.Length == 64)];
        Assert.Equal(5, blobs.Length);
        foreach (string blob in blobs)
        {
            Assert.Equal(blob, (await WitnessFixture.RunAsync("sha256sum", scratch[$"copy/{blob}"]))[..64]);
        }

        Assert.Equal(fixture.Digest["sha256:".Length..], (await WitnessFixture.RunAsync("sha256sum", scratch["copy/manifest.json"]))[..64]);
    }

    [Fact]
    public async Task Umoci_lists_and_describes_the_image()
    {
        fixture.SkipUnlessReady();

        string tags = await WitnessFixture.RunAsync("umoci", "list", "--layout", fixture.Store);
        string history = await WitnessFixture.RunAsync("umoci", "stat", "--image", $"{fixture.Store}:{fixture.Reference}");

        Assert.Equal($"{fixture.Reference}\n", tags);
        Assert.Equal(4, history.Split('\n').Count(line => line.Contains("make-image.sh, layer", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Raw_config_and_digest_are_byte_for_byte_those_that_skopeo_shows()
    {
        fixture.SkipUnlessReady();
        foreach (string[] source in new string[][] { ["--store", fixture.Store], ["--store", fixture.Store, "--remote"] })
        {
            string raw = (await Binary.RunAsync(["inspect", "--raw", fixture.Reference, .. source])).Expect(0).Out;
            string config = (await Binary.RunAsync(["inspect", "--config", fixture.Reference, .. source])).Expect(0).Out;
            string digest = (await Binary.RunAsync(["inspect", "--digest", fixture.Reference, .. source])).Expect(0).Out;

            Assert.Equal(await WitnessFixture.SkopeoAsync("inspect", "--raw", "--tls-verify=false", $"docker://{fixture.Reference}"), raw);
            Assert.Equal(await WitnessFixture.SkopeoAsync("inspect", "--config", "--raw", "--tls-verify=false", $"docker://{fixture.Reference}"), config);
            Assert.Equal($"{fixture.Digest}\n", digest);
        }
    }

    [Fact]
    public async Task An_index_is_shown_as_the_registry_has_it_and_stored_so_that_witnesses_can_read_the_image()
    {
        fixture.SkipUnlessReady();
        using TemporaryDirectory scratch = new();
        string reference = $"{fixture.Address}/small/indexed:1";
        Digest index = await SmallImage.MakeAsync(scratch["layout"], "indexed", withIndex: true);
        await WitnessFixture.SkopeoAsync("copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false", $"oci:{scratch["layout"]}:indexed", $"docker://{reference}");

        string printed = (await Binary.RunAsync("pull", reference, "--store", scratch["s"], "--rootfs", scratch["r"])).Expect(0).Out;
        string raw = (await Binary.RunAsync("inspect", "--raw", reference, "--store", scratch["s"])).Expect(0).Out;
        await WitnessFixture.RunAsync("umoci", "raw", "unpack", "--image", $"{scratch["s"]}:{reference}", scratch["u"]);
        await WitnessFixture.SkopeoAsync("inspect", $"oci:{scratch["s"]}:{reference}");

        Assert.Equal($"{fixture.Address}/small/indexed@{index}\n", printed);
        Assert.Equal(await WitnessFixture.SkopeoAsync("inspect", "--raw", "--tls-verify=false", $"docker://{reference}"), raw);
        TreeListing.AssertSame(TreeListing.Of(scratch["u"]), TreeListing.Of(scratch["r"]));
    }

    [Fact]
    public async Task The_store_is_a_layout_while_a_pull_runs_and_after_it_was_killed()
    {
        fixture.SkipUnlessReady();
        using TemporaryDirectory scratch = new();
        string first = $"{fixture.Address}/small/first:1";
        await SmallImage.MakeAsync(scratch["layout"], "first");
        await WitnessFixture.SkopeoAsync("copy", "--quiet", "--dest-tls-verify=false", $"oci:{scratch["layout"]}:first", $"docker://{first}");
        string[] pull = ["pull", fixture.Reference, "--store", scratch["s"], "--limit-rate", "1MiB", "--rootfs", scratch["r"]];

        // the very first moments: nothing is named, but everything a layout must have is there
        using (Process running = Binary.Start(null, Binary.File, pull))
        {
            await UntilPartsGrowAsync(scratch);
            Assert.Equal("", await WitnessFixture.RunAsync("umoci", "list", "--layout", scratch["s"]));
            running.Kill();
            await Binary.FinishAsync(running);
        }

        Assert.Equal("", await WitnessFixture.RunAsync("umoci", "list", "--layout", scratch["s"]));
        (await Binary.RunAsync("pull", first, "--store", scratch["s"])).Expect(0);
        using (Process running = Binary.Start(null, Binary.File, pull))
        {
            await UntilPartsGrowAsync(scratch);
            await AssertReadableAsync(scratch, first);
            running.Kill();
            await Binary.FinishAsync(running);
        }

        await AssertReadableAsync(scratch, first);
    }

    /// <summary>
    /// Tools of today's distributions know OCI's media types alone in a layout and pass over Docker's (image-spec, image-layout.md: what is
    /// unknown in index.json must not be an error); an image of OCI beside it stays readable.
    /// </summary>
    [Fact]
    public async Task An_image_in_Docker_schema_2_leaves_the_others_readable()
    {
        fixture.SkipUnlessReady();
        using TemporaryDirectory scratch = new();
        await SmallImage.MakeAsync(scratch["layout"], "x");
        string oci = $"{fixture.Address}/small/both:oci";
        string docker = $"{fixture.Address}/small/both:docker";
        await WitnessFixture.SkopeoAsync("copy", "--quiet", "--dest-tls-verify=false", "--format", "v2s2", $"oci:{scratch["layout"]}:x", $"docker://{docker}");
        await WitnessFixture.SkopeoAsync("copy", "--quiet", "--dest-tls-verify=false", $"oci:{scratch["layout"]}:x", $"docker://{oci}");

        (await Binary.RunAsync("pull", docker, oci, "--store", scratch["s"])).Expect(0);

        await WitnessFixture.SkopeoAsync("inspect", $"oci:{scratch["s"]}:{oci}");
        await WitnessFixture.RunAsync("umoci", "stat", "--image", $"{scratch["s"]}:{oci}");
        Assert.Contains("vnd.docker.distribution.manifest", await File.ReadAllTextAsync(scratch["s/index.json"], TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    private static async Task AssertReadableAsync(TemporaryDirectory scratch, string reference)
    {
        Assert.Equal($"{reference}\n", await WitnessFixture.RunAsync("umoci", "list", "--layout", scratch["s"]));
        await WitnessFixture.SkopeoAsync("inspect", $"oci:{scratch["s"]}:{reference}");
        foreach (string blob in Directory.GetFiles(scratch["s/blobs/sha256"]))
        {
            Assert.Equal(Path.GetFileName(blob), (await WitnessFixture.RunAsync("sha256sum", blob))[..64]);
        }
    }

    private static async Task UntilPartsGrowAsync(TemporaryDirectory scratch)
    {
        while (!Directory.Exists(scratch["s/parts"]) || !new DirectoryInfo(scratch["s/parts"]).GetFiles().Any(part => part.Length > 0))
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }
}
