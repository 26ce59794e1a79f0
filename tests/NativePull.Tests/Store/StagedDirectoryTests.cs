using NativePull.Store;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Store;

/// <summary>A tree that appears at once or not at all.</summary>
public sealed class StagedDirectoryTests
{
    [Fact]
    public void Nothing_is_visible_before_it_is_published_and_nothing_is_left_beside_it_afterwards()
    {
        using TemporaryDirectory scratch = new();
        using (StagedDirectory staged = StagedDirectory.TryBegin(scratch["new/dir"], sync: true)!)
        {
            File.WriteAllText(Path.Combine(staged.Path, "file"), "content");
            Assert.False(Directory.Exists(scratch["new/dir"]));
            string identity = staged.Identity;
            staged.Publish();
            Assert.Equal(identity, staged.Identity);
            Assert.Equal(identity, NativePull.Native.Libc.TryIdentityOf(scratch["new/dir"])!.Value.Lasting);
        }

        Assert.Equal("content", File.ReadAllText(scratch["new/dir/file"]));
        Assert.Equal([scratch["new/dir"]], Directory.GetFileSystemEntries(scratch["new"]));
    }

    [Fact]
    public void Disposing_without_publishing_removes_the_tree()
    {
        using TemporaryDirectory scratch = new();
        using (StagedDirectory staged = StagedDirectory.TryBegin(scratch["dir"], sync: false)!)
        {
            Directory.CreateDirectory(Path.Combine(staged.Path, "a/b/c"));
        }

        Assert.Empty(Directory.GetFileSystemEntries(scratch.Path));
    }

    [Fact]
    public void A_file_system_that_flushes_no_directories_is_no_failure()
    {
        Assert.SkipUnless(Directory.Exists("/proc/self"), "needs a file system that answers EINVAL");

        NativePull.Native.Libc.FlushDirectory("/proc");

        Assert.Throws<NativePull.Native.LinuxException>(() => NativePull.Native.Libc.FlushDirectory("/proc/absent"));
    }

    [Fact]
    public void An_empty_directory_is_replaced()
    {
        using TemporaryDirectory scratch = new();
        Directory.CreateDirectory(scratch["dir"]);

        using StagedDirectory staged = StagedDirectory.TryBegin(scratch["dir"] + "/", sync: false)!;
        File.WriteAllText(Path.Combine(staged.Path, "file"), "");
        staged.Publish();

        Assert.True(File.Exists(scratch["dir/file"]));
    }

    [Fact]
    public void What_a_killed_process_left_is_removed()
    {
        using TemporaryDirectory scratch = new();
        string path;
        using (StagedDirectory killed = StagedDirectory.TryBegin(scratch["dir"], sync: false)!)
        {
            path = killed.Path;
        }

        // the same without anyone holding the lock
        Directory.CreateDirectory(Path.Combine(path, "half/done"));

        using StagedDirectory staged = StagedDirectory.TryBegin(scratch["dir"], sync: false)!;

        Assert.Equal(path, staged.Path);
        Assert.Empty(Directory.GetFileSystemEntries(staged.Path));
    }

    [Fact]
    public void Two_cannot_make_the_same_directory_at_once()
    {
        using TemporaryDirectory scratch = new();
        using StagedDirectory first = StagedDirectory.TryBegin(scratch["dir"], sync: false)!;
        File.WriteAllText(Path.Combine(first.Path, "file"), "");

        Assert.Null(StagedDirectory.TryBegin(scratch["dir"], sync: false));
        Assert.True(File.Exists(Path.Combine(first.Path, "file")));
    }

    [Fact]
    public async Task The_second_waits_and_finds_what_the_first_published()
    {
        using TemporaryDirectory scratch = new();
        StoreOptions options = new() { LockPoll = TimeSpan.FromMilliseconds(5) };
        using StagedDirectory first = StagedDirectory.TryBegin(scratch["dir"], sync: false)!;
        File.WriteAllText(Path.Combine(first.Path, "file"), "");
        Task<StagedDirectory?> second = StagedDirectory.BeginAsync(scratch["dir"], options, () => File.Exists(scratch["dir/file"]), StoreHarness.Token);
        Assert.False(second.IsCompleted);

        first.Publish();

        Assert.Null(await second);
        Assert.Equal([scratch["dir"]], Directory.GetFileSystemEntries(scratch.Path));
    }

    [Fact]
    public async Task The_second_begins_where_the_first_gave_up()
    {
        using TemporaryDirectory scratch = new();
        StoreOptions options = new() { LockPoll = TimeSpan.FromMilliseconds(5) };
        StagedDirectory first = StagedDirectory.TryBegin(scratch["dir"], sync: false)!;
        Task<StagedDirectory?> second = StagedDirectory.BeginAsync(scratch["dir"], options, () => Directory.Exists(scratch["dir"]), StoreHarness.Token);

        first.Dispose();

        using StagedDirectory? taken = await second;
        Assert.NotNull(taken);
    }

    /// <summary>What cannot become the directory, and a word of what is said about it.</summary>
    public static TheoryData<string, string> Refused => new()
    {
        { "echo >dir", "not a directory" },
        { "mkdir dir; echo >dir/file", "not empty" },
        { "mkdir other; ln -s other dir", "symbolic link" },
        { "ln -s nowhere dir", "symbolic link" },
        { "mkdir dir; mount -t tmpfs none dir", "mount point" },
        { "mkdir dir other; mount --bind other dir", "mount point" },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public async Task What_no_rename_can_replace_is_refused_at_once_and_left_as_it_is(string script, string word)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        using TemporaryDirectory scratch = new();
        (await Binary.ProgramAsync("bash", "-ec", $"cd {scratch.Path}; {script}")).Expect(0);
        try
        {
            PullException failure = Assert.Throws<PullException>(() => StagedDirectory.TryBegin(scratch["dir"], sync: false));

            Assert.Equal(PullError.Machine, failure.Reason);
            Assert.Contains(word, failure.Message, StringComparison.Ordinal);
            Assert.DoesNotContain(Directory.GetFileSystemEntries(scratch.Path), path => Path.GetFileName(path).StartsWith('.'));
        }
        finally
        {
            await Binary.ProgramAsync("umount", "-q", scratch["dir"]);
        }
    }
}
