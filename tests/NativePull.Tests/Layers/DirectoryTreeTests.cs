using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Layers;

/// <summary>Removal of trees as archives can make them.</summary>
public sealed class DirectoryTreeTests
{
    [Fact]
    public void A_tree_of_twenty_thousand_levels_goes()
    {
        using TemporaryDirectory work = new();
        SafeFileHandle at = Libc.TryOpenDirectory(Directory.CreateDirectory(work["deep"]).FullName)!;
        for (int i = 0; i < 20_000; i++)
        {
            Assert.Equal(0, Libc.MakeDirectory(at, "d\0"u8, 0x1C0));
            Assert.Equal(0, Libc.OpenAt(at, "d\0"u8, OpenFlags.ReadOnly | OpenFlags.Directory, 0, out SafeFileHandle? below));
            at.Dispose();
            at = below!;
        }

        at.Dispose();

        DirectoryTree.Remove(work["deep"]);

        Assert.False(Directory.Exists(work["deep"]));
    }

    [Fact]
    public void Wide_trees_of_files_links_fifos_and_names_that_are_no_text_go_and_what_links_lead_to_stays()
    {
        using TemporaryDirectory work = new();
        File.WriteAllText(work["kept"], "kept");
        Directory.CreateDirectory(work["kept-directory/x"]);
        for (int i = 0; i < 3000; i++)
        {
            string name = string.Create(CultureInfo.InvariantCulture, $"tree/{i % 7}/{new string('n', 200)}{i}");
            Directory.CreateDirectory(i % 3 == 0 ? work[name] : work[$"tree/{i % 7}"]);
            _ = i % 3 == 0 ? null : File.CreateSymbolicLink(work[name], i % 3 == 1 ? work["kept"] : work["kept-directory"]);
        }

        using (SafeFileHandle tree = Libc.TryOpenDirectory(work["tree"])!)
        {
            Assert.Equal(0, Libc.MakeNode(tree, [0xff, 0xfe, (byte)'\n', 0], FileType.Fifo | 0x180, 0, 0));
        }

        DirectoryTree.Remove(work["tree"]);
        DirectoryTree.Remove(work["absent"]);
        DirectoryTree.Remove(work["absent/below"]);

        Assert.Equal(["kept", "kept-directory"], Directory.GetFileSystemEntries(work.Path).Select(Path.GetFileName).Order());
        Assert.True(Directory.Exists(work["kept-directory/x"]));
    }

    [Fact]
    public void A_link_goes_itself()
    {
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["target/x"]);
        File.CreateSymbolicLink(work["link"], work["target"]);

        DirectoryTree.Remove(work["link"]);

        Assert.False(Path.Exists(work["link"]));
        Assert.True(Directory.Exists(work["target/x"]));
    }

    [Fact]
    public async Task What_is_mounted_in_a_tree_is_not_emptied()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounts need root");
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["tree/a/mounted"]);
        Directory.CreateDirectory(work["elsewhere/x"]);
        (await Binary.ProgramAsync("mount", "--bind", work["elsewhere"], work["tree/a/mounted"])).Expect(0);
        try
        {
            LinuxException busy = Assert.Throws<LinuxException>(() => DirectoryTree.Remove(work["tree"]));

            Assert.Equal(Errno.Busy, busy.Errno);
        }
        finally
        {
            await Binary.UnmountAsync(work["tree/a/mounted"]);
        }

        Assert.True(Directory.Exists(work["elsewhere/x"]));
    }

    [Fact]
    public void A_mode_is_changed_by_handle_where_the_kernel_has_no_call_for_it_and_never_through_a_link()
    {
        using TemporaryDirectory work = new();
        File.WriteAllText(work["file"], "");
        File.SetUnixFileMode(work["file"], (UnixFileMode)0x180);
        File.CreateSymbolicLink(work["link"], "file");
        using SafeFileHandle directory = Libc.TryOpenDirectory(work.Path)!;

        Assert.Equal(Errno.TooManyLinks, Libc.ChangeModeByHandle(directory, "link\0"u8, 0x1FF));
        Assert.Equal(Errno.TooManyLinks, Libc.ChangeModeByHandle(directory, "link\0"u8, 0x1FF, "/no/proc/here"));
        Assert.Equal((UnixFileMode)0x180, File.GetUnixFileMode(work["file"]));
        Assert.Equal(0, Libc.ChangeModeByHandle(directory, "file\0"u8, 0x1A4));
        Assert.Equal((UnixFileMode)0x1A4, File.GetUnixFileMode(work["file"]));
        Assert.Equal(0, Libc.ChangeModeByHandle(directory, "file\0"u8, 0x1B6, "/no/proc/here"));
        Assert.Equal((UnixFileMode)0x1B6, File.GetUnixFileMode(work["file"]));
        Assert.Equal(Errno.NoEntry, Libc.ChangeModeByHandle(directory, "absent\0"u8, 0x1A4));
    }
}
