namespace NativePull.Tests.EndToEnd;

/// <summary>The promises to the shell that need no registry: grammar, exit codes, streams.</summary>
public sealed class CommandLineTests
{
    public static TheoryData<string, string[]> WrongUsage => new()
    {
        { "nothing", [] },
        { "a reference without a directory", ["alpine"] },
        { "an unknown option", ["pull", "--nonsense", "alpine"] },
        { "a command without its argument", ["pull"] },
        { "an upper-case repository", ["pull", "example.com/Upper"] },
        { "a bad tag", ["pull", "example.com/a:!"] },
        { "a bad digest", ["pull", "example.com/a@sha256:12"] },
        { "a bad platform", ["pull", "--platform", "linux", "example.com/a"] },
        { "a bad policy", ["pull", "--policy", "sometimes", "example.com/a"] },
        { "a number for a policy", ["pull", "--policy", "1", "example.com/a"] },
        { "a bad size", ["pull", "--limit-rate", "fast", "example.com/a"] },
        { "a bad number of jobs", ["pull", "--jobs", "0", "example.com/a"] },
        { "a bad duration", ["pull", "--stall-timeout", "soon", "example.com/a"] },
        { "one directory for two images", ["pull", "--rootfs", "/x", "example.com/a", "example.com/b"] },
        { "a bad ownership", ["pull", "--ownership", "overridestat", "example.com/a"] },
        { "map without ranges", ["pull", "--ownership", "map", "example.com/a"] },
        { "map without groups", ["pull", "--ownership", "map", "--uid-map", "0:1:1", "example.com/a"] },
        { "ranges without map", ["pull", "--uid-map", "0:1:1", "--gid-map", "0:1:1", "example.com/a"] },
        { "a bad range", ["pull", "--ownership", "map", "--uid-map", "0:1", "--gid-map", "0:1:1", "example.com/a"] },
        { "overlapping ranges", ["pull", "--ownership", "map", "--uid-map", "0:1:5", "--uid-map", "4:9:1", "--gid-map", "0:1:1", "example.com/a"] },
        { "bad whiteouts", ["pull", "--whiteouts", "aufs", "example.com/a"] },
        { "a bad limit of size", ["pull", "--max-unpacked", "0", "example.com/a"] },
        { "a bad limit of entries", ["pull", "--max-entries", "1k", "example.com/a"] },
        { "extract to nowhere", ["extract", "example.com/a"] },
        { "a store without a name", ["pull", "--store", "", "example.com/a"] },
        { "credentials without a name", ["pull", "--authfile=", "example.com/a"] },
        { "a directory without a name", ["pull", "--rootfs", "", "example.com/a"] },
        { "a directory without a name, in short", ["example.com/a", ""] },
        { "layers without a name, beside another output", ["extract", "example.com/a", "--rootfs", "x", "--layers", ""] },
        { "an archive without a name, beside another output", ["extract", "example.com/a", "--rootfs", "x", "--tar", ""] },
        { "a user without a password", ["pull", "--username", "me", "example.com/a"] },
    };

    [Theory]
    [MemberData(nameof(WrongUsage))]
    public async Task Wrong_usage_is_exit_2_with_one_line_on_stderr_and_nothing_on_stdout(string what, string[] arguments)
    {
        using TemporaryDirectory store = new();
        BinaryResult result = await Binary.RunAsync(new Dictionary<string, string> { ["NATIVEPULL_STORE"] = store["store"] }, arguments);

        result.Expect(2);
        Assert.Equal("", result.Out);
        string line = Assert.Single(result.Error.TrimEnd('\n').Split('\n'));
        Assert.True(line.StartsWith("nativepull: ", StringComparison.Ordinal), $"{what}: {line}");
    }

    [Fact]
    public async Task Settings_that_cannot_be_read_are_a_failure_in_json_too()
    {
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.RunAsync("pull", "alpine", "--json", "--registries-conf", work["absent"], "--store", work["s"]);

        Assert.StartsWith("""{"schema":1,"reference":"alpine","error":{"exit":2,""", result.Expect(2).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_mirror_that_is_refused_is_not_shown_because_it_may_hold_a_password()
    {
        BinaryResult result = await Binary.RunAsync("pull", "--mirror", "docker.io=https://me:secret@cache.example", "example.com/a");

        Assert.Contains("--mirror", result.Expect(2).Error, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("oci:$0/lay --rootfs r")]
    [InlineData("oci:lay --rootfs $0/r")]
    [InlineData("oci:lay --tar -")]
    public async Task In_a_directory_that_is_gone_a_relative_path_is_told_as_what_it_is(string arguments)
    {
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.ProgramAsync("bash", "-c", $"mkdir $0/d; cd $0/d; rmdir $0/d; $1 extract {arguments} | cat; exit ${{PIPESTATUS[0]}}", work.Path, Binary.File);

        Assert.Equal("nativepull: the current directory, which a relative path begins at, is not there any more\n", result.Expect(8).Error);
    }

    [Fact]
    public async Task Version_is_one_line_on_stdout()
    {
        BinaryResult result = (await Binary.RunAsync("version")).Expect(0);

        Assert.Matches(@"\Anativepull \d+\.\d+\.\d+\n\z", result.Out);
        Assert.Equal("", result.Error);
    }

    [Fact]
    public async Task The_environment_sets_an_option_and_the_command_line_wins_over_it()
    {
        Dictionary<string, string> environment = new() { ["NATIVEPULL_JOBS"] = "none" };

        BinaryResult set = await Binary.RunAsync(environment, "pull", "example.com/a");
        BinaryResult overridden = await Binary.RunAsync(environment, "pull", "--jobs", "2", "example.com/A");

        Assert.Contains("--jobs", set.Expect(2).Error, StringComparison.Ordinal);
        Assert.Contains("lower case", overridden.Expect(2).Error, StringComparison.Ordinal);
    }

    /// <summary>They are there for the .NET programs of the same pod or shell.</summary>
    [Theory]
    [InlineData("DOTNET_DbgEnableMiniDump", "1")]
    [InlineData("DOTNET_GCLargePages", "1")]
    [InlineData("DOTNET_GCRegionSize", "1")]
    public async Task Settings_of_the_runtime_are_not_for_this_program(string variable, string value)
    {
        BinaryResult result = await Binary.RunAsync(new Dictionary<string, string> { [variable] = value }, "version");

        Assert.StartsWith("nativepull ", result.Expect(0).Out, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(4)]
    public async Task However_few_open_files_there_may_be_it_is_no_bug(int files)
    {
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.ProgramAsync("prlimit", $"--nofile={files}", Binary.File, "extract", $"oci:{work["absent"]}", "--rootfs", work["r"]);

        Assert.Contains("Too many open files", result.Expect(8).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Too_little_memory_to_begin_with_is_told()
    {
        BinaryResult result = await Binary.ProgramAsync("prlimit", "--as=30000000", Binary.File, "version");

        Assert.StartsWith("nativepull: out of memory", result.Expect(8).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("1", true)]
    [InlineData("true", true)]
    [InlineData("0", false)]
    [InlineData("false", false)]
    [InlineData("", false)]
    public async Task The_environment_sets_a_flag_or_does_not(string value, bool isSet)
    {
        using TemporaryDirectory work = new();

        BinaryResult result = await Binary.RunAsync(new Dictionary<string, string> { ["NATIVEPULL_JSON"] = value }, "extract", $"oci:{work["absent"]}", "--rootfs", work["r"]);

        Assert.Equal(isSet, result.Expect(3).Out.StartsWith('{'));
    }

    [Fact]
    public async Task The_environment_sets_ownership_and_maps_too()
    {
        Dictionary<string, string> environment = new() { ["NATIVEPULL_OWNERSHIP"] = "map", ["NATIVEPULL_UID_MAP"] = "0:1000:1,1:100000:65535", ["NATIVEPULL_GID_MAP"] = "0:1000:x" };

        BinaryResult bad = await Binary.RunAsync(environment, "pull", "example.com/a");
        BinaryResult overridden = await Binary.RunAsync(environment, "pull", "--gid-map", "0:1000:1", "example.com/A");

        Assert.Contains("--gid-map: \"0:1000:x\"", bad.Expect(2).Error, StringComparison.Ordinal);
        Assert.Contains("lower case", overridden.Expect(2).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_image_absent_from_the_store_is_exit_3_under_policy_never_and_for_extract()
    {
        using TemporaryDirectory store = new();

        BinaryResult pull = await Binary.RunAsync("pull", "--policy", "never", "--store", store["s"], "example.com/a");
        BinaryResult extract = await Binary.RunAsync("extract", "example.com/a", "--rootfs", store["r"], "--store", store["s"]);

        pull.Expect(3);
        extract.Expect(3);
        Assert.False(Directory.Exists(store["r"]));
    }

    [Theory]
    [InlineData("exec \"$0\" version <&- >&- 2>&-", 0)]
    [InlineData("exec \"$0\" version >/dev/full", 0)]
    [InlineData("\"$0\" version | true; exit ${PIPESTATUS[0]}", 0)]
    [InlineData("exec \"$0\" pull example.com/A 2>&-", 2)]
    public async Task What_happens_to_the_standard_streams_never_changes_the_outcome(string script, int code)
    {
        BinaryResult result = await Binary.ProgramAsync("bash", "-c", script, Binary.File);

        result.Expect(code);
    }

    [Fact]
    public async Task The_executable_has_no_interpreter_and_needs_no_library()
    {
        BinaryResult result = (await Binary.ProgramAsync("readelf", "-d", "-l", "-h", Binary.File)).Expect(0);

        Assert.DoesNotContain("INTERP", result.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("NEEDED", result.Out, StringComparison.Ordinal);
        Assert.Matches(@"Type:\s+DYN", result.Out);
        Assert.InRange(new FileInfo(Binary.File).Length, 1_000_000, 15_000_000);
    }
}
