using System.Formats.Tar;
using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Layers;
using NativePull.Native;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Layers;

/// <summary>Owner, mode, attributes and times under each policy, on a file system that holds all of them.</summary>
public sealed class EntryMetadataTests
{
    private static readonly Privileges Root = new(AnyOwner: true, Devices: true, Trusted: true);

    [Fact]
    public void A_file_that_nobody_may_write_still_gets_its_user_attributes_and_a_setuid_file_keeps_its_bit_and_capability()
    {
        SkipUnlessRoot();
        byte[] capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        using Tree tree = new(
            new ExtractOptions { Privileges = Root, Format = LayerFormat.Flat },
            File("ro", 0, 1234, 4321, ("user.comment", "hi")),
            File("su", 0x9ED, 1234, 4321, ("security.capability", Encoding.Latin1.GetString(capability))));

        Assert.Equal((0u, 1234u, 4321u), tree.ModeAndOwner("ro"));
        Assert.Equal("hi", tree.Xattr("ro", "user.comment"));
        Assert.Equal((0x9EDu, 1234u, 4321u), tree.ModeAndOwner("su"));
        Assert.Equal(capability, tree.XattrBytes("su", "security.capability"));
        Assert.False(tree.Report.LostAnything);
    }

    [Fact]
    public void Squash_gives_everything_to_this_process_and_no_file_runs_as_it_that_ran_as_another()
    {
        SkipUnlessRoot();
        using Tree tree = new(
            new ExtractOptions { Privileges = Root, Format = LayerFormat.Flat, Ownership = OwnershipPolicy.Squash },
            File("theirs", 0xDED, 1234, 4321),
            File("ours", 0xDED, Libc.EffectiveUser, Libc.EffectiveGroup),
            Special(TarEntryType.SymbolicLink, "link", 7, 7));

        Assert.Equal((0x1EDu, Libc.EffectiveUser, Libc.EffectiveGroup), tree.ModeAndOwner("theirs"));
        Assert.Equal((0xDEDu, Libc.EffectiveUser, Libc.EffectiveGroup), tree.ModeAndOwner("ours"));
        Assert.Equal((2, 1), (tree.Report.OwnersLost, tree.Report.ModesLost));
    }

    [Fact]
    public void Map_translates_owners_also_of_links_and_unlisted_directories_and_binds_capabilities_to_the_mapped_root()
    {
        SkipUnlessRoot();
        using Tree tree = new(
            Mapped with { Format = LayerFormat.Flat },
            File("unlisted/file", 0x9ED, 0, 999, ("security.capability", "\u0001\0\0\u0002\0\u0004\0\0\0\0\0\0\0\0\0\0\0\0\0\0")),
            Special(TarEntryType.SymbolicLink, "link", 999, 0));

        Assert.Equal((0x9EDu, 100000u, 200999u), tree.ModeAndOwner("unlisted/file"));
        Assert.Equal((0x1EDu, 100000u, 200000u), tree.ModeAndOwner("unlisted"));
        Assert.Equal((100999u, 200000u), (tree.Status("link").Uid, tree.Status("link").Gid));
        Assert.Equal(
            [1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xA0, 0x86, 0x01, 0x00],
            tree.XattrBytes("unlisted/file", "security.capability"));
        Assert.False(tree.Report.LostAnything);
    }

    [Fact]
    public void Map_translates_whom_an_ACL_names()
    {
        SkipUnlessRoot();
        string acl = Acl((1, 6, 0), (2, 6, 5), (4, 4, 0), (8, 6, 7), (16, 6, 0), (32, 4, 0));
        using Tree tree = new(
            Mapped with { Format = LayerFormat.Flat },
            File("f", 0x1B4, 1, 2, ("system.posix_acl_access", acl)),
            Owned(new PaxTarEntry(TarEntryType.Directory, "d", [KeyValuePair.Create("SCHILY.xattr.system.posix_acl_default", acl)]), 1, 2, 0x1ED));

        byte[] expected = Encoding.Latin1.GetBytes(
            Acl((1, 6, uint.MaxValue), (2, 6, 100005), (4, 4, uint.MaxValue), (8, 6, 200007), (16, 6, uint.MaxValue), (32, 4, uint.MaxValue)));
        Assert.Equal(expected, tree.XattrBytes("f", "system.posix_acl_access"));
        Assert.Equal(expected, tree.XattrBytes("d", "system.posix_acl_default"));
        Assert.Equal((0x1B4u, 100001u, 200002u), tree.ModeAndOwner("f"));
    }

    [Theory]
    [InlineData(2, "f gives rights to user 1100, which no --uid-map has")]
    [InlineData(8, "f gives rights to group 1100, which no --gid-map has")]
    public void An_ACL_that_names_somebody_in_no_range_is_refused(ushort tag, string says)
    {
        SkipUnlessRoot();
        string acl = Acl((1, 6, 0), (4, 4, 0), (tag, 6, 1100), (16, 6, 0), (32, 4, 0));

        PullException refused = Assert.Throws<PullException>(() => new Tree(Mapped with { Format = LayerFormat.Flat }, File("f", 0x1B4, 0, 0, ("system.posix_acl_access", acl))));

        Assert.Equal(PullError.Unsupported, refused.Reason);
        Assert.Contains(says, refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1000, 0, "user 1000", "--uid-map")]
    [InlineData(0, 1000, "group 1000", "--gid-map")]
    public void A_number_in_no_range_is_refused_with_entry_and_number(uint uid, uint gid, string number, string option)
    {
        SkipUnlessRoot();

        PullException refused = Assert.Throws<PullException>(() => new Tree(Mapped with { Format = LayerFormat.Flat }, File("a/b", 0x1A4, uid, gid)));

        Assert.Equal(PullError.Unsupported, refused.Reason);
        Assert.Contains("a/b", refused.Message, StringComparison.Ordinal);
        Assert.Contains(number, refused.Message, StringComparison.Ordinal);
        Assert.Contains(option, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_link_to_a_mapped_file_below_is_not_mapped_twice()
    {
        SkipUnlessRoot();
        ExtractOptions options = Mapped with { UidMap = [new IdRange(0, 100, 50)], GidMap = [new IdRange(0, 100, 50)] };
        using Tree lower = new(options, File("f", 0x1A4, 3, 4), Special(TarEntryType.Fifo, "p", 3, 4), Special(TarEntryType.SymbolicLink, "l", 3, 4));
        using Tree upper = new(options, [lower], HardLink("f2", "f"), HardLink("p2", "p"), HardLink("l2", "l"));

        Assert.All(["f2", "p2", "l2"], name => Assert.Equal((103u, 104u), (upper.Status(name).Uid, upper.Status(name).Gid)));
    }

    [Fact]
    public void Override_stat_writes_what_each_reader_takes_and_leaves_the_maker_able_to_work()
    {
        using Tree tree = new(
            new ExtractOptions { Ownership = OwnershipPolicy.OverrideStat, Format = LayerFormat.Overlay, Xattrs = XattrPolicy.Try, Whiteouts = WhiteoutStyle.OverlayUser },
            File("unlisted/ro", 0x100, 5, 6, ("user.containers.override_stat", "0:0:0104777")),
            File("su", 0x9ED, 0, 0),
            Special(TarEntryType.Directory, "closed", 7, 8, 0x3FF & 0x240),
            Special(TarEntryType.CharacterDevice, "null", 0, 0, 0x1B6, 1, 3),
            Special(TarEntryType.BlockDevice, "disk", 0, 6, 0x1B0, 259, 1048575),
            Special(TarEntryType.Fifo, "fifo", int.MaxValue, 1, 0x192),
            Special(TarEntryType.SymbolicLink, "link", 9, 9),
            HardLink("hard", "su"));

        Assert.Equal("0:0:040755", tree.Xattr("", "user.containers.override_stat"));
        Assert.Equal("0:0:040755", tree.Xattr("unlisted", "user.containers.override_stat"));
        Assert.Equal("5:6:0100400", tree.Xattr("unlisted/ro", "user.containers.override_stat"));
        Assert.Equal("0:0:0104755", tree.Xattr("hard", "user.containers.override_stat"));
        Assert.Equal("7:8:041100", tree.Xattr("closed", "user.containers.override_stat"));
        Assert.Equal("0:0:0666:char-1-3", tree.Xattr("null", "user.containers.override_stat"));
        Assert.Equal("0:6:0660:block-259-1048575", tree.Xattr("disk", "user.containers.override_stat"));
        Assert.Equal("2147483647:1:0622:pipe", tree.Xattr("fifo", "user.containers.override_stat"));
        Assert.All(["unlisted/ro", "su", "null", "disk", "fifo"], name => Assert.Equal(FileType.Regular, tree.Status(name).Type));
        Assert.Equal((0x180u, Libc.EffectiveUser, Libc.EffectiveGroup), tree.ModeAndOwner("unlisted/ro"));
        Assert.Equal((0x1EDu, Libc.EffectiveUser, Libc.EffectiveGroup), tree.ModeAndOwner("su"));
        Assert.Equal((0x1C0u, Libc.EffectiveUser, Libc.EffectiveGroup), tree.ModeAndOwner("closed"));
        // the link's owner, and the image's own attribute
        Assert.Equal((1, 1, 0), (tree.Report.OwnersLost, tree.Report.XattrsLost, tree.Report.DevicesSkipped));
    }

    [Fact]
    public void An_implied_directory_and_a_link_to_a_file_below_take_the_recorded_owner_with_them()
    {
        ExtractOptions options = new() { Ownership = OwnershipPolicy.OverrideStat, Format = LayerFormat.Overlay, Whiteouts = WhiteoutStyle.OverlayUser };
        using Tree lower = new(options, Special(TarEntryType.Directory, "d", 5, 6, 0x1C9), File("d/f", 0x9ED, 7, 8), Special(TarEntryType.CharacterDevice, "d/n", 0, 0, 0x1B6, 1, 3));
        using Tree upper = new(options, [lower], HardLink("d/f2", "d/f"), HardLink("n2", "d/n"));

        Assert.Equal("5:6:040711", upper.Xattr("d", "user.containers.override_stat"));
        Assert.Equal("7:8:0104755", upper.Xattr("d/f2", "user.containers.override_stat"));
        Assert.Equal("0:0:0666:char-1-3", upper.Xattr("n2", "user.containers.override_stat"));
    }

    [Theory]
    [InlineData(LayerFormat.Overlay, WhiteoutStyle.Overlay, "trusted.overlay.overlay.opaque", "user.overlay.opaque")]
    [InlineData(LayerFormat.Overlay, WhiteoutStyle.OverlayUser, "trusted.overlay.opaque", "user.overlay.overlay.opaque")]
    [InlineData(LayerFormat.Flat, WhiteoutStyle.Overlay, "trusted.overlay.opaque", "user.overlay.opaque")]
    internal void An_images_own_overlay_attributes_are_escaped_in_the_style_that_would_obey_them(LayerFormat format, WhiteoutStyle style, string trusted, string user)
    {
        SkipUnlessRoot();
        using Tree tree = new(
            new ExtractOptions { Privileges = Root, Format = format, Whiteouts = style },
            File("f", 0x1A4, 0, 0, ("trusted.overlay.opaque", "t"), ("user.overlay.opaque", "u")));

        Assert.Equal([(trusted, "t"), (user, "u")], tree.Xattrs("f"));
    }

    [Fact]
    public void Attributes_that_no_file_of_Linux_has_are_counted_and_keep_nobody_from_the_image()
    {
        SkipUnlessRoot();
        PaxTarEntry link = new(TarEntryType.SymbolicLink, "link", [KeyValuePair.Create("SCHILY.xattr.user.a", "1"), KeyValuePair.Create("SCHILY.xattr.system.posix_acl_access", "2")]) { LinkName = "x" };
        PaxTarEntry fifo = new(TarEntryType.Fifo, "fifo", [KeyValuePair.Create("SCHILY.xattr.user.a", "1"), KeyValuePair.Create("SCHILY.xattr.trusted.a", "1")]);
        using Tree tree = new(
            new ExtractOptions { Privileges = Root, Format = LayerFormat.Flat },
            File("f", 0x1A4, 0, 0, ("com.apple.provenance", "1"), ("user.a", "1")),
            Owned(link, 0, 0, 0x1FF),
            Owned(fifo, 0, 0, 0x1A4));

        Assert.Equal([("user.a", "1")], tree.Xattrs("f"));
        Assert.Equal((FileType.Symlink, FileType.Fifo), (tree.Status("link").Type, tree.Status("fifo").Type));
        Assert.Equal(4, tree.Report.XattrsLost);
    }

    [Fact]
    public void Dropped_attributes_are_counted()
    {
        using Tree tree = new(new ExtractOptions { Format = LayerFormat.Flat, Xattrs = XattrPolicy.Drop }, File("f", 0x1A4, Libc.EffectiveUser, Libc.EffectiveGroup, ("user.a", "1"), ("user.b", "2")));

        Assert.Empty(tree.Xattrs("f"));
        Assert.Equal(2, tree.Report.XattrsLost);
    }

    [Theory]
    [InlineData(LayerFormat.Flat, DevicePolicy.Skip, 3)]
    [InlineData(LayerFormat.Overlay, DevicePolicy.Skip, 3)]
    [InlineData(LayerFormat.Overlay, DevicePolicy.Make, 0)] // the kernel's whiteout, which no layer can hold
    internal void Other_names_of_a_device_that_is_left_out_are_left_out_and_counted_too(LayerFormat format, DevicePolicy devices, int minor)
    {
        SkipUnlessRoot();
        using Tree tree = new(
            new ExtractOptions { Privileges = Root, Format = format, Devices = devices },
            Special(TarEntryType.CharacterDevice, "d/null", 0, 0, 0x1B6, minor == 0 ? 0 : 1, minor),
            HardLink("d/hard", "d/null"),
            File("other", 0x1A4, 0, 0),
            HardLink("other", "d/hard"),
            File("d/null", 0x1A4, 0, 0),
            HardLink("d/again", "d/null"));

        Assert.Equal(3, tree.Report.DevicesSkipped);
        Assert.Equal(tree.Status("d/null").Inode, tree.Status("d/again").Inode);
        Assert.All(["d/hard", "other"], name => Assert.True(tree.IsAbsent(name)));
    }

    [Theory]
    [InlineData(WhiteoutStyle.Overlay)]
    [InlineData(WhiteoutStyle.OverlayUser)]
    internal void A_whiteout_without_a_device_is_one_to_us_and_goes_when_its_directory_becomes_opaque(WhiteoutStyle style)
    {
        SkipUnlessRoot();
        using TemporaryDirectory directory = new();
        using SafeFileHandle handle = Libc.TryOpenDirectory(directory.Path)!;
        System.IO.File.WriteAllText(directory["empty"], "");

        Assert.Equal(0, OverlayMarks.MakeEmptyWhiteout(handle, "gone\0"u8, style));
        Assert.Equal(Errno.Exists, OverlayMarks.MakeEmptyWhiteout(handle, "gone\0"u8, style));

        Assert.True(IsWhiteout("gone\0"u8.ToArray()));
        Assert.False(IsWhiteout("empty\0"u8.ToArray()));
        Assert.False(OverlayMarks.IsOpaque(handle, style));

        bool IsWhiteout(byte[] name)
        {
            Assert.Equal(0, Libc.TryStatusAt(handle, name, out FileStatus status));
            return OverlayMarks.IsWhiteout(handle, name, status, style);
        }
    }

    [Fact]
    public void Where_the_kernel_has_no_setxattrat_a_links_and_a_nodes_attributes_are_set_by_way_of_proc_and_not_through_the_link()
    {
        SkipUnlessRoot();
        using TemporaryDirectory directory = new();
        using SafeFileHandle handle = Libc.TryOpenDirectory(directory.Path)!;
        System.IO.File.WriteAllText(directory["target"], "");
        Assert.Equal(0, Libc.MakeSymlink("target\0"u8, handle, "link\0"u8));
        Assert.Equal(0, Libc.MakeNode(handle, "fifo\0"u8, FileType.Fifo | 0x1A4, 0, 0));

        foreach (byte[] name in new[] { "link\0"u8.ToArray(), "fifo\0"u8.ToArray() })
        {
            Assert.Equal(0, Libc.SetXattrThroughProc(handle, name, "trusted.a\0"u8, "1"u8));
            Assert.Equal(0, Libc.SetXattrAt(handle, name, "trusted.b\0"u8, "2"u8));
            Assert.Equal(Errno.PermissionDenied, Libc.SetXattrThroughProc(handle, name, "user.a\0"u8, "1"u8));
            Assert.Equal(Errno.PermissionDenied, Libc.SetXattrAt(handle, name, "user.a\0"u8, "1"u8));
        }

        using SafeFileHandle target = System.IO.File.OpenHandle(directory["target"]);
        Assert.Empty(Libc.GetXattrs(target, "target"));
        Assert.Equal(Errno.NoEntry, Libc.SetXattrThroughProc(handle, "absent\0"u8, "trusted.a\0"u8, "1"u8));
    }

    [Fact]
    public void Trees_made_under_different_policies_have_different_names()
    {
        ExtractOptions strict = new() { Privileges = Root, Format = LayerFormat.Overlay };
        ExtractOptions[] all =
        [
            strict,
            strict with { Whiteouts = WhiteoutStyle.OverlayUser },
            strict with { Privileges = Root with { AnyOwner = false } },
            strict with { Ownership = OwnershipPolicy.Squash },
            strict with { Ownership = OwnershipPolicy.OverrideStat },
            Mapped,
            Mapped with { GidMap = [new IdRange(0, 200000, 999)] },
            strict with { Xattrs = XattrPolicy.Try },
            strict with { Xattrs = XattrPolicy.Drop },
            strict with { Devices = DevicePolicy.Skip },
        ];

        Assert.Equal("", strict.Variant);
        Assert.Equal(all.Length, all.Select(options => options.Variant).Distinct().Count());
        Assert.All(all, options => Assert.Equal(options.Whiteouts == WhiteoutStyle.OverlayUser, ExtractOptions.IsForUserXattr(options.Variant)));
    }

    private static ExtractOptions Mapped => new()
    {
        Privileges = Root,
        Ownership = OwnershipPolicy.Map,
        UidMap = [new IdRange(0, 100000, 1000)],
        GidMap = [new IdRange(0, 200000, 1000)],
    };

    private static void SkipUnlessRoot() => Assert.SkipUnless(Environment.IsPrivilegedProcess, "setting owners and trusted.* attributes needs root");

    // Bytes below 128 as characters, as the entries here take attributes; the numbers of those without a name are as good as none (struct posix_acl_xattr_header and _entry of linux/posix_acl_xattr.h).
    private static string Acl(params (ushort Tag, ushort Permissions, uint Id)[] entries) => Encoding.Latin1.GetString(
        [2, 0, 0, 0, .. entries.SelectMany(entry => (byte[])[.. BitConverter.GetBytes(entry.Tag), .. BitConverter.GetBytes(entry.Permissions), .. BitConverter.GetBytes(entry.Id)])]);

    private static PaxTarEntry File(string name, uint mode, uint uid, uint gid, params (string Name, string Value)[] xattrs) =>
        Owned(new PaxTarEntry(TarEntryType.RegularFile, name, xattrs.Select(xattr => KeyValuePair.Create("SCHILY.xattr." + xattr.Name, xattr.Value))) { DataStream = new MemoryStream("x"u8.ToArray()) }, uid, gid, mode);

    private static PaxTarEntry Special(TarEntryType type, string name, uint uid, uint gid, uint mode = 0x1FF, int major = 0, int minor = 0)
    {
        PaxTarEntry entry = new(type, name);
        if (type == TarEntryType.SymbolicLink)
        {
            entry.LinkName = "target";
        }

        if (type is TarEntryType.CharacterDevice or TarEntryType.BlockDevice)
        {
            (entry.DeviceMajor, entry.DeviceMinor) = (major, minor);
        }

        return Owned(entry, uid, gid, mode);
    }

    private static PaxTarEntry HardLink(string name, string target) => new(TarEntryType.HardLink, name) { LinkName = target };

    private static PaxTarEntry Owned(PaxTarEntry entry, uint uid, uint gid, uint mode)
    {
        (entry.Uid, entry.Gid, entry.Mode, entry.ModificationTime) = ((int)uid, (int)gid, (UnixFileMode)mode, DateTimeOffset.UnixEpoch);
        return entry;
    }

    /// <summary>A layer extracted into a temporary directory.</summary>
    private sealed class Tree : IDisposable
    {
        private readonly TemporaryDirectory directory = new();

        internal Tree(ExtractOptions options, params PaxTarEntry[] entries)
            : this(options, [], entries)
        {
        }

        internal Tree(ExtractOptions options, Tree[] lowers, params PaxTarEntry[] entries)
        {
            using MemoryStream tar = new();
            using (TarWriter writer = new(tar, TarEntryFormat.Pax, leaveOpen: true))
            {
                foreach (PaxTarEntry entry in entries)
                {
                    writer.WriteEntry(entry);
                }
            }

            tar.Position = 0;
            RootDirectory[] opened = [.. lowers.Select(lower => RootDirectory.Open(lower.directory.Path))];
            using RootDirectory root = RootDirectory.Open(directory.Path);
            using LayerApplier applier = new(root, options);
            applier.Apply(tar, TestContext.Current.CancellationToken);
            applier.Settle(opened, TestContext.Current.CancellationToken);
            Report = applier.Report;
            Array.ForEach(opened, lower => lower.Dispose());
        }

        internal ExtractReport Report { get; }

        internal FileStatus Status(string path)
        {
            using SafeFileHandle root = Libc.TryOpenDirectory(directory.Path)!;
            Assert.Equal(0, Libc.TryStatusAt(root, Encoding.UTF8.GetBytes((path.Length == 0 ? "." : path) + "\0"), out FileStatus status));
            return status;
        }

        internal bool IsAbsent(string path)
        {
            using SafeFileHandle root = Libc.TryOpenDirectory(directory.Path)!;
            return Libc.TryStatusAt(root, Encoding.UTF8.GetBytes(path + "\0"), out _) == Errno.NoEntry;
        }

        internal (uint Mode, uint Uid, uint Gid) ModeAndOwner(string path) => Status(path) is var status ? (status.Permissions, status.Uid, status.Gid) : default;

        internal string? Xattr(string path, string name) => XattrBytes(path, name) is { } value ? Encoding.UTF8.GetString(value) : null;

        internal byte[]? XattrBytes(string path, string name)
        {
            using SafeFileHandle file = Open(path);
            return Libc.GetXattr(file, Encoding.UTF8.GetBytes(name + "\0"));
        }

        internal IReadOnlyList<(string Name, string Value)> Xattrs(string path)
        {
            using SafeFileHandle file = Open(path);
            return [.. Libc.GetXattrs(file, path).Select(xattr => (Encoding.UTF8.GetString(xattr.Name).TrimEnd('\0'), Encoding.UTF8.GetString(xattr.Value))).Order()];
        }

        public void Dispose() => directory.Dispose();

        private SafeFileHandle Open(string path)
        {
            using SafeFileHandle root = Libc.TryOpenDirectory(directory.Path)!;
            Assert.Equal(0, Libc.OpenAt(root, Encoding.UTF8.GetBytes((path.Length == 0 ? "." : path) + "\0"), OpenFlags.ReadOnly, 0, out SafeFileHandle? file));
            return file!;
        }
    }
}
