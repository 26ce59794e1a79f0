using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace NativePull.Tests.EndToEnd;

/// <summary>What a finished run left behind.</summary>
public sealed record BinaryResult(int Code, string Out, string Error)
{
    /// <summary>Asserts the exit code, showing both streams where it is another.</summary>
    public BinaryResult Expect(int code)
    {
        Assert.True(Code == code, $"expected exit code {code}, got {Code}\nstdout: {Out}\nstderr: {Error}");
        return this;
    }
}

/// <summary>Runs the published static executable as a user would.</summary>
public static class Binary
{
    /// <summary>The executable under test; made by scripts/build.sh, or named by NATIVEPULL_BINARY. Its absence is a failure, not a skip.</summary>
    public static string File { get; } = Environment.GetEnvironmentVariable("NATIVEPULL_BINARY") is { Length: > 0 } named
        ? Path.GetFullPath(named)
        : Path.Combine(Repository(), "artifacts/linux-x64/nativepull");

    private const string PeakLine = "peak ";

    // Far above what any run takes on a busy machine: only what would never end meets it.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);

    public static Task<BinaryResult> RunAsync(params string[] arguments) => RunAsync(null, arguments);

    public static async Task<BinaryResult> RunAsync(IReadOnlyDictionary<string, string>? environment, params string[] arguments)
    {
        using Process process = Start(environment, File, arguments);
        return await FinishAsync(process);
    }

    /// <summary>Any program, with its output kept; for witnesses and for the executable behind chroot or unshare.</summary>
    public static async Task<BinaryResult> ProgramAsync(string program, params string[] arguments)
    {
        using Process process = Start(null, program, arguments, keepEnvironment: true);
        return await FinishAsync(process);
    }

    /// <summary>
    /// Unmounts, once nothing is in use there any more: until it becomes its program, a process that another test starts has copies of all our handles.
    /// </summary>
    public static async Task UnmountAsync(string path)
    {
        long begun = Stopwatch.GetTimestamp();
        BinaryResult result;
        while ((result = await ProgramAsync("umount", path)).Error.Contains("busy", StringComparison.Ordinal) && Stopwatch.GetElapsedTime(begun) < Patience)
        {
            await Task.Delay(50);
        }

        result.Expect(0);
    }

    /// <summary>
    /// The executable, quiet, with its peak memory as the last line on stderr: GNU time says what wait4(2) says of that one process, so nothing that runs
    /// beside it counts.
    /// </summary>
    public static Task<BinaryResult> MeasuredAsync(params string[] arguments) => ProgramAsync("time", ["-f", PeakLine + "%M", File, "-q", .. arguments]);

    /// <summary>The same with standard output in a file.</summary>
    public static Task<BinaryResult> MeasuredIntoAsync(string output, params string[] arguments) =>
        ProgramAsync("time", ["-f", PeakLine + "%M", "sh", "-c", "out=$1; shift; exec \"$@\" > \"$out\"", "sh", output, File, .. arguments]);

    /// <summary>KiB, of a run that was measured.</summary>
    public static long PeakOf(BinaryResult result) => long.Parse(
        result.Error.Split('\n').Last(line => line.StartsWith(PeakLine, StringComparison.Ordinal))[PeakLine.Length..], CultureInfo.InvariantCulture);

    public static Process Start(IReadOnlyDictionary<string, string>? environment, string program, IEnumerable<string> arguments, bool keepEnvironment = false, string input = "")
    {
        Assert.True(program != File || System.IO.File.Exists(File), $"{File} is missing: run scripts/build.sh");
        ProcessStartInfo start = new(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        if (!keepEnvironment)
        {
            // nothing of the developer's own credentials or settings may decide a test
            start.Environment.Clear();
            start.Environment["PATH"] = Environment.GetEnvironmentVariable("PATH");
        }

        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        start.StandardInputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        Process process = Process.Start(start)!;
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        return process;
    }

    /// <summary>The executable with SIGINT in its default state: a background job of a shell script is started with it ignored, and so would be ours.</summary>
    public static Process StartInterruptible(params string[] arguments) => Start(null, "env", ["--default-signal=INT", File, .. arguments]);

    public static async Task<BinaryResult> FinishAsync(Process process)
    {
        CancellationToken token = TestContext.Current.CancellationToken;
        process.StartInfo.StandardOutputEncoding = Encoding.UTF8;
        Task<string> output = process.StandardOutput.ReadToEndAsync(token);
        Task<string> error = process.StandardError.ReadToEndAsync(token);
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(token);
        limit.CancelAfter(Patience);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException) when (!token.IsCancellationRequested)
        {
            // else one that hangs would take the whole run with it, and nobody would know which
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{process.StartInfo.FileName} {string.Join(' ', process.StartInfo.ArgumentList)} has not ended within {Patience}; stderr: {await error}");
        }

        return new BinaryResult(process.ExitCode, await output, await error);
    }

    private static string Repository([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../.."));
}
