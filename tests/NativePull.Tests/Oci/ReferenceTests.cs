using NativePull.Oci;

namespace NativePull.Tests.Oci;

public sealed class ReferenceTests
{
    private const string Sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    private static readonly string Sha512 = "sha512:" + new string('a', 128);

    /// <summary>Typed → registry, repository, tag, the whole.</summary>
    public static TheoryData<string, string, string, string?, string> Accepted => new()
    {
        // Docker Hub's short forms
        { "alpine", "docker.io", "library/alpine", "latest", "docker.io/library/alpine:latest" },
        { "alpine:3.20", "docker.io", "library/alpine", "3.20", "docker.io/library/alpine:3.20" },
        { "team/app", "docker.io", "team/app", "latest", "docker.io/team/app:latest" },
        { "docker.io/alpine", "docker.io", "library/alpine", "latest", "docker.io/library/alpine:latest" },
        { "docker.io/library/alpine", "docker.io", "library/alpine", "latest", "docker.io/library/alpine:latest" },
        { "index.docker.io/alpine", "docker.io", "library/alpine", "latest", "docker.io/library/alpine:latest" },
        { "registry-1.docker.io/team/app", "docker.io", "team/app", "latest", "docker.io/team/app:latest" },
        { "Docker.IO/alpine", "docker.io", "library/alpine", "latest", "docker.io/library/alpine:latest" },
        { "localhost", "docker.io", "library/localhost", "latest", "docker.io/library/localhost:latest" },
        { "localhost:5000", "docker.io", "library/localhost", "5000", "docker.io/library/localhost:5000" },
        // other registries get no library/
        { "ghcr.io/foo", "ghcr.io", "foo", "latest", "ghcr.io/foo:latest" },
        { "ghcr.io/team/app/deep:v1", "ghcr.io", "team/app/deep", "v1", "ghcr.io/team/app/deep:v1" },
        { "localhost/app", "localhost", "app", "latest", "localhost/app:latest" },
        { "localhost:5000/app:t", "localhost:5000", "app", "t", "localhost:5000/app:t" },
        { "host:5000/app", "host:5000", "app", "latest", "host:5000/app:latest" },
        { "GHCR.io/team/app", "ghcr.io", "team/app", "latest", "ghcr.io/team/app:latest" },
        { "LocalHost/app", "localhost", "app", "latest", "localhost/app:latest" },
        { "127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest", "127.0.0.1:5000/app:latest" },
        { "[::1]:5000/x", "[::1]:5000", "x", "latest", "[::1]:5000/x:latest" },
        { "[2001:DB8::1]/x:t", "[2001:db8::1]", "x", "t", "[2001:db8::1]/x:t" },
        { "a-b.example.com:443/x", "a-b.example.com:443", "x", "latest", "a-b.example.com:443/x:latest" },
        { "xn--bcher-kva.example/x", "xn--bcher-kva.example", "x", "latest", "xn--bcher-kva.example/x:latest" },
        // names
        { "a__b", "docker.io", "library/a__b", "latest", "docker.io/library/a__b:latest" },
        { "a---b", "docker.io", "library/a---b", "latest", "docker.io/library/a---b:latest" },
        { "a.b_c-d/e", "a.b_c-d", "e", null, "" },
        { "x/a.b_c-d", "docker.io", "x/a.b_c-d", "latest", "docker.io/x/a.b_c-d:latest" },
        { "0/1", "docker.io", "0/1", "latest", "docker.io/0/1:latest" },
        // tags
        { "a:" + new string('t', 128), "docker.io", "library/a", new string('t', 128), "docker.io/library/a:" + new string('t', 128) },
        { "a:_x-Y.z", "docker.io", "library/a", "_x-Y.z", "docker.io/library/a:_x-Y.z" },
        // digests decide; alone they bring no tag
        { "a@" + Sha256, "docker.io", "library/a", null, "docker.io/library/a@" + Sha256 },
        { "ghcr.io/a@" + Sha512, "ghcr.io", "a", null, "ghcr.io/a@" + Sha512 },
        { "ghcr.io/a:t@" + Sha256, "ghcr.io", "a", "t", "ghcr.io/a:t@" + Sha256 },
        { "h:5000/a:t@" + Sha256, "h:5000", "a", "t", "h:5000/a:t@" + Sha256 },
    };

    [Theory]
    [MemberData(nameof(Accepted))]
    public void A_reference_is_completed(string text, string registry, string repository, string? tag, string whole)
    {
        bool parsed = Reference.TryParse(text, out Reference? reference, out string? problem);
        if (whole.Length == 0)
        {
            Assert.False(parsed); // an underscore is in no host's name
            return;
        }

        Assert.True(parsed, problem);
        Assert.Equal((registry, repository, tag), (reference!.Registry, reference.Repository, reference.Tag));
        Assert.Equal(whole, reference.ToString());
        Assert.Equal(reference.Digest?.ToString() ?? tag, reference.Selector);
        Assert.Equal($"{registry}/{repository}", reference.Name);
        Assert.True(Reference.TryParse(whole, out Reference? again, out _));
        Assert.Equal(reference, again);
    }

    public static TheoryData<string, string> Refused => new()
    {
        { "", "not a repository" },
        { " ", "not a repository" },
        { "Alpine", "lower case" },
        { "ghcr.io/Team/app", "lower case" },
        { "Team/app", "lower case" },
        { "ghcr.io/", "not a repository" },
        { "/a", "not a repository" },
        { "a/", "not a repository" },
        { "a//b", "not a repository" },
        { "a/./b", "not a repository" },
        { "a/../b", "not a repository" },
        { "-a", "not a repository" },
        { "a-", "not a repository" },
        { "a..b", "not a repository" },
        { "a___b", "not a repository" },
        { "a._b", "not a repository" },
        { "a b", "not a repository" },
        { "a\n", "not a repository" },
        { "ä", "not a repository" },
        { "https://ghcr.io/a", "not a registry" },
        { "a:", "not a tag" },
        { "a:.t", "not a tag" },
        { "a:-t", "not a tag" },
        { "a:t t", "not a tag" },
        { "a:t\n", "not a tag" },
        { "a:" + new string('t', 129), "not a tag" },
        { "a@", "not a digest" },
        { "a@sha256:abc", "not a digest" },
        { "a@" + Sha256.ToUpperInvariant(), "not a digest" },
        { "a@" + Sha256 + "@" + Sha256, "not a digest" },
        { "a@" + Sha256 + ":t", "not a digest" },
        { "@" + Sha256, "not a repository" },
        { "host:0/a", "not a registry" },
        { "host:65536/a", "not a registry" },
        { "host:/a", "not a registry" },
        { "host:x/a", "not a registry" },
        { "-host.io/a", "not a registry" },
        { "host-.io/a", "not a registry" },
        { "host..io/a", "not a registry" },
        { ".io/a", "not a registry" },
        { "[::1/a", "not a registry" },
        { "[]:5000/a", "not a registry" },
        { "[:::]/a", "not a registry" },
        { "[1.2.3.4/a", "not a registry" },
        { new string('h', 64) + ".io/a", "not a registry" },
        { "u:p@ghcr.io/a", "not a digest" },
        { "h.io/" + new string('a', 256), "256" },
        { Sha256["sha256:".Length..], "image ID" },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void What_is_none_is_told_why(string text, string why)
    {
        Assert.False(Reference.TryParse(text, out _, out string? problem));
        Assert.Contains(why, problem, StringComparison.Ordinal);
    }

    [Fact]
    public void The_longest_repository_is_accepted() => Assert.True(Reference.TryParse("h.io/" + new string('a', 255), out _, out _));

    [Fact]
    public void A_name_pinned_to_a_digest_has_no_tag()
    {
        Assert.True(Reference.TryParse("alpine:3", out Reference? reference, out _));
        Assert.Equal("docker.io/library/alpine@" + Sha256, reference.NameAt(Digest.Of([])));
    }
}
