using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using NativePull.Cli;
using NativePull.Tests.Conformance;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>The README's table of exit codes, each from the published executable, and the shapes of what it prints.</summary>
public sealed partial class ExitCodeTests
{
    /// <summary>What is wrong, the exit code, the reason in JSON. 130 and 143 are in ResumeTests.</summary>
    public static TheoryData<string, int, string> Failures => new()
    {
        { "a bad reference", 2, "invalid-reference" },
        { "no such tag", 3, "not-found" },
        { "no such platform", 3, "platform-not-found" },
        { "never asked and not there", 3, "not-in-store" },
        { "no credentials", 4, "unauthorized" },
        { "forbidden", 4, "denied" },
        { "always 503", 5, "unavailable" },
        { "a long Retry-After", 5, "rate-limited" },
        { "a wrong byte", 6, "digest-mismatch" },
        { "another digest expected", 6, "unexpected" },
        { "a manifest that is no JSON", 6, "malformed" },
        { "a wrong diff ID", 6, "diff-id-mismatch" },
        { "an unknown media type", 7, "unsupported" },
        { "a destination that is not empty", 8, "machine" },
        { "a certificate of nobody", 9, "tls-unknown-issuer" },
        { "an expired certificate", 9, "tls-expired" },
    };

    [Theory]
    [MemberData(nameof(Failures))]
    public async Task Each_failure_has_its_exit_code_and_its_reason_and_one_last_line(string what, int code, string reason)
    {
        using FakeCertificates authority = new();
        using TemporaryDirectory scratch = new();
        await using FakeRegistry registry = new FakeRegistry
        {
            Auth = what == "no credentials" ? new FakeAuth { IsBasic = true, User = "me", Password = "x" } : null,
            Certificate = what switch
            {
                "a certificate of nobody" => authority.Issue(),
                "an expired certificate" => authority.Issue(from: -20, to: -10),
                _ => null,
            },
        }.Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1, 2, 3]));
        if (what == "a wrong diff ID")
        {
            image.Layer(new byte[10240], NativePull.Oci.Digest.Of([1]));
        }

        image.Publish(withIndex: true);
        string reference = image.Reference();
        List<string> options = [];
        switch (what)
        {
            case "a bad reference": reference = "example.com/UPPER"; break;
            case "no such tag": reference = image.Reference("other"); break;
            case "no such platform": options.AddRange(["--platform", "linux/mips64le"]); break;
            case "never asked and not there": options.AddRange(["--policy", "never"]); break;
            case "forbidden": registry.Faults.On("manifests", new Fault { Status = 403, Body = """{"errors":[{"code":"DENIED","message":"no"}]}""" }); break;
            case "always 503": registry.Faults.On("manifests", new Fault { Status = 503, Headers = [("Retry-After", "0")] }, 100); break;
            case "a long Retry-After": registry.Faults.On("manifests", new Fault { Status = 429, Headers = [("Retry-After", "999")] }); break;
            case "a wrong byte": registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { WrongByteAt = 20 }); break;
            case "another digest expected": options.AddRange(["--expect", NativePull.Oci.Digest.Of([7]).ToString()]); break;
            case "a manifest that is no JSON": registry.AddManifest("a/b", "bad", "{"u8.ToArray(), NativePull.Oci.MediaTypes.OciManifest); reference = image.Reference("bad"); break;
            case "an unknown media type": registry.AddManifest("a/b", "bad", """{"schemaVersion":2,"mediaType":"application/vnd.example.unheard-of+json"}"""u8.ToArray(), NativePull.Oci.MediaTypes.OciManifest); reference = image.Reference("bad"); break;
            case "a destination that is not empty": Directory.CreateDirectory(scratch["r/full"]); break;
            case "an expired certificate": await File.WriteAllTextAsync(scratch["ca.pem"], authority.RootPem, TestContext.Current.CancellationToken); options.AddRange(["--ca-file", scratch["ca.pem"]]); break;
        }

        BinaryResult result = await Binary.RunAsync(["pull", reference, "--store", scratch["s"], "--rootfs", scratch["r"], "--json", "--retries", "2", .. options]);

        result.Expect(code);
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement error = json.RootElement.GetProperty("error");
        Assert.Equal((1, code, reason), (json.RootElement.GetProperty("schema").GetInt32(), error.GetProperty("exit").GetInt32(), error.GetProperty("reason").GetString()));
        Assert.Equal(reference, json.RootElement.GetProperty("reference").GetString());
        Assert.Equal($"nativepull: {error.GetProperty("message").GetString()}", result.Error.TrimEnd('\n').Split('\n')[^1]);
        Assert.DoesNotContain('\u001b', result.Error);
    }

    [Fact]
    public async Task Too_little_memory_is_one_line_and_one_document_as_well()
    {
        using TemporaryDirectory scratch = new();
        LayoutDirectory.Write(scratch["layout"], "v1", [new TarBuilder().File("f", "content").End().ToArray()]);
        int seen = 0;
        // where there is so little that the runtime itself cannot begin, nothing can be told
        for (int limit = 80_000; limit <= 120_000; limit += 4_000)
        {
            BinaryResult result = await Binary.ProgramAsync(
                "bash", "-c", $"ulimit -v {limit}; exec $0 extract oci:$1/layout --rootfs $1/r --platform linux/amd64 --json -q", Binary.File, scratch.Path);
            if (result.Code == 8)
            {
                seen++;
                using JsonDocument json = JsonDocument.Parse(result.Out);
                Assert.Contains("out of memory", json.RootElement.GetProperty("error").GetProperty("message").GetString(), StringComparison.Ordinal);
                Assert.StartsWith("nativepull: out of memory", result.Error, StringComparison.Ordinal);
                Assert.Equal(1, result.Error.Count(letter => letter == '\n'));
                Assert.Equal(["layout"], scratch.Names);
            }

            Assert.DoesNotContain("Unhandled", result.Error, StringComparison.Ordinal);
            (await Binary.ProgramAsync("rm", "-rf", scratch["r"], scratch[".r.nativepull"])).Expect(0);
        }

        Assert.True(seen > 0, "no limit was too little");
    }

    [Fact]
    public async Task List_inspect_and_layers_print_what_the_readme_says()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Layer(("g", [2])).Publish(withIndex: true);
        using TemporaryDirectory scratch = new();
        (await Binary.RunAsync("pull", image.Reference(), "--store", scratch["s"], "--extract")).Expect(0);

        foreach (string[] command in new string[][] { ["list"], ["inspect", image.Reference()] })
        {
            using JsonDocument json = JsonDocument.Parse((await Binary.RunAsync([.. command, "--store", scratch["s"], "--json"])).Expect(0).Out);
            JsonElement root = json.RootElement;
            Assert.Equal(1, root.GetProperty("schema").GetInt32());
            Assert.Equal(image.Reference(), root.GetProperty("reference").GetString());
            Assert.Equal(image.Digest.ToString(), root.GetProperty("digest").GetString());
            Assert.Equal($"linux/{NativePull.Oci.Platform.OfThisMachine.Architecture}", root.GetProperty("platform").GetString());
            Assert.Equal(image.Layers.Select(layer => layer.Digest.ToString()), root.GetProperty("layers").EnumerateArray().Select(layer => layer.GetProperty("digest").GetString()));
        }

        string[] layers = (await Binary.RunAsync("layers", image.Reference(), "--store", scratch["s"])).Expect(0).Out.TrimEnd('\n').Split('\n');
        string overlay = (await Binary.RunAsync("layers", image.Reference(), "--store", scratch["s"], "--overlay")).Expect(0).Out;
        Assert.True(File.Exists(Path.Combine(layers[0], "f")) && File.Exists(Path.Combine(layers[1], "g")));
        Assert.Equal(OverlayOptions.Lower(layers, Environment.OSVersion.Version) + "\n", overlay);
    }

    [Fact]
    public async Task A_bar_is_never_wider_than_the_terminal_for_one_that_wraps_could_not_be_drawn_over()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 1_000_000).Publish();
        using TemporaryDirectory scratch = new();
        string pull = $"stty cols 50; {Binary.File} pull {image.Reference()} --limit-rate 2MB --store {scratch["s"]}";

        BinaryResult result = (await Binary.ProgramAsync("env", "TERM=xterm", "script", "-qec", pull, "/dev/null")).Expect(0);

        string[] bars = [.. result.Out.Split('\n').Select(line => line[(line.LastIndexOf('J') + 1)..].TrimEnd('\r')).Where(line => line.Contains(" [", StringComparison.Ordinal))];
        Assert.NotEmpty(bars);
        Assert.All(bars, bar => Assert.InRange(bar.Length, 1, 49));
    }

    [Fact]
    public async Task Bars_are_drawn_on_a_terminal_at_most_ten_times_a_second_and_no_control_code_elsewhere()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 2_000_000).Publish();
        using TemporaryDirectory scratch = new();
        string pull = $"{Binary.File} pull {image.Reference()} --limit-rate 2MB";
        long begun = Stopwatch.GetTimestamp();

        BinaryResult terminal = await Binary.ProgramAsync("env", "TERM=xterm", "script", "-qec", $"{pull} --store {scratch["a"]}", "/dev/null");
        double seconds = Stopwatch.GetElapsedTime(begun).TotalSeconds;
        BinaryResult pipe = await Binary.ProgramAsync("env", ["TERM=xterm", .. pull.Split(' '), "--store", scratch["b"]]);
        BinaryResult dumb = await Binary.ProgramAsync("env", "TERM=dumb", "script", "-qec", $"{pull} --store {scratch["c"]}", "/dev/null");

        Assert.Contains("[#", terminal.Expect(0).Out, StringComparison.Ordinal);
        // no faster than promised, however slow the machine
        Assert.InRange(Redraw().Count(terminal.Out), 1, (int)(seconds * 10) + 1);
        Assert.DoesNotContain('\u001b', pipe.Expect(0).Error);
        Assert.DoesNotContain('\u001b', dumb.Expect(0).Out);
    }

    [Theory]
    [InlineData("exec 2>&-; exec \"$@\"", 0)]
    [InlineData("exec 2>/dev/full; exec \"$@\"", 0)]
    [InlineData("mkfifo \"$F\"; exec 3<>\"$F\"; head -c 65536 /dev/zero >&3; exec 2>\"$F\"; exec \"$@\"", 0)]
    [InlineData("mkfifo \"$F\"; exec 3<>\"$F\"; head -c 65536 /dev/zero >&3; exec 2>\"$F\"; exec \"$@\" --platform linux/mips64le", 3)]
    public async Task A_reader_of_standard_error_that_is_gone_or_reads_nothing_changes_nothing(string script, int code)
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("f", 100_000).Publish(withIndex: true);
        using TemporaryDirectory scratch = new();

        BinaryResult result = await Binary.ProgramAsync(
            "timeout", "-k", "1", "20", "env", $"F={scratch["fifo"]}", "bash", "-c", script, "bash", Binary.File, "pull", image.Reference(), "--store", scratch["s"], "-v");

        result.Expect(code);
    }

    [GeneratedRegex("\u001b\\[[0-9]+F")]
    private static partial Regex Redraw();
}
