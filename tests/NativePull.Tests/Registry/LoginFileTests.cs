using System.Text.Json;
using NativePull.Registry;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Registry;

public sealed class LoginFileTests : IDisposable
{
    private static readonly Credential Ann = new("ann", "pä/s+s");

    private readonly TemporaryDirectory directory = new();

    private static CancellationToken Ending => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_is_stored_is_found_and_only_its_owner_may_read_it()
    {
        string file = directory["new/deep/auth.json"];

        Assert.Equal(file, LoginFile.Store([file], "h.example/team", Ann, Ending));

        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        Assert.Equal(Ann, await FindAsync(file, "h.example", "team/app"));
        Assert.Null(await FindAsync(file, "h.example", "other/app"));
        Assert.Single(Directory.GetFiles(directory["new/deep"]));
    }

    [Fact]
    public void Everything_else_in_the_file_is_kept()
    {
        string file = directory["config.json"];
        File.WriteAllText(file, """{"HttpHeaders":{"X":"1"},"auths":{"a":{"auth":"eDp5","email":"e"},"https://h/v1/":{"auth":"b2xkOm9sZA=="}},"credsStore":"s","n":[1,{"u":"<+>"}]}""");

        LoginFile.Store([file], "h", Ann, Ending);
        using var stored = JsonDocument.Parse(File.ReadAllText(file));
        Assert.True(LoginFile.Remove(file, "h", Ending));
        Assert.False(LoginFile.Remove(file, "h", Ending));

        Assert.Equal(["a", "https://h/v1/"], stored.RootElement.GetProperty("auths").EnumerateObject().Select(entry => entry.Name));
        Assert.Equal(Ann.Encoded, stored.RootElement.GetProperty("auths").GetProperty("https://h/v1/").GetProperty("auth").GetString());
        using var left = JsonDocument.Parse(File.ReadAllText(file));
        Assert.Equal(
            """{"auths":{"a":{"auth":"eDp5","email":"e"}},"HttpHeaders":{"X":"1"},"credsStore":"s","n":[1,{"u":"<+>"}]}""",
            left.RootElement.GetRawText().Replace("\n", "", StringComparison.Ordinal).Replace(" ", "", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("config.json", "https://index.docker.io/v1/")]
    [InlineData("auth.json", "docker.io")]
    public void Docker_Hub_is_spelled_as_the_owner_of_the_file_spells_it(string name, string key)
    {
        LoginFile.Store([directory[name]], "docker.io", Ann, Ending);

        Assert.Contains($"\"{key}\"", File.ReadAllText(directory[name]), StringComparison.Ordinal);
    }

    [Fact]
    public void The_first_file_that_can_be_written_is_taken()
    {
        File.WriteAllText(directory["file"], "");
        string good = directory["good.json"];

        Assert.Equal(good, LoginFile.Store([directory["file/below/auth.json"], "/proc/nothing/auth.json", good], "h", Ann, Ending));
        PullException failure = Assert.Throws<PullException>(() => LoginFile.Store([directory["file/below/auth.json"]], "h", Ann, Ending));
        Assert.Equal(PullError.Permission, failure.Reason);
        Assert.Equal(PullError.Usage, Assert.Throws<PullException>(() => LoginFile.Store([], "h", Ann, Ending)).Reason);
    }

    [Theory]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("""{"auths":[]}""")]
    public void A_malformed_file_is_left_as_it_is(string content)
    {
        string file = directory["config.json"];
        File.WriteAllText(file, content);

        Assert.Equal(PullError.Machine, Assert.Throws<PullException>(() => LoginFile.Store([file], "h", Ann, Ending)).Reason);
        Assert.Equal(content, File.ReadAllText(file));
    }

    [Fact]
    public void A_link_stays_one()
    {
        File.WriteAllText(directory["real.json"], "{}");
        File.CreateSymbolicLink(directory["config.json"], "real.json");

        LoginFile.Store([directory["config.json"]], "h", Ann, Ending);

        Assert.Equal("real.json", new FileInfo(directory["config.json"]).LinkTarget);
        Assert.Contains("auth", File.ReadAllText(directory["real.json"]), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Many_at_the_same_moment_lose_no_entry()
    {
        string file = directory["new/auth.json"];
        string[] keys = [.. Enumerable.Range(0, 24).Select(number => $"h{number:00}.example")];

        await Task.WhenAll(keys.Select(key => Task.Factory.StartNew(
            () => LoginFile.Store([file], key, Ann, Ending), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));

        using var stored = JsonDocument.Parse(await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken));
        Assert.Equal(keys, stored.RootElement.GetProperty("auths").EnumerateObject().Select(entry => entry.Name).Order());
        Assert.Single(Directory.GetFileSystemEntries(directory["new"]));
    }

    [Fact]
    public void Somebody_who_keeps_the_lock_is_waited_for_only_until_the_signal()
    {
        Directory.CreateDirectory(directory["held"]);
        using Microsoft.Win32.SafeHandles.SafeFileHandle held = NativePull.Native.Libc.TryOpenDirectory(directory["held"])!; // just made
        Assert.True(NativePull.Native.Libc.TryLock(held, "held"));
        using CancellationTokenSource signal = new(TimeSpan.FromMilliseconds(50));

        Assert.ThrowsAny<OperationCanceledException>(() => LoginFile.Store([directory["held/auth.json"]], "h", Ann, signal.Token));
    }

    public void Dispose() => directory.Dispose();

    private static async Task<Credential?> FindAsync(string file, string registry, string repository) =>
        (await Credentials.FromFiles([new AuthFile(file, true)]).FindAsync(registry, repository, TestContext.Current.CancellationToken)).Credential;
}
