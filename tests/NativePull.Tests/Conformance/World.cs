using System.Runtime.InteropServices;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// What lies beside a root and must be left alone: files, a directory, a link, a fifo, all of which anybody may write. It knows whether any of it was
/// changed, and whether anything was as much as opened.
/// </summary>
internal sealed partial class World : IDisposable
{
    private const int NonBlocking = 0x800; // IN_NONBLOCK

    // IN_ALL_EVENTS without the two of closing: a child that this process forks beside us holds what we have open until its exec, and whoever
    // closes has opened before
    private const uint Events = 0xFFF & ~0x18u;
    private const uint Exchange = 2; // RENAME_EXCHANGE

    private readonly TreeListing before;
    private readonly int watch;

    internal World(TemporaryDirectory work)
    {
        Outside = Directory.CreateDirectory(work["outside"]).FullName;
        Directory.CreateDirectory(Path.Combine(Outside, "dir"));
        File.WriteAllText(Path.Combine(Outside, "secret"), "secret");
        File.WriteAllText(Path.Combine(Outside, "dir/inner"), "inner");
        File.CreateSymbolicLink(Path.Combine(Outside, "link"), "secret");
        Assert.Equal(0, MakeFifo(Path.Combine(Outside, "fifo"), 0x1B6));
        foreach (string path in new[] { "", "dir", "secret", "dir/inner" })
        {
            bool isFile = path is "secret" or "dir/inner";
            File.SetUnixFileMode(Path.Combine(Outside, path), (UnixFileMode)(isFile ? 0x1B6 : 0x1FF));
            File.SetLastWriteTimeUtc(Path.Combine(Outside, path), DateTime.UnixEpoch.AddDays(path.Length + 1));
        }

        before = TreeListing.Of(Outside);
        watch = StartWatch(NonBlocking);
        foreach (string path in new[] { "", "dir", "secret", "dir/inner", "fifo" })
        {
            Assert.True(AddWatch(watch, Path.Combine(Outside, path), Events) >= 0, "inotify_add_watch");
        }
    }

    internal string Outside { get; }

    internal void AssertUntouched(bool opened = true)
    {
        byte[] events = new byte[4096];
        nint length = Read(watch, events, events.Length);
        Assert.False(opened && length > 0, $"something outside was touched: inotify event 0x{(length > 0 ? BitConverter.ToUInt32(events, 4) : 0):x}");
        TreeListing.AssertSame(before, TreeListing.Of(Outside));
    }

    public void Dispose() => _ = Close(watch);

    /// <summary>renameat2(2): each becomes the other, in one step.</summary>
    internal static bool Swap(string one, string other) => RenameAt2(-100, one, -100, other, Exchange) == 0;

    [LibraryImport("libc", EntryPoint = "mkfifo", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int MakeFifo(string path, uint mode);

    [LibraryImport("libc", EntryPoint = "link", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int HardLink(string from, string to);

    [LibraryImport("libc", EntryPoint = "renameat2", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int RenameAt2(int oldDirectory, string from, int newDirectory, string to, uint flags);

    [LibraryImport("libc", EntryPoint = "inotify_init1")]
    private static partial int StartWatch(int flags);

    [LibraryImport("libc", EntryPoint = "inotify_add_watch", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int AddWatch(int watch, string path, uint mask);

    [LibraryImport("libc", EntryPoint = "read")]
    private static partial nint Read(int file, byte[] buffer, nint size);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int file);
}
