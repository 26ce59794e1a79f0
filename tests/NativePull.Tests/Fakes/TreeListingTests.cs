using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Fakes;

/// <summary>The listing that other tests trust: each thing it claims to see is seen.</summary>
public sealed class TreeListingTests
{
    /// <summary>One change to a tree that a comparison must not overlook.</summary>
    public static TheoryData<string, string> Changes => new()
    {
        { "content of the same length", "printf two >f; touch -d @1 f" },
        { "a longer file", "echo more >>f; touch -d @1 f" },
        { "the mode", "chmod 4755 f" },
        { "the owner", "chown 5:6 f" },
        { "the time's nanoseconds", "touch -d @1.000000001 f" },
        { "a directory's time", "touch -d @1.5 d" },
        { "a link's target", "ln -sfn elsewhere l; touch -hd @1 l" },
        { "a link's time", "touch -hd @2 l" },
        { "a hard link broken", "cp --preserve=all f h2; mv h2 h" },
        { "a user attribute", "setfattr -n user.a -v 2 f" },
        { "a trusted attribute of a link", "setfattr -hn trusted.a -v 2 l" },
        { "a trusted attribute of a fifo", "setfattr -n trusted.a -v 2 p" },
        { "a capability", "setcap cap_net_raw+ep f" },
        { "a device's number", "rm c; mknod c c 1 3; touch -d @1 c" },
        { "a name that is not UTF-8", "touch -d @1 $'x\\344'" },
        { "one such name for another", "mv $'bad\\377' $'bad\\376'" },
        { "a fifo instead of a file", "rm f; mkfifo f" },
        { "the root's own mode", "chmod 700 ." },
    };

    [Theory]
    [MemberData(nameof(Changes))]
    public async Task A_listing_shows(string what, string change)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners, devices and trusted attributes need root");
        using TemporaryDirectory tree = new();
        await RunAsync(tree, "chmod 755 .; mkdir d; printf one >f; ln f h; ln -s f l; mkfifo p; mknod c c 1 5; setfattr -n user.a -v 1 f; : >$'bad\\377'; touch -hd @1 d f l p c bad*; touch -d @1 .");
        TreeListing before = TreeListing.Of(tree.Path);
        TreeListing.AssertSame(before, TreeListing.Of(tree.Path));

        await RunAsync(tree, $"{change}; touch -d @1 .");

        Assert.True(before.Differences(TreeListing.Of(tree.Path)).Count > 0, what);
    }

    [Fact]
    public async Task A_listing_is_text_a_person_can_read()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and devices need root");
        using TemporaryDirectory tree = new();
        await RunAsync(tree, "printf one >f; chown 7:8 f; chmod 6751 f; setfattr -n user.a -v 1 f; ln f g; touch -d @-1.5 f; mknod -m 600 c c 1 5; touch -d @3 c; ln -s $'a\\\\\\n' l; touch -hd @4 l");

        Assert.Equal(
            [
                "c c 600 0:0 0 @3.000000000 1:5",
                "f f 6751 7:8 3 @-2.500000000 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed [user.a=31]",
                "g f 6751 7:8 3 @-2.500000000 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed = f [user.a=31]",
                @"l l 777 0:0 3 @4.000000000 -> a\x5c\x0a",
            ],
            TreeListing.Of(tree.Path).Entries.Skip(1).Select(entry => entry.ToString()));
    }

    private static async Task RunAsync(TemporaryDirectory tree, string script) =>
        (await Binary.ProgramAsync("bash", "-ec", $"cd '{tree.Path}'; {script}")).Expect(0);
}
