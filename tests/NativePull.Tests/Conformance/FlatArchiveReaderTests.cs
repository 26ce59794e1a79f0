using System.Globalization;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>
/// The archive that the published executable writes with <c>--tar</c>, as GNU tar, bsdtar and Python's tarfile read it, against the root file system that it
/// makes of the same image: type, mode, owner, size, content, link target, time to the nanosecond, attributes of every name.
/// </summary>
public sealed class FlatArchiveReaderTests
{
    // Lists an archive as TreeListing lists a tree. tarfile itself reads the archive; what it keeps as text is taken back to bytes.
    private const string Python = """
        import hashlib, sys, tarfile
        from decimal import Decimal, ROUND_FLOOR

        def raw(text): return text.encode('utf-8', 'surrogateescape')
        def escape(data): return ''.join(chr(b) if 0x20 <= b < 0x7f and b != 0x5c else '\\x%02x' % b for b in data)

        archive = tarfile.open(sys.argv[1], encoding='utf-8', errors='surrogateescape')
        entries, groups = {}, {}
        for m in archive:
            path = raw(m.name)
            if m.islnk():
                groups[raw(m.linkname)].append(path)
                continue
            type = 'd' if m.isdir() else 'l' if m.issym() else 'p' if m.isfifo() else 'c' if m.ischr() else 'b' if m.isblk() else 'f'
            content = '-> ' + escape(raw(m.linkname)) if type == 'l' else '%d:%d' % (m.devmajor, m.devminor) if type in 'cb' else ''
            if type == 'f':
                content = hashlib.sha256(archive.extractfile(m).read()).hexdigest()
            size = m.size if type == 'f' else len(raw(m.linkname)) if type == 'l' else 0
            time = Decimal(m.pax_headers.get('mtime', m.mtime))
            seconds = int(time.to_integral_value(ROUND_FLOOR))
            xattrs = ' '.join(sorted(escape(raw(key[13:])) + '=' + raw(value).hex() for key, value in m.pax_headers.items() if key.startswith('SCHILY.xattr.')))
            what = '%s %o %d:%d %d @%d.%09d %s' % (type, m.mode, m.uid, m.gid, size, seconds, int((time - seconds) * 10**9), content)
            # a directory may be listed twice, for its time
            entries[path] = (what, xattrs)
            groups.setdefault(path, [path])
        # in the order of the listing of a tree: directory by directory, a name with the NUL that ends it
        order = lambda path: tuple(escape(part + b'\0') for part in path.split(b'/'))
        for primary, names in groups.items():
            names = sorted(names, key=order)
            what, xattrs = entries[primary]
            for name in names:
                print(escape(name) + ' ' + what + (' = ' + escape(names[0]) if name != names[0] else '') + (' [' + xattrs + ']' if xattrs else ''))
        """;

    private const string Tree = AwkwardTree.Plain + AwkwardTree.Special + AwkwardTree.Long + AwkwardTree.Times + AwkwardTree.Sparse + AwkwardTree.Attributes;

    public static TheoryData<string> Programs => ["GNU tar", "bsdtar", "bsdtar in the C locale", "Python"];

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task A_reader_finds_the_tree_in_the_archive(string program)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and devices need root");
        using TemporaryDirectory work = new();
        AwkwardTree.Run(work.Path, $"mkdir tree; cd tree\n{Tree}\ntar --format=pax --xattrs --xattrs-include='*' -S -cf ../a .");
        using LayerRun run = new(new[] { await File.ReadAllBytesAsync(work["a"], TestContext.Current.CancellationToken), Names() }.Select(LayoutLayer.Of));

        (await run.ExtractAsync()).Expect(0);

        AssertRead(run, program);
    }

    [Fact]
    public async Task Paths_longer_than_any_call_takes_are_in_every_output()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        string directory = string.Join('/', Enumerable.Repeat(new string('d', 250), 20));
        string narrow = string.Join('/', Enumerable.Repeat("d", 2_500));
        byte[] tar = new TarBuilder()
            .File(directory + "/f", "wide", uid: 5).HardLink(directory + "/h", directory + "/f").Symlink(directory + "/l", directory[..4000])
            .Pax("hdrcharset", "BINARY").Pax("path", (byte[])[.. ((Bytes)directory).Value, (byte)'/', 0xff, (byte)'\n']).File("x", "bytes")
            .File(narrow + "/f", "narrow").HardLink("h", narrow + "/f").End().ToArray();
        using LayerRun run = new(LayoutLayer.Of(tar));

        (await run.ExtractAsync()).Expect(0);

        TreeListing rootfs = TreeListing.Of(run["r"]);
        Assert.Equal(20 + 2_500 + 7, rootfs.Count);
        Assert.Equal(Expected.File(directory + "/f", "wide", uid: 5), rootfs[directory + "/f"]);
        Assert.Equal(Expected.File(directory + "/h", "wide", uid: 5, linkedTo: directory + "/f"), rootfs[directory + "/h"]);
        Assert.Equal(Expected.Link(directory + "/l", directory[..4000]), rootfs[directory + "/l"]);
        Assert.Equal(Expected.File(directory + "/\\xff\\x0a", "bytes"), rootfs[directory + "/\\xff\\x0a"]);
        Assert.Equal("d", rootfs[narrow + "/f"]!.Path[..1]);
        TreeListing.AssertSame(rootfs, TreeListing.Of(Assert.Single(Directory.GetDirectories(run["l"]))));
        AssertRead(run, "Python");
        // these two hand a path to the kernel as it is, and cannot unpack it; they see all of it
        foreach (string program in new[] { "tar --quoting-style=escape", "bsdtar" })
        {
            AwkwardTree.Run(run.Path, $"LC_ALL=C.UTF-8 {program} -tf x >list; [ $(wc -l <list) -ge {rootfs.Count} ]; grep -qx '{narrow}/f' list");
        }
    }

    [Fact]
    public async Task Standard_output_has_the_same_bytes_and_other_readers_take_it_from_there()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners need root");
        using LayerRun run = new(LayoutLayer.Of(Names()));

        (await run.ExtractAsync()).Expect(0);

        AwkwardTree.Run(
            run.Path,
            $"np() {{ '{Binary.File}' extract oci:layout -q --platform linux/amd64 --tar -; }}; np | cmp - x; mkdir g b; np | tar -x -p --numeric-owner -C g; np | bsdtar -x -p --numeric-owner -C b -f -");
        TreeListing rootfs = TreeListing.Of(run["r"]);
        TreeListing.AssertSame(rootfs.Select(WithoutRoot), TreeListing.Of(run["g"]).Select(WithoutRoot));
        TreeListing.AssertSame(rootfs.Select(WithoutRoot), TreeListing.Of(run["b"]).Select(WithoutRoot));

        static TreeEntry? WithoutRoot(TreeEntry entry) => entry.Path == "." ? null : entry;
    }

    private static void AssertRead(LayerRun run, string program)
    {
        TreeListing rootfs = TreeListing.Of(run["r"]);
        if (program == "Python")
        {
            File.WriteAllText(run["list.py"], Python);
            AwkwardTree.Run(run.Path, "python3 list.py x >python");
            Assert.Equal(
                rootfs.Entries.Select(entry => entry.ToString()).Order(StringComparer.Ordinal), File.ReadAllLines(run["python"]).Order(StringComparer.Ordinal));
            return;
        }

        string locale = program.EndsWith("C locale", StringComparison.Ordinal) ? "C" : "C.UTF-8";
        AwkwardTree.Run(run.Path, "mkdir u; export LC_ALL=" + locale + (program == "GNU tar"
            ? "; tar -x -p --numeric-owner --xattrs --xattrs-include='*' -C u -f x"
            : "; bsdtar -x -p --numeric-owner --xattrs --same-owner -C u -f x"));
        // libarchive leaves the time of "." alone, and reads a quarter of a second before a second as one after it
        TreeEntry Comparable(TreeEntry entry) =>
            program != "GNU tar" && (entry.Path == "." || entry.Modified.StartsWith('-')) ? entry with { Modified = "" } : entry;
        TreeListing.AssertSame(rootfs.Select(Comparable), TreeListing.Of(run["u"]).Select(Comparable));
    }

    // Every byte that a name may have, names and targets on either side of each header's length, and what is in one of the two and not in UTF-8.
    private static byte[] Names()
    {
        TarBuilder tar = new TarBuilder().Directory("bytes/").Directory("lengths/").Directory("links/");
        for (int value = 1; value < 256; value++)
        {
            if (value is not ('/' or '.'))
            {
                tar.Member((byte[])[.. "bytes/"u8, (byte)value], '0', fields => fields.Mtime(value), value.ToString(CultureInfo.InvariantCulture));
            }
        }

        foreach (int length in new[] { 91, 92, 93, 100, 101, 154, 155, 156, 254, 255 })
        {
            string name = "lengths/" + new string('n', length);
            Bytes bytes = Bytes.Latin1("lengths/" + new string('\u00ff', length));
            tar.File(name, "x").File(bytes, "y")
                .HardLink($"links/h{length}", name).HardLink($"links/b{length}", bytes)
                .Symlink($"links/s{length}", new string('t', length)).Symlink($"links/t{length}", Bytes.Latin1(new string('\u00fe', length)))
                .Symlink(new string('l', length), Bytes.Latin1(new string('\u00fd', length))).Symlink(Bytes.Latin1(new string('\u00fc', length)), new string('t', length));
        }

        return tar.Symlink("links/all", (byte[])[.. Enumerable.Range(1, 255).Select(value => (byte)value)])
            .File("a\nb").File("a\\nb").File("a\tb ").File("-rf").File("\u001b[31m").End().ToArray();
    }
}
