using System.Text;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>JSON that is none, wherever it comes from: one line that names the document and the byte, in our own words, once, and nothing secret.</summary>
public sealed class MalformedTests
{
    /// <summary>Whose document it is, what it says instead, the exit code, and the line, {a} being the registry.</summary>
    public static TheoryData<string, string, int, string> Documents => new()
    {
        { "manifest", "{\"layers\":[}", 6, "{a}/a/b:latest: manifest: malformed JSON: unexpected '}' (byte 11)" },
        { "manifest", "{\"config\":{\"size\":\"7\"},\"layers\":[]}", 6, "{a}/a/b@{digest}: manifest: malformed JSON: unexpected text at config.size (byte 18)" },
        { "manifest", "<html>", 6, "{a}/a/b:latest: manifest: malformed JSON: unexpected '<' (byte 0)" },
        { "manifest", "", 6, "{a}/a/b:latest: manifest: malformed JSON: it is empty" },
        {
            "manifest",
            $$"""{"config":{"digest":"sha256:{{new string('0', 64)}}","size":7},"layers":[{"digest":"sha256:{{new string('1', 64)}}","size":9223372036854775807},{"digest":"sha256:{{new string('2', 64)}}","size":1}]}""",
            6,
            "{a}/a/b@{digest}: manifest: its layers have more bytes together than a number can say"
        },
        { "index", "{\"manifests\":{}}", 6, "{a}/a/b:latest: {digest}: index: malformed JSON: unexpected object at manifests (byte 13)" },
        { "config", "{\"rootfs\":\n{\"diff_ids\":[7]}}", 6, "{a}/a/b@{digest}: config: malformed JSON: unexpected number at rootfs.diff_ids[0] (byte 24)" },
        { "config", "{", 6, "{a}/a/b@{digest}: config: malformed JSON: it ends too early, after 1 bytes" },
        { "token", "{\"token\":\"s3cret\",}", 5, "{a}/a/b:latest: token for repository:a/b:pull: {token}/token answered without a usable token: malformed JSON: unexpected '}' (byte 18)" },
        { "token", "{\"token\":7}", 5, "{a}/a/b:latest: token for repository:a/b:pull: {token}/token answered without a usable token: malformed JSON: unexpected number at token (byte 9)" },
        { "token", "<html>sign in to the hotel</html>", 5, "{a}/a/b:latest: token for repository:a/b:pull: {token}/token answered without a usable token: malformed JSON: unexpected '<' (byte 0)" },
        { "token", "{}", 5, "{a}/a/b:latest: token for repository:a/b:pull: {token}/token answered without a usable token" },
        { "auth file", "{\"auths\":{\"a\":{\"auth\":\"s3cret\"}", 8, "{file}: malformed auth file: it ends too early, after 31 bytes" },
        { "auth file", "{\"auths\":{\n \"{a}\":{\"auth\":[\"s3cret\"]}}}", 8, "{file}: malformed auth file: unexpected list at auths" },
        { "auth file", "{\"auths\":{\"{a}\":{\"auth\":\"s3cret!\"}}}", 8, "{file}: malformed auth file: the auth of \"{a}\" is not base64" },
        { "tags", "{\"tags\":[\"a\",1]}", 6, "{a}/a/b: tag list: malformed JSON: unexpected number at tags[1] (byte 13)" },
        { "tags", "[]", 6, "{a}/a/b: tag list: malformed JSON: unexpected list (byte 0)" },
    };

    [Theory]
    [MemberData(nameof(Documents))]
    public async Task The_line_says_which_document_and_where(string kind, string content, int code, string line)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = kind is "token" or "auth file" ? new FakeAuth { TokenAnswer = content } : null }.Start();
        using TemporaryDirectory scratch = new();
        byte[] bytes = Encoding.UTF8.GetBytes(content.Replace("{a}", registry.Address, StringComparison.Ordinal));
        Digest digest = Digest.Of(bytes);
        string[] options = [];
        switch (kind)
        {
            case "manifest": registry.AddManifest("a/b", "latest", bytes, MediaTypes.OciManifest); break;
            case "index": registry.AddManifest("a/b", "latest", bytes, MediaTypes.OciIndex); break;
            case "config":
                Descriptor config = registry.AddBlob("a/b", bytes, MediaTypes.OciConfig);
                registry.AddManifest("a/b", "latest", Encoding.UTF8.GetBytes($$$"""{"config":{"mediaType":"{{{MediaTypes.OciConfig}}}","digest":"{{{config.Digest}}}","size":{{{config.Size}}}},"layers":[]}"""), MediaTypes.OciManifest);
                break;
            case "auth file":
                await File.WriteAllBytesAsync(scratch["auth.json"], bytes, TestContext.Current.CancellationToken);
                options = ["--authfile", scratch["auth.json"]];
                break;
            case "tags": registry.Faults.On("/tags/list", new Fault { Status = 200, Body = content }); break;
        }

        BinaryResult result = await Binary.RunAsync([kind == "tags" ? "tags" : "pull", $"{registry.Address}/a/b", .. kind == "tags" ? [] : new[] { "--store", scratch["s"], "--progress", "none" }, .. options]);

        string expected = line
            .Replace("{a}", registry.Address, StringComparison.Ordinal)
            .Replace("{digest}", digest.ToString(), StringComparison.Ordinal)
            .Replace("{token}", registry.TokenUrl, StringComparison.Ordinal)
            .Replace("{file}", scratch["auth.json"], StringComparison.Ordinal);
        Assert.StartsWith($"nativepull: {expected}", result.Expect(code).Error, StringComparison.Ordinal);
        AssertClean(result);
    }

    /// <summary>A command of a shell that makes what is extracted, the source, and the line.</summary>
    public static TheoryData<string, string, string> Sources => new()
    {
        { "mkdir s; printf '{\"imageLayoutVersion\":1' >s/oci-layout", "oci:s", "oci:s: oci-layout: malformed JSON: it ends too early, after 23 bytes" },
        { "mkdir s; echo '{\"imageLayoutVersion\":\"1.0.0\"}' >s/oci-layout; echo '{\"manifests\":7}' >s/index.json", "oci:s", "oci:s: index.json: index: malformed JSON: unexpected number at manifests (byte 13)" },
        { "mkdir s; echo '[{\"Config\":7}]' >s/manifest.json; tar -cf s.tar -C s .", "docker-archive:s.tar", "docker-archive:s.tar: manifest.json: malformed JSON: unexpected number at [0].Config (byte 11)" },
        { "mkdir s; echo 'null' >s/manifest.json; tar -cf s.tar -C s .", "docker-archive:s.tar", "docker-archive:s.tar: manifest.json: it is null" },
        { "mkdir s; echo '[{\"Config\":\"c\",\"Layers\":[]}]' >s/manifest.json; echo '{\"rootfs\":' >s/c; tar -cf s.tar -C s .", "docker-archive:s.tar", "docker-archive:s.tar: c: config: malformed JSON: it ends too early, after 11 bytes" },
    };

    [Theory]
    [MemberData(nameof(Sources))]
    public async Task Of_layouts_and_archives_too(string make, string source, string line)
    {
        using TemporaryDirectory scratch = new();
        (await Binary.ProgramAsync("sh", "-c", $"cd {scratch.Path}; {make}")).Expect(0);

        BinaryResult result = await Binary.ProgramAsync("env", "-C", scratch.Path, Binary.File, "extract", source, "--rootfs", "r");

        Assert.Equal($"nativepull: {line}\n", result.Expect(6).Error);
        AssertClean(result);
    }

    [Fact]
    public async Task Of_the_store_s_own_index_and_of_what_login_would_change()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory scratch = new();
        (await Binary.RunAsync("pull", $"{registry.Address}/a/b", "--store", scratch["s"])).Expect(0);
        await File.WriteAllTextAsync(scratch["s/index.json"], "{\"manifests\":[\n,]}", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(scratch["auth.json"], "{\"auths\":{}} s3cret", TestContext.Current.CancellationToken);

        BinaryResult damaged = await Binary.RunAsync("pull", $"{registry.Address}/a/b", "--store", scratch["s"], "--policy", "always", "--progress", "none");
        BinaryResult logout = await Binary.RunAsync("logout", registry.Address, "--authfile", scratch["auth.json"]);

        Assert.Equal($"nativepull: {scratch["s/index.json"]} is not an OCI index: malformed JSON: unexpected ',' (byte 15, line 2)\n", damaged.Expect(8).Error);
        Assert.Equal($"nativepull: {scratch["auth.json"]}: malformed auth file: unexpected 's' (byte 13)\n", logout.Expect(8).Error);
    }

    private static void AssertClean(BinaryResult result)
    {
        Assert.Single(result.Error.TrimEnd('\n').Split('\n'));
        Assert.DoesNotContain("s3cret", result.Error, StringComparison.Ordinal);
        foreach (string word in new[] { "NativePull.", "System.", "Path:", "LineNumber", "Document", "JsonException" })
        {
            Assert.DoesNotContain(word, result.Error, StringComparison.Ordinal);
        }
    }
}
