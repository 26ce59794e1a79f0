using System.Text;
using NativePull.Layers;
using NativePull.Tests.Fakes;
using static NativePull.Tests.Layers.TarArchive;

namespace NativePull.Tests.Layers;

/// <summary>Members, their borders and the archive's end.</summary>
public class TarReaderTests
{
    public static TheoryData<string, byte[]> EmptyArchives => new()
    {
        { "no byte", [] },
        { "one zero block", new byte[512] },
        { "two zero blocks", new byte[1024] },
        { "a whole record of zero blocks", new byte[10240] },
    };

    [Theory]
    [MemberData(nameof(EmptyArchives))]
    public void An_empty_archive_has_no_members(string name, byte[] archive) => Assert.True(Read(archive).Count == 0, name);

    [Fact]
    public void Every_kind_is_read_with_its_fields()
    {
        byte[] archive = new TarBuilder()
            .Directory("d/", mode: 0x3FF, uid: 1, gid: 2, mtime: 3)
            .File("d/f", "hello", mode: 0x9ED, uid: 4, gid: 5, mtime: 6)
            .HardLink("d/h", "d/f")
            .Symlink("d/s", "../f")
            .CharacterDevice("c", 1, 3)
            .BlockDevice("b", 8, 1)
            .Fifo("p")
            .End().ToArray();

        List<(TarEntry Entry, byte[] Content)> members = Read(archive);

        Assert.Equal(
            ["Directory d/ '' 0 3FF 1:2 3", "File d/f '' 5 9ED 4:5 6", "HardLink d/h 'd/f' 0 1A4 0:0 0", "Symlink d/s '../f' 0 1FF 0:0 0",
                "CharacterDevice c '' 0 1B6 0:0 0", "BlockDevice b '' 0 1B0 0:0 0", "Fifo p '' 0 1A4 0:0 0"],
            members.Select(member => Line(member.Entry)));
        Assert.Equal("hello"u8, members[1].Content);
        Assert.Equal((1u, 3u), (members[4].Entry.DeviceMajor, members[4].Entry.DeviceMinor));
        Assert.Equal((8u, 1u), (members[5].Entry.DeviceMajor, members[5].Entry.DeviceMinor));
    }

    [Fact]
    public void The_end_marker_may_be_missing() =>
        Assert.Equal(2, Read(new TarBuilder().File("a", "x").File("b", "y").ToArray()).Count);

    [Fact]
    public void Half_an_end_marker_ends_the_archive() =>
        Assert.Single(Read(new TarBuilder().File("a", "x").Zeros(512).ToArray()));

    [Fact]
    public void The_last_padding_may_be_missing() =>
        Assert.Equal("xyz"u8, Read(new TarBuilder().File("a", "xyz").ToArray()[..(512 + 3)])[0].Content);

    [Fact]
    public void What_follows_the_end_marker_is_no_member() =>
        Assert.Single(Read(new TarBuilder().File("a").End().File("b").Raw("garbage").ToArray()));

    [Fact]
    public void Archives_without_end_markers_can_be_joined() =>
        Assert.Equal(2, Read([.. new TarBuilder().File("a", "1").ToArray(), .. new TarBuilder().File("b", "2").End().ToArray()]).Count);

    [Fact]
    public void A_lone_zero_block_between_members_is_refused() =>
        Refused(new TarBuilder().File("a").Zeros(512).File("b").End().ToArray(), PullError.Malformed);

    [Theory]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData(513)]
    [InlineData(1024 + 600)]
    public void An_archive_that_ends_inside_a_member_is_malformed(int length) =>
        Refused(new TarBuilder().File("a").File("b", new byte[1000]).ToArray()[..length], PullError.Malformed);

    [Theory]
    [InlineData('x')]
    [InlineData('L')]
    [InlineData('K')]
    public void An_extended_header_without_a_member_is_malformed(char type) =>
        Refused(new TarBuilder().RawPax(type == 'x' ? TarBuilder.Record("path", "a") : "a\0", type).End().ToArray(), PullError.Malformed);

    [Theory]
    [InlineData('1')]
    [InlineData('2')]
    [InlineData('3')]
    [InlineData('5')]
    [InlineData('6')]
    public void A_size_without_content_is_not_believed(char type)
    {
        byte[] archive = new TarBuilder().Member("a", type, fields => fields.Size(700).Link("t")).File("b", "after").End().ToArray();

        List<(TarEntry Entry, byte[] Content)> members = Read(archive);

        Assert.Equal(2, members.Count);
        Assert.Equal(0, members[0].Entry.Size);
        Assert.Equal("after"u8, members[1].Content);
    }

    [Theory]
    [InlineData(5)]
    [InlineData(512)]
    [InlineData(700)]
    [InlineData(3000)]
    public void Content_stored_with_a_link_is_passed_over(int size)
    {
        byte[] archive = new TarBuilder()
            .File("t", new byte[size])
            .Member("a", '1', fields => fields.Link("t"), Bytes.Repeat('#', size))
            .File("b", "after")
            .End().ToArray();

        List<(TarEntry Entry, byte[] Content)> members = Read(archive);

        Assert.Equal(3, members.Count);
        Assert.Equal(TarEntryKind.HardLink, members[1].Entry.Kind);
        Assert.Equal("after"u8, members[2].Content);
    }

    [Fact]
    public void A_link_with_a_size_may_be_the_last_member() =>
        Assert.Equal(TarEntryKind.HardLink, One(new TarBuilder().Member("a", '1', fields => fields.Size(700).Link("t")).ToArray()).Kind);

    [Fact]
    public void A_directory_of_an_incremental_archive_is_a_directory()
    {
        List<(TarEntry Entry, byte[] Content)> members = Read(new TarBuilder().Member("d/", 'D', content: "Yf\0\0").Member("d/e/", 'D', content: "\0").File("d/f").End().ToArray());

        Assert.Equal([TarEntryKind.Directory, TarEntryKind.Directory, TarEntryKind.File], members.Select(member => member.Entry.Kind));
    }

    [Fact]
    public void A_volume_label_is_no_file() =>
        Assert.Equal("a"u8, One(new TarBuilder().Member("my backup", 'V').File("a").End().ToArray()).Name);

    [Theory]
    [InlineData('M', "volume")]
    [InlineData('N', "long names")]
    [InlineData('A', "access control list")]
    [InlineData('E', "Solaris extended attribute")]
    [InlineData('I', "inode")]
    [InlineData('Z', "unknown")]
    [InlineData('8', "unknown")]
    [InlineData('\u00ff', "unknown")]
    public void Members_of_other_types_are_refused_by_name(char type, string meaning)
    {
        PullException refused = Refused(new TarBuilder().Member("the-name", type).End().ToArray(), PullError.Unsupported);

        Assert.Contains("the-name", refused.Message, StringComparison.Ordinal);
        Assert.Contains(meaning, refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData('\0')]
    [InlineData('7')]
    public void Older_and_contiguous_files_are_files(char type) =>
        Assert.Equal("abc"u8, Read(new TarBuilder().Member("a", type, content: "abc").End().ToArray())[0].Content);

    [Fact]
    public void A_v7_directory_is_told_by_its_slash() =>
        Assert.Equal(TarEntryKind.Directory, One(new TarBuilder().Member("d/", '\0', fields => fields.Magic(new byte[8])).End().ToArray()).Kind);

    [Fact]
    public void Content_that_is_not_read_is_passed_over()
    {
        TarReader reader = new(new TarBuilder().File("a", new byte[5000]).File("b").End().ToStream(), new TarLimits());

        Assert.True(reader.MoveNext());
        Assert.Equal(10, reader.ReadContent(new byte[10], out long position));
        Assert.Equal(0, position);
        Assert.True(reader.MoveNext());
        Assert.Equal("b"u8, reader.Current.Name);
        Assert.False(reader.MoveNext());
        Assert.False(reader.MoveNext());
    }

    [Fact]
    public void Content_tells_where_it_belongs()
    {
        TarReader reader = new(new TarBuilder().File("a", new byte[100]).End().ToStream(), new TarLimits());
        Assert.True(reader.MoveNext());

        List<(long, int)> runs = [];
        int read;
        while ((read = reader.ReadContent(new byte[40], out long position)) > 0)
        {
            runs.Add((position, read));
        }

        Assert.Equal([(0, 40), (40, 40), (80, 20)], runs);
    }

    [Fact]
    public void Gnu_long_names_are_of_the_next_member_alone()
    {
        string name = string.Concat(Enumerable.Repeat("a-directory-with-a-name/", 100)) + "file";
        string link = string.Concat(Enumerable.Repeat("../", 200)) + "target";
        byte[] archive = new TarBuilder().LongLink(link).LongName(name).Member("cut", '2', fields => fields.Link("cut")).File("b").End().ToArray();

        List<(TarEntry Entry, byte[] Content)> members = Read(archive);

        Assert.Equal(name, Encoding.UTF8.GetString(members[0].Entry.Name));
        Assert.Equal(link, Encoding.UTF8.GetString(members[0].Entry.LinkName));
        Assert.Equal("b"u8, members[1].Entry.Name);
    }

    [Fact]
    public void A_pax_path_wins_over_gnu_names_over_the_header()
    {
        byte[] archive = new TarBuilder()
            .LongName("gnu").LongLink("gnu link").Pax("path", "pax").Pax("linkpath", "pax link").Symlink("header", "header link")
            .LongName("gnu").LongLink("gnu link").Symlink("header", "header link")
            .End().ToArray();

        List<(TarEntry Entry, byte[] Content)> members = Read(archive);

        Assert.Equal(["Symlink pax 'pax link' 0 1FF 0:0 0", "Symlink gnu 'gnu link' 0 1FF 0:0 0"], members.Select(member => Line(member.Entry)));
    }

    [Fact]
    public void Names_are_bytes()
    {
        byte[] name = [0x61, 0xff, 0x0a, 0x5c, 0x80, 0x2f, 0xc3];

        Assert.Equal(name, One(new TarBuilder().File(name).End().ToArray()).Name);
        Assert.Equal(name, One(new TarBuilder().Pax("path", name).File("x").End().ToArray()).Name);
        Assert.Equal(name, One(new TarBuilder().LongName(name).File("x").End().ToArray()).Name);
    }

    private static string Line(TarEntry entry) =>
        $"{entry.Kind} {Encoding.UTF8.GetString(entry.Name)} '{Encoding.UTF8.GetString(entry.LinkName)}' {entry.Size} {entry.Mode:X} {entry.Uid}:{entry.Gid} {entry.Modified.Seconds}";
}
