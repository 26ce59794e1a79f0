using System.Text;
using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

public sealed class ManifestTests
{
    private static readonly byte[] Index = """{"schemaVersion":2,"manifests":[]}"""u8.ToArray();

    [Theory]
    [InlineData(MediaTypes.OciIndex)]
    [InlineData(MediaTypes.OciManifest)]
    [InlineData(MediaTypes.DockerList)]
    [InlineData(MediaTypes.DockerManifest)]
    public async Task Every_kind_is_accepted_from_a_registry_that_answers_404_to_others(string mediaType)
    {
        await using var it = new RegistryHarness();
        byte[] content = Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"mediaType":"{{mediaType}}"}""");
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", content, mediaType);

        FetchedManifest fetched = await it.ManifestAsync();

        Assert.Equal(mediaType, fetched.MediaType);
        Assert.Equal(content, fetched.Content);
        Assert.Equal(Digest.Of(content), fetched.Digest);
        SeenRequest request = Assert.Single(it.Fake.Requests);
        Assert.Equal("/v2/team/app/manifests/latest", request.Path);
        Assert.Equal("nativepull/test", request["User-Agent"]);
    }

    [Theory]
    [InlineData("""{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}""", "text/plain", MediaTypes.OciIndex)]
    [InlineData("""{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}""", MediaTypes.DockerList, MediaTypes.OciIndex)]
    [InlineData("""{"schemaVersion":2,"manifests":[]}""", MediaTypes.DockerList, MediaTypes.DockerList)]
    [InlineData("""{"schemaVersion":2,"manifests":[]}""", "application/json", MediaTypes.OciIndex)]
    [InlineData("""{"schemaVersion":2,"manifests":[]}""", "", MediaTypes.OciIndex)]
    [InlineData("""{"schemaVersion":2,"config":{},"layers":[]}""", "application/octet-stream", MediaTypes.OciManifest)]
    [InlineData("""{"schemaVersion":2,"config":{},"layers":[]}""", "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8", MediaTypes.DockerManifest)]
    [InlineData("""{"schemaVersion":1}""", "application/json", "application/vnd.docker.distribution.manifest.v1+json")]
    [InlineData("{}", "text/plain", "text/plain")]
    public async Task The_kind_is_the_documents_own_word_then_the_headers_then_its_shape(string content, string header, string expected)
    {
        await using var it = new RegistryHarness();
        it.Fake.Faults.On("/manifests/", new Fault { Status = 200, Body = content, Headers = [("Content-Type", header)] });

        Assert.Equal(expected, (await it.ManifestAsync()).MediaType);
    }

    [Theory]
    [InlineData("sha256:")]
    [InlineData("sha512:")]
    public async Task A_manifest_by_digest_is_compared_with_it(string algorithm)
    {
        await using var it = new RegistryHarness();
        string hex = algorithm == "sha256:" ? Digest.Of(Index).Hex : Convert.ToHexStringLower(System.Security.Cryptography.SHA512.HashData(Index));
        it.Fake.AddManifestAs(RegistryHarness.Repository, algorithm + hex, Index, MediaTypes.OciIndex);

        Assert.Equal(algorithm + hex, (await it.ManifestAsync(algorithm + hex)).Digest.ToString());
        Assert.Equal($"/v2/team/app/manifests/{algorithm}{hex}", it.Fake.Requests[0].Path);
    }

    [Fact]
    public async Task Another_manifest_than_the_one_named_is_refused()
    {
        await using var it = new RegistryHarness();
        var wanted = Digest.Of("something else"u8);
        it.Fake.AddManifestAs(RegistryHarness.Repository, wanted.ToString(), Index, MediaTypes.OciIndex);

        PullException failure = await Assert.ThrowsAsync<PullException>(() => it.ManifestAsync(wanted.ToString()));

        Assert.Equal(PullError.DigestMismatch, failure.Reason);
        Assert.Contains($"expected {wanted}, got {Digest.Of(Index)}", failure.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(4 * 1024 * 1024, false)]
    [InlineData(4 * 1024 * 1024, true)]
    [InlineData(4 * 1024 * 1024 + 1, false)]
    [InlineData(4 * 1024 * 1024 + 1, true)]
    public async Task Four_mebibytes_are_the_limit(int size, bool chunked)
    {
        await using var it = new RegistryHarness();
        byte[] content = Encoding.ASCII.GetBytes("""{"schemaVersion":2,"manifests":[]}""".PadRight(size));
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", content, MediaTypes.OciIndex);
        it.Fake.Faults.On("/manifests/", new Fault { Chunked = chunked });

        if (size <= RegistryClient.MaximumManifest)
        {
            Assert.Equal(size, (await it.ManifestAsync()).Content.Length);
        }
        else
        {
            Assert.Equal(PullError.LimitPassed, (await Assert.ThrowsAsync<PullException>(() => it.ManifestAsync())).Reason);
        }
    }

    [Theory]
    [InlineData("<html>welcome to the hotel</html>")]
    [InlineData("")]
    [InlineData("{\"schemaVersion\":")]
    [InlineData("[]")]
    [InlineData("null")]
    public async Task What_is_no_manifest_is_malformed(string content)
    {
        await using var it = new RegistryHarness();
        it.Fake.Faults.On("/manifests/", new Fault { Status = 200, Body = content });

        Assert.Equal(PullError.Malformed, (await Assert.ThrowsAsync<PullException>(() => it.ManifestAsync())).Reason);
    }

    [Fact]
    public async Task A_manifest_that_is_cut_off_is_asked_for_again()
    {
        await using var it = new RegistryHarness();
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        it.Fake.Faults.On("/manifests/", new Fault { CutAfter = 5 });

        Assert.Equal(Index, (await it.ManifestAsync()).Content);
        Assert.Equal(2, it.Fake.Requests.Count);
    }

    [Fact]
    public async Task A_wrong_digest_header_alone_does_no_harm()
    {
        await using var it = new RegistryHarness();
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        it.Fake.Faults.On("/manifests/", new Fault { Headers = [("Docker-Content-Digest", Digest.Of("x"u8).ToString())] });

        Assert.Equal(Digest.Of(Index), (await it.ManifestAsync()).Digest);
    }

    [Fact]
    public async Task A_config_is_read_whole_and_verified()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(10_000);

        byte[] content = await it.Client.GetSmallBlobAsync(RegistryHarness.Repository, blob, 10_000, RegistryHarness.Token);

        Assert.True(blob.Digest.Matches(content));
    }

    [Fact]
    public async Task A_config_with_a_wrong_byte_is_refused()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(10_000);
        it.Fake.Faults.On("/blobs/", new Fault { WrongByteAt = 9_999 });

        PullException failure = await Assert.ThrowsAsync<PullException>(() => it.Client.GetSmallBlobAsync(RegistryHarness.Repository, blob, 10_000, RegistryHarness.Token));

        Assert.Equal(PullError.DigestMismatch, failure.Reason);
    }

    [Fact]
    public async Task A_config_above_the_limit_is_not_even_asked_for()
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(10_000);

        PullException failure = await Assert.ThrowsAsync<PullException>(() => it.Client.GetSmallBlobAsync(RegistryHarness.Repository, blob, 9_999, RegistryHarness.Token));

        Assert.Equal(PullError.LimitPassed, failure.Reason);
        Assert.Empty(it.Fake.Requests);
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 1)]
    public async Task Embedded_data_is_used_if_it_is_what_its_digest_names(bool right, int requests)
    {
        await using var it = new RegistryHarness();
        Descriptor blob = it.AddBlob(100);
        byte[] data = FakeContent.Generated(right ? 7 : 8, 100).ToArray();

        byte[] content = await it.Client.GetSmallBlobAsync(RegistryHarness.Repository, blob with { Data = data }, 1000, RegistryHarness.Token);

        Assert.True(blob.Digest.Matches(content));
        Assert.Equal(requests, it.Fake.Requests.Count);
    }
}
