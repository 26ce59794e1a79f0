using System.Diagnostics;
using System.Globalization;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// Bytes in and out by the standard streams, at the pace of whoever is at the other end, also where that one left the pipe non-blocking: O_NONBLOCK
/// belongs to the open file, and event loops set it on what they hand on.
/// </summary>
public sealed class StandardStreamTests
{
    // Runs a command with one standard stream as wanted; what goes in is given, what comes out is taken, little by little, after a pause.
    private const string Slow = """
        import os, socket, subprocess, sys, time
        stream, kind, data, *command = sys.argv[1:]
        if kind == 'socket':
            theirs, ours = [end.detach() for end in socket.socketpair()]
        else:
            theirs, ours = os.pipe() if stream == 'stdin' else reversed(os.pipe())
        os.set_blocking(theirs, kind == 'blocking')
        run = subprocess.Popen(command, **{stream: theirs})
        os.close(theirs)
        time.sleep(0.3)
        if stream == 'stdin':
            rest = open(data, 'rb').read()
            while rest:
                rest = rest[os.write(ours, rest[:40000]):]
                time.sleep(0.001)
            os.close(ours)
        else:
            with open(data, 'wb') as file:
                while part := os.read(ours, 40000):
                    file.write(part)
                    time.sleep(0.001)
        sys.exit(run.wait())
        """;

    [Theory]
    [InlineData("blocking")]
    [InlineData("non-blocking")]
    [InlineData("socket")]
    public async Task A_slow_reader_gets_the_whole_archive(string kind)
    {
        using TemporaryDirectory work = await LayoutAsync();
        (await Binary.RunAsync("extract", $"oci:{work["s"]}", "-q", "--tar", work["expected"])).Expect(0);

        (await RunAsync("stdout", kind, work["got"], "extract", $"oci:{work["s"]}", "-q", "--tar", "-")).Expect(0);

        Assert.Equal(await File.ReadAllBytesAsync(work["expected"], Token), await File.ReadAllBytesAsync(work["got"], Token));
    }

    [Fact]
    public async Task An_archive_for_a_stdout_that_is_closed_is_exit_8_and_not_lost_in_silence()
    {
        using TemporaryDirectory work = await LayoutAsync();

        BinaryResult result = await Binary.ProgramAsync("sh", "-c", "exec $0 extract oci:$1 -q --tar - >&-", Binary.File, work["s"]);

        Assert.Contains("write stdout", result.Expect(8).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("blocking")]
    [InlineData("non-blocking")]
    [InlineData("socket")]
    public async Task A_slow_writer_gives_the_whole_image(string kind)
    {
        using TemporaryDirectory work = await LayoutAsync();
        (await Binary.RunAsync("extract", $"oci:{work["s"]}", "-q", "--tar", work["expected"])).Expect(0);
        (await Binary.ProgramAsync("tar", "-C", work["s"], "-cf", work["image.tar"], "oci-layout", "index.json", "blobs")).Expect(0);

        (await RunAsync("stdin", kind, work["image.tar"], "extract", "oci-archive:-", "-q", "--tar", work["got"])).Expect(0);

        Assert.Equal(await File.ReadAllBytesAsync(work["expected"], Token), await File.ReadAllBytesAsync(work["got"], Token));
        Assert.Equal(["expected", "got", "image.tar", "s"], work.Names);
    }

    [Theory]
    [InlineData("cat")]
    [InlineData("gzip -1")]
    public async Task What_is_no_archive_is_not_read_to_its_end(string packer)
    {
        using TemporaryDirectory work = new();
        string script = $"cd $1; head -c 300M /dev/zero | tr '\\0' y | {packer} | $2 extract oci-archive:- --rootfs r; echo ${{PIPESTATUS[*]}}; ls -A";

        BinaryResult result = await Binary.ProgramAsync("bash", "-c", script, "bash", work.Path, Binary.File);

        // whoever writes is told that nobody reads on, by SIGPIPE or EPIPE, and fails in its own way
        Assert.Matches("^[1-9][0-9]* [1-9][0-9]* [1-9][0-9]* 6\n$", result.Expect(0).Out);
        Assert.Contains("checksum of the header at the beginning", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_reader_that_reads_no_further_keeps_no_signal_from_taking_the_staging_away()
    {
        using TemporaryDirectory work = await LayoutAsync();
        using Process process = Binary.Start(null, Binary.File, ["extract", $"oci:{work["s"]}", "-q", "--tar", "-", "--rootfs", work["r"]]);
        Assert.NotEqual(-1, process.StandardOutput.BaseStream.ReadByte());
        Assert.Equal([".r.nativepull", "s"], work.Names);

        (await Binary.ProgramAsync("kill", "-TERM", process.Id.ToString(CultureInfo.InvariantCulture))).Expect(0);
        await process.WaitForExitAsync(Token);

        Assert.Equal(143, process.ExitCode);
        Assert.Equal(["s"], work.Names);
    }

    [Fact]
    public async Task A_pipe_that_nobody_opens_does_not_either()
    {
        using TemporaryDirectory work = await LayoutAsync();
        (await Binary.ProgramAsync("mkfifo", work["pipe"])).Expect(0);
        using Process process = Binary.Start(null, Binary.File, ["extract", $"oci:{work["s"]}", "--tar", work["pipe"], "--rootfs", work["r"]]);
        // told when the tree is made; then the archive is all that is left to do
        string? line = await process.StandardError.ReadLineAsync(Token);
        Assert.Contains("extracted (rootfs)", line, StringComparison.Ordinal);
        Assert.Equal([".r.nativepull", "pipe", "s"], work.Names);

        (await Binary.ProgramAsync("kill", "-TERM", process.Id.ToString(CultureInfo.InvariantCulture))).Expect(0);
        await process.WaitForExitAsync(Token);

        Assert.Equal(143, process.ExitCode);
        Assert.Equal(["pipe", "s"], work.Names);
    }

    [Theory]
    [InlineData("blocking")]
    [InlineData("non-blocking")]
    public async Task A_password_may_come_late(string kind)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { User = "ann", Password = "late" } }.Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        await File.WriteAllTextAsync(work["password"], "late\n", Token);

        (await RunAsync("stdin", kind, work["password"], "pull", image.Reference(), "--store", work["s"], "--username", "ann", "--password-stdin")).Expect(0);
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static async Task<TemporaryDirectory> LayoutAsync()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 3_000_000).Publish();
        TemporaryDirectory work = new();
        (await Binary.RunAsync("pull", image.Reference(), "-q", "--store", work["s"])).Expect(0);
        return work;
    }

    private static Task<BinaryResult> RunAsync(string stream, string kind, string data, params string[] arguments) =>
        Binary.ProgramAsync("python3", ["-c", Slow, stream, kind, data, Binary.File, .. arguments]);
}
