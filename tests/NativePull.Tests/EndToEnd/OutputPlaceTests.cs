using System.Globalization;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>What lies at and beside the place of an output: what an output may have for a name, and what is kept of what was there.</summary>
public sealed class OutputPlaceTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>What is meant to be kept, and the call: $1 the executable, $2 a reference that is in the store "s".</summary>
    public static TheoryData<string, string> Kept => new()
    {
        { "mkdir .r.nativepull; cp s/index.json .r.nativepull/kept", "$1 extract $2 --store s --rootfs r --layers .r.nativepull --replace" },
        { "mkdir .r.nativepull; cp s/index.json .r.nativepull/kept", "$1 extract $2 --store s --rootfs r --layers .r.nativepull/l" },
        { "mkdir .r.nativepull; cp s/index.json .r.nativepull/kept", "$1 extract $2 --store s --rootfs .r.nativepull --replace" },
        { "cp s/index.json .r.nativepull", "$1 extract $2 --store s --tar .r.nativepull" },
        { "cp s/index.json .r.nativepull-input", "$1 extract $2 --store s --tar .r.nativepull-input" },
        { "cp -r s .r.nativepull", "$1 extract $2 --store .r.nativepull --rootfs r" },
        { "cp -r s .r.nativepull", "$1 extract oci:.r.nativepull --layers r" },
        { "cp -r s .r.nativepull; ln -s .r.nativepull link", "$1 extract oci:link --rootfs r" },
        { "tar -C s -cf .r.nativepull .", "$1 extract oci-archive:.r.nativepull --tar r" },
        { "tar -C s -czf .r.nativepull-input .", "$1 extract oci-archive:.r.nativepull-input --rootfs r" },
    };

    [Theory]
    [MemberData(nameof(Kept))]
    public async Task What_lies_where_an_output_would_be_made_is_not_removed_for_it(string made, string call)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"])).Expect(0);
        (await RunAsync(work, image, made)).Expect(0);
        string before = (await RunAsync(work, image, "find .r.nativepull* -type f -exec sha256sum {} + | sort")).Expect(0).Out;
        string[] names = work.Names;

        BinaryResult result = await RunAsync(work, image, call);

        Assert.Contains(".r.nativepull", result.Expect(2).Error, StringComparison.Ordinal);
        Assert.Equal(before, (await RunAsync(work, image, "find .r.nativepull* -type f -exec sha256sum {} + | sort")).Expect(0).Out);
        Assert.Equal(names, work.Names);
    }

    [Theory]
    [InlineData("--rootfs")]
    [InlineData("--layers")]
    [InlineData("--tar")]
    public async Task A_name_that_leaves_no_room_for_what_is_made_beside_it_is_refused_before_anything_is_fetched(string output)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();

        BinaryResult tooLong = await Binary.RunAsync("pull", image.Reference(), "--store", work["s"], output, work[new string('n', 238)]);
        Assert.Contains("a name of 238 bytes, more than 237", tooLong.Expect(8).Error, StringComparison.Ordinal);
        Assert.Empty(work.Names);

        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"], output, work[new string('n', 237)])).Expect(0);
        BinaryResult piped = await RunAsync(work, image, $"tar -C s -c . | $1 extract oci-archive:- {output} {new string('m', 237)}");
        piped.Expect(0);
        Assert.Equal(3, work.Names.Length);
    }

    [Theory]
    [InlineData("new/")]
    [InlineData("file/")]
    public async Task An_archive_is_not_written_to_what_is_said_to_be_a_directory(string name)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        await File.WriteAllTextAsync(work["file"], "as it was", Token);

        BinaryResult result = await RunAsync(work, image, $"$1 pull $2 --store s --tar {name}");

        Assert.Contains($"{name} is a directory, not a file", result.Expect(8).Error, StringComparison.Ordinal);
        Assert.Equal(["file"], work.Names);
        Assert.Equal("as it was", await File.ReadAllTextAsync(work["file"], Token));
    }

    [Fact]
    public async Task A_directory_that_may_be_written_to_and_not_read_takes_every_output()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming another user needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        string script = """
            chmod 755 .; mkdir s; mkdir -m 333 d; chown 65534 s d
            as() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
            as $1 pull $2 --store s --rootfs d/r --layers d/l --tar d/x
            as $1 extract $2 --store s --rootfs d/r --replace --ownership squash
            tar -C s -c . | as $1 extract oci-archive:- --tar d/y
            ls -A d
            """;

        BinaryResult result = await RunAsync(work, image, "set -e; " + script);

        result.Expect(0);
        Assert.EndsWith("l\nr\nx\ny\n", result.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_fails_in_such_a_directory_leaves_nothing_there()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming another user needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer("no archive"u8.ToArray(), NativePull.Oci.Digest.Of("no archive"u8)).Publish();
        using TemporaryDirectory work = new();
        string script = """
            chmod 755 .; mkdir s; mkdir -m 333 d; chown 65534 s d
            setpriv --reuid 65534 --regid 65534 --clear-groups $1 pull $2 --store s --rootfs d/r --layers d/l --tar d/x; code=$?; ls -A d; exit $code
            """;

        BinaryResult result = await RunAsync(work, image, script);

        Assert.Equal("", result.Expect(6).Out);
    }

    [Fact]
    public async Task An_empty_subvolume_of_btrfs_is_replaced_like_any_empty_directory()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        Assert.SkipUnless((await File.ReadAllTextAsync("/proc/filesystems", Token)).Contains("btrfs", StringComparison.Ordinal), "this kernel has no btrfs");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        string script = """
            set -e; cd "$1"; truncate -s 200M i; mkfs.btrfs -q i; mkdir m; mount -o loop i m
            btrfs -q subvolume create m/r; btrfs -q subvolume create m/l
            "$2" pull "$3" --store s -q --rootfs m/r --layers m/l --replace
            ls -A m m/r
            """;

        BinaryResult result = await Binary.ProgramAsync("unshare", "--mount", "bash", "-c", script, "bash", work.Path, Binary.File, image.Reference());

        Assert.EndsWith("\nm:\nl\nr\n\nm/r:\nf\n", result.Expect(0).Out, StringComparison.Ordinal);
    }

    /// <summary>The mode and group of the file that is replaced, and the mode of the new one.</summary>
    [Theory]
    [InlineData("600", 0, "600")]
    [InlineData("640", 0, "640")]
    [InlineData("666", 0, "644")]
    [InlineData("400", 0, "600")]
    [InlineData("640", 5, "600")]
    [InlineData("644", 5, "644")]
    public async Task An_archive_is_open_to_nobody_whom_the_one_before_it_was_closed_to(string mode, int group, string becomes)
    {
        Assert.SkipUnless(group == 0 || Environment.IsPrivilegedProcess, "another group needs root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        string script = string.Create(
            CultureInfo.InvariantCulture, $"umask 022; echo before > x; [ {group} = 0 ] || chgrp {group} x; chmod {mode} x; $1 pull $2 --store s --tar x -q && stat -c %a x");

        Assert.EndsWith($"\n{becomes}\n", (await RunAsync(work, image, script)).Expect(0).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_name_that_another_process_holds_on_to_is_not_waited_for_without_end()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", work["s"])).Expect(0);

        // timeout: only so that what waits comes to an end
        BinaryResult result = await RunAsync(work, image, "tar -C s -c . | flock .r.nativepull-input timeout -s KILL 120 $1 extract oci-archive:- --rootfs r");

        Assert.Contains(".r.nativepull-input is held by another process", result.Expect(8).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(256)]
    [InlineData(64)]
    public async Task However_few_open_files_there_may_be_three_hundred_layers_become_directories(int files)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        for (int i = 0; i < 300; i++)
        {
            // a directory that no layer lists is looked for in all of those below
            image.Layer(($"d{i % 7}/f{i}", [(byte)i]));
        }

        image.Publish();
        using TemporaryDirectory work = new();

        BinaryResult result = await RunAsync(work, image, $"ulimit -n {files}; $1 pull $2 --store s --extract -q && $1 extract $2 --store s --layers l -q");

        result.Expect(0);
        Assert.Equal(300, Directory.GetDirectories(work["l"]).Length);
        Assert.Equal(300, Directory.GetFiles(work["l"], "*", SearchOption.AllDirectories).Length);
        Assert.Equal(300, Directory.GetDirectories(work["s/layers/sha256"]).Length);
    }

    private static Task<BinaryResult> RunAsync(TemporaryDirectory work, FakeImage image, string script) =>
        Binary.ProgramAsync("bash", "-c", $"cd '{work.Path}'; {script}", "bash", Binary.File, image.Reference());
}
