using System.Text;
using NativePull.Layers;
using NativePull.Tests.Fakes;
using static NativePull.Tests.Layers.TarArchive;

namespace NativePull.Tests.Layers;

/// <summary>Fields of the 512-byte block, in all the ways programs have written them.</summary>
public class TarHeaderTests
{
    public static TheoryData<string, byte[], long> Numbers => new()
    {
        { "octal and NUL", "00000000017\0"u8.ToArray(), 15 },
        { "octal and space", "00000000017 "u8.ToArray(), 15 },
        { "octal without an end", "000000000017"u8.ToArray(), 15 },
        { "spaces before", "         17\0"u8.ToArray(), 15 },
        { "NULs before", "\0\0\0\0\0\0\0\0\0\017"u8.ToArray(), 15 },
        { "space and NUL after", "17 \0\0\0\0\0\0\0\0\0"u8.ToArray(), 15 },
        { "nothing", new byte[12], 0 },
        { "spaces alone", "            "u8.ToArray(), 0 },
        { "the largest octal", "777777777777"u8.ToArray(), (1L << 36) - 1 },
        { "base-256", [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], 258 },
        { "base-256 of 63 bits", [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], long.MaxValue },
        { "base-256, negative", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], -2 },
        { "base-256, the least", [0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], long.MinValue },
    };

    public static TheoryData<string, byte[]> Garbage => new()
    {
        { "the digit 8", "00000000018\0"u8.ToArray() },
        { "a minus", "-0000000017\0"u8.ToArray() },
        { "hexadecimal", "0x000000017\0"u8.ToArray() },
        { "letters", "abcdefghijk\0"u8.ToArray() },
        { "one letter at the end", "0000000001z\0"u8.ToArray() },
        { "base-256 of 64 bits", [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] },
        { "base-256 of 90 bits", [0x83, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] },
        { "base-256, below the least", [0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
    };

    [Theory]
    [MemberData(nameof(Numbers))]
    public void Numbers_are_read(string name, byte[] field, long value)
    {
        byte[] archive = new TarBuilder().Member("d/", '5', fields => fields.Raw(136, field)).End().ToArray();

        Assert.True(value == One(archive).Modified.Seconds, name);
    }

    [Theory]
    [MemberData(nameof(Garbage))]
    public void Garbage_in_a_number_is_malformed(string name, byte[] field)
    {
        foreach (int offset in new[] { 124, 136 })
        {
            PullException refused = Refused(new TarBuilder().Member("f", '0', fields => fields.Raw(offset, field)).End().ToArray(), PullError.Malformed);

            Assert.True(refused.Message.Contains("field is", StringComparison.Ordinal), name);
        }
    }

    [Fact]
    public void Owners_go_up_to_two_below_2_to_32()
    {
        TarEntry entry = One(new TarBuilder().File("f", uid: 0xFFFF_FFFE, gid: 0x8000_0000).End().ToArray());

        Assert.Equal((0xFFFF_FFFEu, 0x8000_0000u), (entry.Uid, entry.Gid));
        Refused(new TarBuilder().File("f", uid: 0xFFFF_FFFF).End().ToArray(), PullError.Malformed);
        Refused(new TarBuilder().File("f", gid: 1L << 32).End().ToArray(), PullError.Malformed);
        Refused(new TarBuilder().File("f", gid: -1).End().ToArray(), PullError.Malformed);
    }

    [Theory]
    [InlineData('0')]
    [InlineData('1')]
    [InlineData('5')]
    [InlineData('x')]
    [InlineData('L')]
    [InlineData('V')]
    public void A_negative_size_is_malformed(char type) =>
        Refused(new TarBuilder().Member("f", type, fields => fields.Size(-1)).End().ToArray(), PullError.Malformed);

    [Theory]
    [InlineData(long.MaxValue)]
    [InlineData(long.MaxValue - 511)]
    [InlineData(1L << 62)]
    public void A_size_near_2_to_63_ends_where_the_archive_does(long size) =>
        Refused(new TarBuilder().Member("f", '0', fields => fields.Size(size), new byte[512]).End().ToArray(), PullError.Malformed);

    [Theory]
    [InlineData("0000000\0")]
    [InlineData("\0\0\0\0\0\0\0\0")]
    [InlineData("garbage!")]
    public void A_wrong_checksum_is_malformed(string field) => Assert.Contains(
        "checksum",
        Refused(new TarBuilder().Member("f", '0', fields => fields.Checksum(field)).End().ToArray(), PullError.Malformed).Message,
        StringComparison.Ordinal);

    [Fact]
    public void A_flipped_bit_is_malformed()
    {
        byte[] archive = new TarBuilder().File("file", "x", uid: 7).End().ToArray();
        for (int i = 0; i < 512; i++)
        {
            byte[] changed = [.. archive];
            changed[i] ^= 1;
            // digits of the checksum end in NUL and space, which do not count
            if (i is not (154 or 155))
            {
                Refused(changed, PullError.Malformed);
            }
        }
    }

    [Fact]
    public void Sums_of_signed_bytes_are_right_too()
    {
        byte[] name = [0xff, 0xfe, (byte)'a'];
        byte[] block = new TarFields().Name(name).Type('5').ToBlock();
        long signed = block.Select((b, i) => i is >= 148 and < 156 ? (long)' ' : (sbyte)b).Sum();

        Assert.Equal(name, One(new TarBuilder().Member(name, '5', fields => fields.Checksum($"{Convert.ToString(signed, 8).PadLeft(6, '0')}\0 ")).End().ToArray()).Name);
    }

    [Theory]
    [InlineData("ustar\0" + "00", "", "the/prefix/name")]
    [InlineData("ustar\0" + "00", "tar\0", "the/prefix/name")]
    [InlineData("ustar  \0", "", "name")]
    [InlineData("\0\0\0\0\0\0\0\0", "", "name")]
    public void A_prefix_is_read_where_the_format_has_one(string magic, string end, string name) =>
        Assert.Equal(name, Encoding.UTF8.GetString(One(new TarBuilder()
            .Member("name", '0', fields => fields.Magic(magic).Prefix("the/prefix").Raw(508, end))
            .End().ToArray()).Name));

    [Fact]
    public void Fields_may_be_full_to_their_last_byte()
    {
        string name = new('n', 100);
        string prefix = new('p', 155);
        string link = new('l', 100);

        TarEntry entry = One(new TarBuilder().Member(name, '2', fields => fields.Prefix(prefix), link: link).End().ToArray());

        Assert.Equal($"{prefix}/{name}", Encoding.UTF8.GetString(entry.Name));
        Assert.Equal(link, Encoding.UTF8.GetString(entry.LinkName));
    }

    [Fact]
    public void The_file_type_in_a_mode_does_not_count() =>
        Assert.Equal(0xFEDu, One(new TarBuilder().File("f", mode: 0x8FED).End().ToArray()).Mode);
}
