using System.Text;
using NativePull.Layers;
using NativePull.Tests.Fakes;
using static NativePull.Tests.Layers.TarArchive;

namespace NativePull.Tests.Layers;

/// <summary>Extended headers: the records' grammar, what each key does, and which of two headers wins.</summary>
public class PaxRecordsTests
{
    public static TheoryData<string, string> BadHeaders => new()
    {
        { "no length", "path=a\n" },
        { "no space", "9path=a\n" },
        { "a length of zero", "0 path=a\n" },
        { "a length that is too short", "5 path=a\n" },
        { "a length that is too long", "99 path=a\n" },
        { "a length that ends before the newline", "8 path=a\n" },
        { "a negative length", "-10 path=a\n" },
        { "a signed length", "+10 path=a\n" },
        { "a length beyond 63 bits", "99999999999999999999 path=a\n" },
        { "no key", "5 =a\n" },
        { "no equals sign", "8 patha\n" },
        { "no newline", "9 path=aa" },
        { "garbage after a record", "9 uid=12\ngarbage" },
        { "a letter in a size", "10 size=a\n" },
        { "a negative size", "11 size=-1\n" },
        { "a signed uid", "9 uid=+1\n" },
        { "a uid with a space", "9 uid= 1\n" },
        { "a uid beyond 2^32 - 2", "18 uid=4294967295\n" },
        { "a size beyond 63 bits", "28 size=9223372036854775808\n" },
        { "an mtime without digits", "11 mtime=.\n" },
        { "an mtime with two points", "15 mtime=1.2.3\n" },
        { "an mtime with an exponent", "13 mtime=1e5\n" },
        { "an mtime beyond 63 bits", "30 mtime=99999999999999999999\n" },
        { "an xattr without a name", "18 SCHILY.xattr.=v\n" },
        { "an xattr value that is no base64", "30 LIBARCHIVE.xattr.user.a=!!!!\n" },
    };

    [Theory]
    [MemberData(nameof(BadHeaders))]
    public void A_broken_header_is_malformed(string name, string content) =>
        Assert.True(Refused(new TarBuilder().RawPax(content).File("f").End().ToArray(), PullError.Malformed) is not null, name);

    [Theory]
    [InlineData("path", "a\0b")]
    [InlineData("linkpath", "a\0b")]
    [InlineData("GNU.sparse.name", "a\0b")]
    [InlineData("SCHILY.xattr.user.a\0b", "v")]
    [InlineData("LIBARCHIVE.xattr.user.a%00b", "")]
    public void A_NUL_in_a_name_is_malformed(string key, string value) =>
        Refused(new TarBuilder().Pax(key, value).File("f").End().ToArray(), PullError.Malformed);

    [Theory]
    [InlineData("1", 1, 0)]
    [InlineData("1.5", 1, 500_000_000)]
    [InlineData("1.", 1, 0)]
    [InlineData("1700000000.123456789", 1700000000, 123_456_789)]
    [InlineData("1.9999999999", 1, 999_999_999)]
    [InlineData("0.000000001", 0, 1)]
    [InlineData("-1", -1, 0)]
    [InlineData("-0.5", -1, 500_000_000)]
    [InlineData("-1.25", -2, 750_000_000)]
    [InlineData("-0", 0, 0)]
    [InlineData("253402300800", 253402300800, 0)]
    [InlineData("-9223372036854775806", -9223372036854775806, 0)]
    public void Times_have_fractions_and_signs(string text, long seconds, int nanoseconds) =>
        Assert.Equal(new TarTime(seconds, nanoseconds), One(new TarBuilder().Pax("mtime", text).File("f", mtime: 77).End().ToArray()).Modified);

    [Fact]
    public void Each_key_wins_over_the_header()
    {
        byte[] archive = new TarBuilder()
            .Pax("path", "the/path").Pax("uid", "4294967294").Pax("gid", "3000000000").Pax("mtime", "9.5").Pax("size", "3")
            .Member("x", '0', fields => fields.Size(99).Uid(1).Gid(1).Mtime(1).Raw(500, "abc"), content: "abc")
            .File("after")
            .End().ToArray();

        List<(TarEntry Entry, byte[] Content)> members = Read(archive);
        TarEntry entry = members[0].Entry;

        Assert.Equal("the/path"u8, entry.Name);
        Assert.Equal((4294967294u, 3000000000u, new TarTime(9, 500_000_000), 3L), (entry.Uid, entry.Gid, entry.Modified, entry.Size));
        Assert.Equal("abc"u8, members[0].Content);
        Assert.Equal("after"u8, members[1].Entry.Name);
    }

    [Fact]
    public void A_header_field_that_a_record_replaces_may_be_garbage() =>
        Assert.Equal(5u, One(new TarBuilder().Pax("uid", "5").Member("f", '0', fields => fields.Raw(108, "garbage!")).End().ToArray()).Uid);

    [Fact]
    public void Of_a_key_given_twice_the_last_wins()
    {
        TarEntry entry = One(new TarBuilder()
            .Pax("path", "first").Pax("path", "second").Xattr("user.a", "1").Xattr("user.b", "2").Xattr("user.a", "3")
            .File("f").End().ToArray());

        Assert.Equal("second"u8, entry.Name);
        Assert.Equal(["user.a=3", "user.b=2"], Lines(entry));
    }

    [Fact]
    public void Global_headers_and_members_without_number_do_not_have_all_attributes_of_global_ones_made_again()
    {
        const int count = 5_000;
        TarBuilder tar = Enumerable.Range(0, 256).Aggregate(new TarBuilder(), (t, i) => t.Global($"SCHILY.xattr.user.{i}", "v"));
        for (int i = 0; i < count; i++)
        {
            tar.Global("uid", "7").File("f");
        }

        TarReader reader = new(new MemoryStream(tar.End().ToArray()), new TarLimits());
        long before = GC.GetAllocatedBytesForCurrentThread();
        int members = 0;
        while (reader.MoveNext())
        {
            Assert.Equal(256, reader.Current.Xattrs.Count);
            members++;
        }

        // all of them once are some 25,000 bytes
        Assert.Equal(count, members);
        Assert.InRange((GC.GetAllocatedBytesForCurrentThread() - before) / count, 0, 8_000);
    }

    [Fact]
    public void A_local_header_is_of_one_member_and_a_global_one_of_all_after_it()
    {
        byte[] archive = new TarBuilder()
            .File("one")
            .Global("uid", "7").Global("SCHILY.xattr.user.g", "all")
            .File("two")
            .Pax("uid", "8").Xattr("user.g", "mine").Xattr("user.l", "1").File("three")
            .Pax("uid", "").File("four", uid: 9)
            .Global("uid", "10").File("five")
            .Global("uid", "").File("six", uid: 11)
            .End().ToArray();

        Assert.Equal(
            ["one 0 ", "two 7 user.g=all", "three 8 user.g=mine,user.l=1", "four 9 user.g=all", "five 10 user.g=all", "six 11 user.g=all"],
            Read(archive).Select(member => $"{Encoding.UTF8.GetString(member.Entry.Name)} {member.Entry.Uid} {string.Join(',', Lines(member.Entry))}"));
    }

    [Fact]
    public void A_header_may_end_in_NULs_and_be_empty()
    {
        byte[] archive = new TarBuilder()
            .RawPax((byte[])[.. TarBuilder.Record("path", "name"), 0, 0, 0]).File("x")
            .RawPax((byte[])[]).File("y").End().ToArray();

        Assert.Equal(["name", "y"], Read(archive).Select(member => Encoding.UTF8.GetString(member.Entry.Name)));
    }

    [Fact]
    public void Suns_old_type_of_extended_header_is_read() =>
        Assert.Equal("name"u8, One(new TarBuilder().RawPax(TarBuilder.Record("path", "name"), 'X').File("x").End().ToArray()).Name);

    [Fact]
    public void Keys_that_say_nothing_of_the_tree_are_passed_over() =>
        Assert.Equal("f"u8, One(new TarBuilder()
            .Global("comment", "0123456789012345678901234567890123456789")
            .Pax("atime", "garbage").Pax("ctime", "1").Pax("uname", "root").Pax("SCHILY.dev", "5").Pax("LIBARCHIVE.creationtime", "1").Pax("hdrcharset", "BINARY")
            .File("f").End().ToArray()).Name);

    [Fact]
    public void Xattr_values_are_bytes_and_may_be_empty()
    {
        byte[] value = [0, 1, (byte)'\n', (byte)'=', 0xff, 0];
        IReadOnlyList<TarXattr> xattrs = One(new TarBuilder()
            .Xattr("security.capability", value).Xattr("user.empty", "").Xattr("user.with=equals", "x").File("f").End().ToArray()).Xattrs;

        Assert.Equal("security.capability"u8, xattrs[0].Name);
        Assert.Equal(value, xattrs[0].Value);
        Assert.Equal("user.empty"u8, xattrs[1].Name);
        Assert.Empty(xattrs[1].Value);
        // a key ends at the first equals sign
        Assert.Equal("equals=x"u8, xattrs[2].Value);
    }

    [Fact]
    public void Libarchives_xattrs_are_percent_encoded_names_and_unpadded_base64()
    {
        IReadOnlyList<TarXattr> xattrs = One(new TarBuilder()
            .Pax("LIBARCHIVE.xattr.user.a%20b%3D%ff%2", "AP8").Pax("LIBARCHIVE.xattr.user.c", "YWJj").Pax("LIBARCHIVE.xattr.user.d", "").File("f").End().ToArray()).Xattrs;

        Assert.Equal([.. "user.a b="u8, 0xff, .. "%2"u8], xattrs[0].Name);
        Assert.Equal([0, 0xff], xattrs[0].Value);
        Assert.Equal("abc"u8, xattrs[1].Value);
        Assert.Empty(xattrs[2].Value);
    }

    [Fact]
    public void A_record_beyond_ten_thousand_bytes_is_read()
    {
        string path = string.Concat(Enumerable.Repeat("directory/", 2000));

        Assert.Equal(path, Encoding.UTF8.GetString(One(new TarBuilder().Directory(path).End().ToArray()).Name));
    }

    private static IEnumerable<string> Lines(TarEntry entry) =>
        entry.Xattrs.Select(xattr => $"{Encoding.UTF8.GetString(xattr.Name)}={Encoding.UTF8.GetString(xattr.Value)}");
}
