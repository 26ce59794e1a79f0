using System.Formats.Tar;
using System.Text;
using NativePull.Oci;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>One image as a layout and as archives of every kind, written by skopeo; made once, copied by each test.</summary>
public sealed class SourceFiles : IAsyncLifetime
{
    private readonly TemporaryDirectory work = new();

    public string Path => work.Path;

    public async ValueTask InitializeAsync()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b")
            .Layer(("bin/tool", "one"u8.ToArray()), ("etc/below", "below"u8.ToArray()), ("etc/big", new byte[40_000]))
            .Layer(("bin/tool", "two"u8.ToArray()), ("etc/.wh.below", []))
            .Publish();
        string script = $"""
            set -e
            $1 pull {image.Reference()} --store store --tar reference.tar -q
            for to in oci:lay:v1 oci-archive:oci.tar:v1 docker-archive:docker.tar:example.com/a:v1; do
                skopeo --insecure-policy copy -q oci:store $to
            done
            gzip -k oci.tar; zstd -q oci.tar docker.tar; cp oci.tar co:lon.tar; rm -r store
            """;
        (await Binary.ProgramAsync("bash", "-c", $"cd '{work.Path}'; {script}", "bash", Binary.File)).Expect(0);
    }

    public ValueTask DisposeAsync()
    {
        work.Dispose();
        return ValueTask.CompletedTask;
    }
}

/// <summary><c>extract</c> from layouts and archives that other programs wrote: the same files as from a registry, no store, no socket, nothing written to the source.</summary>
public sealed class SourceTests(SourceFiles files) : IClassFixture<SourceFiles>
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string, string> Sources => new()
    {
        { "an OCI layout", "oci:lay:v1" },
        { "an OCI layout by position", "oci:lay:@0" },
        { "an OCI layout with one image", "oci:lay" },
        { "an OCI archive", "oci-archive:oci.tar" },
        { "an OCI archive by its tag", "oci-archive:oci.tar:v1" },
        { "an OCI archive, gzip", "oci-archive:oci.tar.gz" },
        { "an OCI archive, zstd", "oci-archive:oci.tar.zst" },
        { "an OCI archive on stdin", "oci-archive:- < oci.tar" },
        { "an OCI archive on stdin by its tag", "oci-archive:-:v1 < oci.tar" },
        { "an OCI archive on stdin, gzip", "oci-archive:- < oci.tar.gz" },
        { "a docker archive", "docker-archive:docker.tar" },
        { "a docker archive by its reference", "docker-archive:docker.tar:example.com/a:v1" },
        { "a docker archive by its tag", "docker-archive:docker.tar:v1" },
        { "a docker archive by position", "docker-archive:docker.tar:@0" },
        { "a docker archive on stdin", "docker-archive:- < docker.tar" },
        { "a docker archive, zstd on stdin", "docker-archive:- < docker.tar.zst" },
        { "a docker archive through a pipe with a name", "docker-archive:/dev/stdin < <(cat docker.tar)" },
        { "an OCI archive that a program writes", "oci-archive:<(cat oci.tar.gz)" },
        { "a path with a colon", "oci-archive:co:lon.tar:v1" },
    };

    [Theory]
    [MemberData(nameof(Sources))]
    public async Task Every_source_gives_the_files_of_the_registry(string what, string source)
    {
        using TemporaryDirectory work = await FilesAsync();

        // a network namespace without even loopback: a socket would lead nowhere
        BinaryResult result = await RunAsync(work, $"$1 extract --rootfs r --layers l --tar x.tar --store /proc/none {source}");

        Assert.True(result.Code == 0, $"{what}: {result.Error}");
        Assert.Equal("two", await File.ReadAllTextAsync(work["r/bin/tool"], Token));
        Assert.False(File.Exists(work["r/etc/below"]));
        Assert.Equal(2, Directory.GetDirectories(work["l"]).Length);
        Assert.Equal(await File.ReadAllBytesAsync(work["reference.tar"], Token), await File.ReadAllBytesAsync(work["x.tar"], Token));
        Assert.Matches("^(oci|oci-archive|docker-archive):[a-z0-9/.:-]+@sha256:[0-9a-f]{64}\n$", result.Out);
        Assert.Equal([.. Inputs.Concat(["l", "r", "x.tar"]).Order(StringComparer.Ordinal)], work.Names);
    }

    [Theory]
    [InlineData("$1 extract oci-archive:<(cat oci.tar)")]
    [InlineData("cat oci.tar.zst | $1 extract oci-archive:/dev/stdin")]
    [InlineData("mkfifo d/pipe; cat docker.tar > d/pipe & $1 extract docker-archive:d/pipe")]
    public async Task A_pipe_that_has_a_name_is_read_like_stdin(string command)
    {
        using TemporaryDirectory work = await FilesAsync();

        (await RunAsync(work, $"mkdir d; {command} --rootfs r --tar x.tar --store /proc/none")).Expect(0);

        Assert.Equal("two", await File.ReadAllTextAsync(work["r/bin/tool"], Token));
        Assert.Equal(await File.ReadAllBytesAsync(work["reference.tar"], Token), await File.ReadAllBytesAsync(work["x.tar"], Token));
    }

    [Fact]
    public async Task Stdin_to_stdout_keeps_its_copy_in_the_store_and_leaves_none_there()
    {
        using TemporaryDirectory work = await FilesAsync();

        (await RunAsync(work, "$1 extract docker-archive:- --tar - --store s < docker.tar > x.tar")).Expect(0);

        Assert.Equal(await File.ReadAllBytesAsync(work["reference.tar"], Token), await File.ReadAllBytesAsync(work["x.tar"], Token));
        Assert.Empty(Directory.GetFileSystemEntries(work["s/parts"]));
    }

    [Fact]
    public async Task What_comes_from_stdin_and_has_no_room_is_named_with_its_place()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.ProgramAsync(
            "unshare", "--mount", "bash", "-c", "mkdir $1/d; mount -t tmpfs -o size=1m none $1/d; head -c 3000000 /dev/zero 2>/dev/null | $0 extract oci-archive:- --rootfs $1/d/r; code=$?; ls -A $1/d; exit $code", Binary.File, work.Path);

        Assert.Equal($"nativepull: the copy of oci-archive:- in {work["d"]}: No space left on device\n", result.Expect(8).Error);
        Assert.Equal("", result.Out);
    }

    [Fact]
    public async Task A_layout_that_umoci_made_is_read_in_place()
    {
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["root"]);
        await File.WriteAllTextAsync(work["root/hello"], "there", Token);
        string script = """
            umoci init --layout u && umoci new --image u:one && umoci insert --rootless --image u:one root/hello /hello && umoci new --image u:two
            find u -exec stat -c '%n %Y %s' {} + | sort > before
            $1 extract oci:u:one --rootfs r && $1 extract oci:u:two --rootfs e
            find u -exec stat -c '%n %Y %s' {} + | sort | diff before -
            """;

        BinaryResult result = await RunAsync(work, script);

        Assert.Equal("there", await File.ReadAllTextAsync(work["r/hello"], Token));
        Assert.Empty(Directory.GetFileSystemEntries(work["e"]));
        result.Expect(0);
        BinaryResult unnamed = await RunAsync(work, "$1 extract oci:u --rootfs x");
        Assert.Contains("has several images, name one with :TAG or :@N; there is: one, two", unnamed.Expect(2).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_docker_save_wrote_before_and_since_version_25_is_read(bool links)
    {
        using TemporaryDirectory work = new();
        DockerSave save = new(links);
        await File.WriteAllBytesAsync(work["d.tar"], save.Write([("first", "a/b:1", "app:latest"), ("second", "a/b:2", null)]), Token);

        foreach ((string selector, string content) in new[] { ("a/b:1", "first"), ("docker.io/a/b:2", "second"), ("app", "first"), ("2", "second"), ("@1", "second") })
        {
            foreach (string source in new[] { $"docker-archive:d.tar:{selector}", $"docker-archive:-:{selector} < d.tar" })
            {
                (await RunAsync(work, $"rm -rf r; $1 extract --rootfs r {source}")).Expect(0);
                Assert.Equal(content, await File.ReadAllTextAsync(work["r/name"], Token));
                Assert.Equal("shared", await File.ReadAllTextAsync(work["r/base"], Token));
            }
        }

        BinaryResult unclear = await RunAsync(work, "$1 extract docker-archive:d.tar --rootfs x");
        Assert.Contains("there is: a/b:1, app:latest, a/b:2", unclear.Expect(2).Error, StringComparison.Ordinal);
        BinaryResult piped = await RunAsync(work, "gzip -c d.tar | $1 extract docker-archive:- --rootfs x; code=$?; ls -A; exit $code");
        Assert.Contains("there is: a/b:1, app:latest, a/b:2", piped.Expect(2).Error, StringComparison.Ordinal);
        Assert.Equal("d.tar\nr\n", piped.Out);
        BinaryResult absent = await RunAsync(work, "$1 extract docker-archive:d.tar:a/b:3 --rootfs x");
        Assert.Contains("there is: a/b:1, app:latest, a/b:2", absent.Expect(3).Error, StringComparison.Ordinal);
    }

    /// <summary>As Go writes lists that are empty, in an archive's manifest.json and in its config.</summary>
    [Theory]
    [InlineData("[]", ",\"diff_ids\":[]")]
    [InlineData("null", ",\"diff_ids\":null")]
    [InlineData("null", "")]
    public async Task What_docker_saved_of_an_image_without_layers_is_an_empty_root(string layers, string diffIds)
    {
        using TemporaryDirectory work = new();
        await File.WriteAllTextAsync(work["c.json"], $$$"""{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"{{{diffIds}}}}}""", Token);
        await File.WriteAllTextAsync(work["manifest.json"], $$"""[{"Config":"c.json","RepoTags":null,"Layers":{{layers}}}]""", Token);

        (await RunAsync(work, "tar -cf d.tar c.json manifest.json && $1 extract docker-archive:d.tar --platform linux/amd64 --rootfs r")).Expect(0);

        Assert.Empty(Directory.GetFileSystemEntries(work["r"]));
    }

    /// <summary>What is done to the files before, what is asked, the exit code, what the sentence says.</summary>
    public static TheoryData<string, string, int, string> Bad => new()
    {
        { "true", "oci:absent", 3, "no directory absent" },
        { "true", "oci-archive:absent.tar", 3, "no file absent.tar" },
        { "mkdir d", "docker-archive:d", 3, "d is a directory" },
        { "mkdir d", "oci:d", 6, "no OCI image layout" },
        { "rm lay/index.json", "oci:lay", 6, "no index.json" },
        { "echo '{}' > lay/index.json", "oci:lay", 6, "manifests is missing" },
        { "echo 'nonsense' > lay/oci-layout", "oci:lay", 6, "malformed JSON" },
        { "echo '{\"imageLayoutVersion\":\"2.0.0\"}' > lay/oci-layout", "oci:lay", 7, "version 2.0.0" },
        { "mkdir d; tar -xf docker.tar -C d; cp -r --sparse=always d e; tar -cSf sparse.tar -C e .", "docker-archive:sparse.tar", 7, "as a sparse file" },
        { "true", "oci:lay:v2", 3, "has no image \"v2\"; there is: v1" },
        { "true", "oci:lay:@7", 3, "only 1 images" },
        { "python3 -c \"import json; d = json.load(open('lay/index.json')); m = d['manifests'][0]; d['manifests'] = [dict(m, annotations={'org.opencontainers.image.ref.name': 't%d' % i}) for i in range(1000)]; json.dump(d, open('lay/index.json', 'w'))\"", "oci:lay", 2, "t18, t19 and 980 more\n" },
        { "true", "oci:lay:@x", 2, "not @ and a number" },
        { "true", "oci:", 2, "names no file" },
        { "true", "oci:-", 2, "oci-archive:-" },
        { "largest=$(ls -S lay/blobs/sha256/* | head -1); printf X | dd of=$largest bs=1 seek=30 conv=notrunc status=none", "oci:lay", 6, "" },
        { "for f in lay/blobs/sha256/*; do echo >> $f; done", "oci:lay", 6, "bytes, got" },
        { "rm -r lay/blobs; mkdir -p lay/blobs/sha256", "oci:lay", 6, "is missing" },
        { "head -c 9000 oci.tar > cut.tar", "oci-archive:cut.tar", 6, "" },
        { "head -c 700 oci.tar.gz > cut.tar.gz", "oci-archive:cut.tar.gz", 6, "" },
        { "head -c 700 docker.tar.zst > cut.tar.zst", "docker-archive:cut.tar.zst", 6, "" },
        { "true", "docker-archive:oci.tar", 6, "oci-archive:" },
        { "true", "oci-archive:docker.tar", 6, "no OCI image layout" },
        { ": > empty", "docker-archive:empty", 6, "no manifest.json" },
        { "head -c 5000 /dev/zero | tr '\\0' x > text", "docker-archive:text", 6, "" },
        { "xz -k oci.tar", "oci-archive:oci.tar.xz", 7, "xz" },
        { "mkdir t; tar -xf docker.tar -C t; rm t/[0-9a-f]*.tar; tar -cf no.tar -C t .", "docker-archive:no.tar", 6, "is missing" },
        { "mkdir t; tar -xf docker.tar -C t; for f in t/*.json; do [ $f = t/manifest.json ] || echo >> $f; done; tar -cf no.tar -C t .", "docker-archive:no.tar", 6, "config: expected" },
        { "mkdir t; echo '{}' > t/repositories; tar -cf no.tar -C t .", "docker-archive:no.tar", 7, "before 1.10" },
        { "mkdir t; echo '{}' > t/manifest.json; tar -cf no.tar -C t .", "docker-archive:no.tar", 6, "malformed JSON" },
        { "mkdir t; echo '[{\"Layers\":[]}]' > t/manifest.json; tar -cf no.tar -C t .", "docker-archive:no.tar", 6, "Config is missing" },
        { "mkdir t; ln -s a t/b; ln -s b t/a; echo '[{\"Config\":\"a\",\"Layers\":[]}]' > t/manifest.json; tar -cf no.tar -C t .", "docker-archive:no.tar", 6, "config a is missing" },
    };

    [Theory]
    [MemberData(nameof(Bad))]
    public async Task A_bad_source_is_refused_with_its_reason_and_leaves_nothing(string change, string source, int code, string says)
    {
        using TemporaryDirectory work = await FilesAsync();
        (await RunAsync(work, change)).Expect(0);
        string[] before = work.Names;

        BinaryResult result = await RunAsync(work, $"$1 extract {source} --rootfs r --layers l --tar x.tar");

        result.Expect(code);
        Assert.Contains(says, result.Error, StringComparison.Ordinal);
        Assert.EndsWith("\n", result.Error, StringComparison.Ordinal);
        Assert.Equal(before, work.Names);
    }

    [Fact]
    public async Task A_source_inside_the_tree_that_would_be_replaced_is_refused()
    {
        using TemporaryDirectory work = await FilesAsync();

        BinaryResult result = await RunAsync(work, "mkdir d; mv lay d; $1 extract oci:d/lay --rootfs d --replace");

        Assert.Contains("lie in each other", result.Expect(2).Error, StringComparison.Ordinal);
        Assert.True(File.Exists(work["d/lay/index.json"]));
    }

    [Theory]
    [InlineData("index.json")]
    [InlineData("blobs/sha256/*")]
    public async Task A_fifo_in_a_layout_is_no_file_and_is_not_waited_for(string names)
    {
        using TemporaryDirectory work = await FilesAsync();

        // timeout: only so that what waits comes to an end
        BinaryResult result = await RunAsync(work, $"for each in lay/{names}; do rm $each; mkfifo $each; done; timeout 20 $1 extract oci:lay --rootfs r");

        Assert.DoesNotContain("terminated", result.Expect(6).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("lay", "oci:lay")]
    [InlineData("lay/blobs", "oci:lay")]
    [InlineData("p", "oci:p/lay")]
    [InlineData("p", "oci-archive:p/oci.tar")]
    public async Task What_may_not_be_looked_at_says_nothing_about_the_image(string closed, string source)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "another user needs root");
        using TemporaryDirectory work = await FilesAsync();

        BinaryResult result = await RunAsync(
            work, $"chmod 0755 . lay; mkdir p; cp -r lay oci.tar p; chmod 0 {closed}; mkdir -m 0777 d; setpriv --reuid 65534 --regid 65534 --clear-groups $1 extract {source} --rootfs d/r");

        Assert.Contains("denied", result.Expect(8).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_platform_is_picked_from_a_nested_index()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish(withIndex: true);
        using TemporaryDirectory work = new();
        // a store is a layout; its index.json names the platform's manifest
        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"])).Expect(0);

        (await RunAsync(work, $"$1 extract oci:s:{image.Reference()} --rootfs r")).Expect(0);
        BinaryResult other = await RunAsync(work, "$1 extract oci:s --rootfs x --platform linux/s390x");

        Assert.True(File.Exists(work["r/f"]));
        Assert.Contains("not for linux/s390x", other.Expect(3).Error, StringComparison.Ordinal);
    }

    private static readonly string[] Inputs =
        ["co:lon.tar", "docker.tar", "docker.tar.zst", "lay", "oci.tar", "oci.tar.gz", "oci.tar.zst", "reference.tar"];

    private async Task<TemporaryDirectory> FilesAsync()
    {
        TemporaryDirectory work = new();
        (await Binary.ProgramAsync("cp", "-a", files.Path + "/.", work.Path)).Expect(0);
        return work;
    }

    private static Task<BinaryResult> RunAsync(TemporaryDirectory work, string script) => Environment.IsPrivilegedProcess
        ? Binary.ProgramAsync("unshare", "--net", "bash", "-c", $"cd '{work.Path}'; {script}", "bash", Binary.File)
        : Binary.ProgramAsync("bash", "-c", $"cd '{work.Path}'; {script}", "bash", Binary.File);

    /// <summary>Archives as <c>docker save</c> writes them.</summary>
    /// <param name="links">As before version 25: a directory a layer, and links where layers are equal; else files named by digest beside an OCI layout.</param>
    private sealed class DockerSave(bool links)
    {
        internal byte[] Write((string Content, string Tag, string? OtherTag)[] images)
        {
            using MemoryStream output = new();
            using (TarWriter tar = new(output, TarEntryFormat.Ustar, leaveOpen: true))
            {
                byte[] below = Layer("base", "shared");
                List<string> manifests = [];
                foreach ((string content, string tag, string? otherTag) in images)
                {
                    byte[] own = Layer("name", content);
                    byte[] config = Encoding.UTF8.GetBytes(
                        $$$"""{"architecture":"{{{Platform.OfThisMachine.Architecture}}}","os":"linux","rootfs":{"type":"layers","diff_ids":["{{{Digest.Of(below)}}}","{{{Digest.Of(own)}}}"]}}""");
                    string configPath = links ? $"{Digest.Of(config).Hex}.json" : $"blobs/sha256/{Digest.Of(config).Hex}";
                    Put(tar, configPath, config);
                    string belowPath = PutLayer(tar, $"{content}0", below, isFirst: manifests.Count == 0);
                    string ownPath = PutLayer(tar, $"{content}1", own, isFirst: true);
                    string tags = string.Join(',', new[] { tag, otherTag }.OfType<string>().Select(each => $"\"{each}\""));
                    manifests.Add($$$"""{"Config":"{{{configPath}}}","RepoTags":[{{{tags}}}],"Layers":["{{{belowPath}}}","{{{ownPath}}}"],"LayerSources":{}}""");
                }

                Put(tar, "repositories", "{}"u8.ToArray());
                // written twice, as docker does with some files: the last counts
                Put(tar, "manifest.json", "[]"u8.ToArray());
                Put(tar, "manifest.json", Encoding.UTF8.GetBytes($"[{string.Join(',', manifests)}]"));
            }

            return output.ToArray();
        }

        private string PutLayer(TarWriter tar, string id, byte[] layer, bool isFirst)
        {
            if (!links)
            {
                Put(tar, $"blobs/sha256/{Digest.Of(layer).Hex}", layer);
                return $"blobs/sha256/{Digest.Of(layer).Hex}";
            }

            if (isFirst)
            {
                Put(tar, $"{id}/layer.tar", layer);
            }
            else
            {
                tar.WriteEntry(new UstarTarEntry(TarEntryType.SymbolicLink, $"{id}/layer.tar") { LinkName = "../first0/layer.tar" });
            }

            Put(tar, $"{id}/VERSION", "1.0"u8.ToArray());
            return $"{id}/layer.tar";
        }

        private static byte[] Layer(string name, string content) => new TarBuilder().File(name, content).End().ToArray();

        private static void Put(TarWriter tar, string name, byte[] content) =>
            tar.WriteEntry(new UstarTarEntry(TarEntryType.RegularFile, name) { DataStream = new MemoryStream(content) });
    }
}
