using System.Globalization;
using System.Text;
using NativePull.Layers;
using NativePull.Tests.Fakes;
using static NativePull.Tests.Layers.TarArchive;

namespace NativePull.Tests.Layers;

/// <summary>Files with holes in GNU's four formats (GNU tar manual, "Storing Sparse Files"), and maps that lie.</summary>
public class SparseTests
{
    private static readonly (long Offset, long Length)[] Usual = [(0, 3), (10, 2), (20, 0)];

    public static TheoryData<string, (long, long)[], long, int> Lies => new()
    {
        { "unsorted", [(10, 2), (0, 3)], 20, 5 },
        { "overlapping", [(0, 5), (4, 5)], 20, 10 },
        { "beyond the size", [(0, 3), (19, 2)], 20, 5 },
        { "an end beyond the size", [(0, 3), (21, 0)], 20, 3 },
        { "an end beyond 2^63", [(long.MaxValue, 2)], long.MaxValue, 2 },
        { "more data than is stored", [(0, 3), (10, 8)], 20, 5 },
        { "less data than is stored", [(0, 3)], 20, 600 },
        { "data where there is none", [], 20, 5 },
    };

    public static TheoryData<string> Formats => ["old", "0.0", "0.1", "1.0"];

    [Theory]
    [MemberData(nameof(Formats))]
    public void Holes_are_zeros_and_the_next_member_follows(string format)
    {
        List<(TarEntry Entry, byte[] Content)> members = Read(Archive(format, Usual, 20, "abcde"u8.ToArray()));

        Assert.Equal(["File dir/sparse 20 5", "File after 0 0"], members.Select(member => Line(member.Entry)));
        Assert.Equal("abc\0\0\0\0\0\0\0de\0\0\0\0\0\0\0\0"u8, members[0].Content);
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void A_file_may_be_all_hole(string format)
    {
        Assert.Equal(new byte[20], Read(Archive(format, [(20, 0)], 20, []))[0].Content);
        Assert.Equal(new byte[20], Read(Archive(format, [], 20, []))[0].Content);
        Assert.Empty(Read(Archive(format, [(0, 0)], 0, []))[0].Content);
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void A_file_may_have_many_runs(string format)
    {
        (long Offset, long Length)[] runs = [.. Enumerable.Range(0, 1000).Select(i => (i * 1024L, 3L))];
        byte[] data = [.. Enumerable.Range(0, 3000).Select(i => (byte)(i | 1))];

        byte[] content = Read(Archive(format, runs, 1024 * 1024, data))[0].Content;

        Assert.Equal(1024 * 1024, content.Length);
        Assert.Equal(data, content.Where(b => b != 0));
        Assert.Equal(data[300..303], content[(100 * 1024)..((100 * 1024) + 3)]);
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void A_hole_larger_than_any_disk_costs_nothing(string format)
    {
        TarReader reader = new(new MemoryStream(Archive(format, [(long.MaxValue - 2, 2)], long.MaxValue, "ab"u8.ToArray())), new TarLimits());

        Assert.True(reader.MoveNext());
        Assert.Equal((long.MaxValue, 2L), (reader.Current.Size, reader.Current.DataSize));
        Assert.Equal(2, reader.ReadContent(new byte[100], out long position));
        Assert.Equal(long.MaxValue - 2, position);
        Assert.Equal(0, reader.ReadContent(new byte[100], out _));
    }

    [Theory]
    [MemberData(nameof(Lies))]
    public void A_map_that_lies_is_malformed(string name, (long, long)[] runs, long size, int stored)
    {
        foreach (string format in new[] { "old", "0.0", "0.1", "1.0" })
        {
            Assert.True(Refused(Archive(format, runs, size, new byte[stored]), PullError.Malformed) is not null, $"{name} in {format}");
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void Runs_are_bounded(string format)
    {
        (long Offset, long Length)[] runs = [.. Enumerable.Range(0, 101).Select(i => (i * 2L, 1L))];

        Refused(Archive(format, runs, 1000, new byte[101]), PullError.LimitPassed, new TarLimits { MaximumSparseRuns = 100 });
        Assert.Equal(2, Read(Archive(format, runs, 1000, new byte[101]), new TarLimits { MaximumSparseRuns = 101 }).Count);
    }

    [Theory]
    [InlineData("5\n0\n3\n")]
    [InlineData("x\n")]
    [InlineData("-1\n")]
    [InlineData("1\n0\n\n")]
    [InlineData("99999999999999999999\n")]
    [InlineData("9223372036854775807\n0\n1\n")]
    public void A_broken_map_before_the_data_is_malformed(string map) =>
        Refused(Pax10(new TarBuilder(), map, 20, "abc"u8.ToArray()).End().ToArray(), PullError.Malformed);

    [Theory]
    [InlineData("GNU.sparse.map", "0,3,10")]
    [InlineData("GNU.sparse.map", "0;3")]
    [InlineData("GNU.sparse.map", "0,,3")]
    [InlineData("GNU.sparse.map", "-1,3")]
    [InlineData("GNU.sparse.offset", "1")]
    [InlineData("GNU.sparse.numbytes", "1")]
    [InlineData("GNU.sparse.major", "x")]
    [InlineData("GNU.sparse.size", "-5")]
    public void A_broken_sparse_record_is_malformed(string key, string value) =>
        Refused(new TarBuilder().Pax("GNU.sparse.realsize", "20").Pax(key, value).File("f", "abc").End().ToArray(), PullError.Malformed);

    [Fact]
    public void A_sparse_file_without_a_size_is_malformed() =>
        Refused(new TarBuilder().Pax("GNU.sparse.map", "0,3").File("f", "abc").End().ToArray(), PullError.Malformed);

    [Fact]
    public void A_sparse_map_for_all_members_is_malformed() =>
        Refused(new TarBuilder().Global("GNU.sparse.size", "3").File("f", "abc").End().ToArray(), PullError.Malformed);

    [Fact]
    public void A_later_format_is_refused() =>
        Refused(new TarBuilder().Pax("GNU.sparse.major", "2").Pax("GNU.sparse.realsize", "3").File("f", "abc").End().ToArray(), PullError.Unsupported);

    [Fact]
    public void An_old_map_that_goes_on_past_the_archive_is_malformed() =>
        Refused(new TarBuilder().Member("f", 'S', fields => fields.Magic("ustar  \0").Raw(482, "\u0001").Octal(483, 12, 20)).ToArray(), PullError.Malformed);

    internal static byte[] Archive(string format, (long Offset, long Length)[] runs, long size, byte[] data)
    {
        TarBuilder builder = new();
        _ = format switch
        {
            "old" => Old(builder, runs, size, data),
            "1.0" => Pax10(builder, string.Concat(runs.Select(run => $"{run.Offset}\n{run.Length}\n").Prepend($"{runs.Length}\n")), size, data),
            "0.1" => builder
                .Pax("GNU.sparse.size", Text(size)).Pax("GNU.sparse.numblocks", Text(runs.Length)).Pax("GNU.sparse.name", "dir/sparse")
                .Pax("GNU.sparse.map", string.Join(',', runs.Select(run => $"{run.Offset},{run.Length}")))
                .File("dir/GNUSparseFile.1/sparse", data),
            _ => runs.Aggregate(
                    builder.Pax("GNU.sparse.size", Text(size)).Pax("GNU.sparse.numblocks", Text(runs.Length)),
                    (tar, run) => tar.Pax("GNU.sparse.offset", Text(run.Offset)).Pax("GNU.sparse.numbytes", Text(run.Length)))
                .File("dir/sparse", data),
        };
        return builder.File("after").End().ToArray();
    }

    private static TarBuilder Pax10(TarBuilder builder, string map, long size, byte[] data)
    {
        byte[] padded = new byte[(map.Length + 511) & ~511];
        Encoding.ASCII.GetBytes(map).CopyTo(padded, 0);
        return builder
            .Pax("GNU.sparse.major", "1").Pax("GNU.sparse.minor", "0").Pax("GNU.sparse.name", "dir/sparse").Pax("GNU.sparse.realsize", Text(size))
            .File("dir/GNUSparseFile.1/sparse", (byte[])[.. padded, .. data]);
    }

    private static TarBuilder Old(TarBuilder builder, (long Offset, long Length)[] runs, long size, byte[] data)
    {
        int inHeader = Math.Min(4, runs.Length);
        builder.Raw(Runs(new TarFields().Name("dir/sparse").Type('S').Magic("ustar  \0").Size(data.Length).Octal(483, 12, size), 386, runs[..inHeader])
            .Raw(482, runs.Length > 4 ? "\u0001" : "\0").ToBlock());
        for (int i = inHeader; i < runs.Length; i += 21)
        {
            builder.Raw(Extension(runs[i..Math.Min(i + 21, runs.Length)], i + 21 < runs.Length));
        }

        return builder.Raw(data).Zeros(-data.Length & 511);
    }

    private static TarFields Runs(TarFields fields, int start, (long Offset, long Length)[] runs)
    {
        for (int i = 0; i < runs.Length; i++)
        {
            fields.Octal(start + (24 * i), 12, runs[i].Offset).Octal(start + (24 * i) + 12, 12, runs[i].Length);
        }

        return fields;
    }

    private static byte[] Extension((long Offset, long Length)[] runs, bool more)
    {
        // no checksum: a run lies where it would be
        TarFields fields = new TarFields().Checksum(new byte[8]).Raw(0, new byte[512]);
        return Runs(fields, 0, runs).Raw(504, more ? "\u0001" : "\0").ToBlock();
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static string Line(TarEntry entry) => $"{entry.Kind} {Encoding.UTF8.GetString(entry.Name)} {entry.Size} {entry.DataSize}";
}
