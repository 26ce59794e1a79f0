using System.Globalization;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The executable where a sandbox answers for the kernel: system calls that an old kernel lacks, or that a seccomp filter of a container runtime
/// refuses, are done without.
/// </summary>
public sealed class FilteredCallsTests
{
    // seccomp(2), seccomp_data: the system call's number at 0, the architecture at 4. BPF_RET with SECCOMP_RET_ERRNO for the calls named, else ALLOW.
    private const string Launcher = """
        import ctypes, os, struct, sys
        errno, numbers, command = int(sys.argv[1]), [int(n) for n in sys.argv[2].split(',')], sys.argv[3:]
        code = [(0x20, 0, 0, 0)]
        for i, number in enumerate(numbers):
            code.append((0x15, len(numbers) - i, 0, number))
        code += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x50000 | errno)]
        code = b''.join(struct.pack('HBBI', *one) for one in code)
        memory = ctypes.create_string_buffer(code, len(code))
        program = struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(memory))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
            sys.exit('prctl: ' + os.strerror(ctypes.get_errno()))
        os.execv(command[0], command)
        """;

    // the same numbers on every architecture, as all since Linux 5.0, of which 424 was the first
    internal const int OpenAt2 = 437;
    private const int FirstOfLinux5 = 424;

    private const int Clone3 = 435;

    [Theory]
    [InlineData("openat2 is not there", 38, OpenAt2, OpenAt2)]
    [InlineData("openat2 is refused", 1, OpenAt2, OpenAt2)]
    [InlineData("an older kernel", 38, FirstOfLinux5, 480)]
    [InlineData("clone3 is refused", 1, Clone3, Clone3)]
    [InlineData("a filter older than the kernel", 1, FirstOfLinux5, 480)]
    public async Task The_same_trees_come_out(string what, int errno, int first, int last)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "devices and owners need root");
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new(registry, "a/b");
        foreach (byte[] layer in Layers.FlatArchiveTests.AwkwardLayers())
        {
            image.Layer(TarBuilder.GZip(layer), Digest.Of(layer));
        }

        image.Publish();
        using TemporaryDirectory plain = new();
        using TemporaryDirectory filtered = new();
        (await Binary.RunAsync(Pull(image, plain))).Expect(0);

        BinaryResult result = await Binary.ProgramAsync(
            "python3", [.. Without(errno, Enumerable.Range(first, last - first + 1)), Binary.File, .. Pull(image, filtered)]);

        Assert.True(result.Code == 0, $"{what}: {result.Error}");
        foreach (string tree in new[] { "r", "l", "s/layers" })
        {
            TreeListing.AssertSame(Comparable(plain[tree]), Comparable(filtered[tree]));
        }
    }

    [Theory]
    [InlineData(38)]
    [InlineData(1)]
    public async Task And_nothing_gets_out(int errno)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        using TemporaryDirectory work = new();
        byte[] lower = new TarBuilder().Symlink("out", work.Path).Symlink("up", "../..").End().ToArray();
        byte[] upper = new TarBuilder().File("out/escaped", "x").File("up/escaped", "x").Whiteout("out/kept").Opaque("up").End().ToArray();
        FakeImage image = new FakeImage(registry, "a/b")
            .Layer(TarBuilder.GZip(lower), Digest.Of(lower)).Layer(TarBuilder.GZip(upper), Digest.Of(upper)).Publish();
        await File.WriteAllTextAsync(work["kept"], "kept", TestContext.Current.CancellationToken);

        (await Binary.ProgramAsync("python3", [.. Without(errno, [OpenAt2]), Binary.File, .. Pull(image, work)])).Expect(0);

        Assert.Equal(["kept", "l", "r", "s"], work.Names);
        Assert.Equal(["r/out/escaped", "r/up/escaped"], [.. Directory.GetFiles(work["r"], "*", SearchOption.AllDirectories).Select(path => path[(work.Path.Length + 1)..]).Order(StringComparer.Ordinal)]);
    }

    // it is a process, where the above needs threads
    [Theory]
    [InlineData(38)]
    [InlineData(1)]
    public async Task A_credential_helper_is_started_without_clone3(int errno)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth { IsBasic = true, User = "ann", Password = "secret" } }.Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory work = new();
        await File.WriteAllTextAsync(work["docker-credential-knows"], "#!/bin/sh\necho '{\"Username\":\"ann\",\"Secret\":\"secret\"}'\n", TestContext.Current.CancellationToken);
        File.SetUnixFileMode(work["docker-credential-knows"], (UnixFileMode)0b111_101_101);
        await File.WriteAllTextAsync(work["auth.json"], """{"credsStore":"knows"}""", TestContext.Current.CancellationToken);

        BinaryResult result = await Binary.ProgramAsync(
            "env", [$"PATH={work.Path}:{Environment.GetEnvironmentVariable("PATH")}", "python3", .. Without(errno, [Clone3]), Binary.File, .. Pull(image, work), "--authfile", work["auth.json"]]);

        result.Expect(0);
        Assert.True(File.Exists(work["r/f"]));
    }

    /// <summary>Arguments for Python, before a command: it gets these calls refused.</summary>
    internal static string[] Without(int errno, IEnumerable<int> numbers) =>
        ["-c", Launcher, errno.ToString(CultureInfo.InvariantCulture), string.Join(',', numbers)];

    /// <summary>The executable with either of its two ways along a name: openat2, or handle by handle where the kernel has none.</summary>
    internal static Task<BinaryResult> RunAsync(bool openat2, params string[] arguments) =>
        openat2 ? Binary.RunAsync(arguments) : Binary.ProgramAsync("python3", [.. Without(38, [OpenAt2]), Binary.File, .. arguments]);

    private static string[] Pull(FakeImage image, TemporaryDirectory work) =>
        ["pull", image.Reference(), "-q", "--store", work["s"], "--extract", "--rootfs", work["r"], "--layers", work["l"]];

    // The directories around what is extracted, and whiteouts, are as old as this test.
    private static TreeListing Comparable(string tree) =>
        TreeListing.Of(tree).Select(entry => entry.Path is "." or "sha256" || entry.Path.EndsWith("/gone", StringComparison.Ordinal) ? entry with { Modified = "" } : entry);
}
