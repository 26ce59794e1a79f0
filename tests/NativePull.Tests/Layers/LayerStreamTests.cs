using System.Buffers.Binary;
using System.Text;
using NativePull.IO;
using NativePull.Layers;
using NativePull.Oci;
using NativePull.Tests.Fakes;
using ZstdSharp;
using ZstdSharp.Unsafe;

namespace NativePull.Tests.Layers;

/// <summary>What each compression's framing may and may not look like.</summary>
public class LayerStreamTests
{
    private static readonly byte[] One = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat("the first content ", 500)));
    private static readonly byte[] Two = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat("another one ", 300)));

    public static TheoryData<string> Good => [.. GoodBlobs().Keys];

    public static TheoryData<string> Malformed => [.. MalformedBlobs().Keys];

    // Also in pieces: a decoder must not care where its input is cut.
    [Theory]
    [MemberData(nameof(Good))]
    public void A_blob_gives_its_content(string name)
    {
        (byte[] blob, byte[] content) = GoodBlobs()[name];

        Assert.Equal(content, Unpack(blob));
        Assert.Equal(content, Unpack(blob, pieces: 1));
        Assert.Equal(content, Unpack(blob, pieces: 7));
    }

    [Theory]
    [MemberData(nameof(Malformed))]
    public void A_broken_blob_is_malformed(string name)
    {
        byte[] blob = MalformedBlobs()[name];

        Assert.Equal(PullError.Malformed, Assert.Throws<PullException>(() => Unpack(blob)).Reason);
        Assert.Equal(PullError.Malformed, Assert.Throws<PullException>(() => Unpack(blob, pieces: 1)).Reason);
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("gzip of two members")]
    [InlineData("gzip with every header field")]
    [InlineData("zstd")]
    [InlineData("zstd of two frames")]
    [InlineData("zstd after a skippable frame")]
    public void A_blob_cut_anywhere_is_malformed(string name)
    {
        (byte[] blob, byte[] content) = GoodBlobs()[name];
        for (int length = 11; length < blob.Length; length++)
        {
            // at a border of members what is left is whole; the diff ID tells then
            PullException? cut = null;
            byte[] got = [];
            try
            {
                got = Unpack(blob[..length]);
            }
            catch (PullException thrown)
            {
                cut = thrown;
            }

            Assert.True(cut?.Reason == PullError.Malformed || (got.Length is 0 || got.Length == One.Length) && got.Length < content.Length, $"{length} of {blob.Length}");
        }
    }

    // Why the runtime's own stream is not used; should this ever fail, GZipInflater can go.
    [Theory]
    [InlineData("gzip without its sums")]
    [InlineData("gzip without its last byte")]
    [InlineData("gzip with garbage after it")]
    public void The_runtimes_stream_does_not_notice(string name)
    {
        using System.IO.Compression.GZipStream stream = new(new MemoryStream(MalformedBlobs()[name]), System.IO.Compression.CompressionMode.Decompress);
        using MemoryStream content = new();
        stream.CopyTo(content);

        Assert.Equal(One, content.ToArray());
    }

    [Theory]
    [InlineData("xz", "\u00fd7zXZ\0")]
    [InlineData("bzip2", "BZh91AY&SY")]
    [InlineData("bzip2", "BZh11AY&SY")]
    [InlineData("lz4", "\u0004\"M\u0018")]
    [InlineData("lzip", "LZIP\u0001")]
    [InlineData("lzop", "\u0089LZO\0")]
    [InlineData("compress", "\u001f\u009d\u0090")]
    [InlineData("7z", "7z\u00bc\u00af\u0027\u001c")]
    [InlineData("zip", "PK\u0003\u0004")]
    public void Another_compression_is_refused_by_name(string name, string magic)
    {
        PullException refused = Assert.Throws<PullException>(() => Unpack([.. Encoding.Latin1.GetBytes(magic), .. new byte[600]]));

        Assert.Equal(PullError.Unsupported, refused.Reason);
        Assert.Contains($"compressed with {name},", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("BZh-notes.txt")]
    [InlineData("LZIP")]
    [InlineData("7z")]
    [InlineData("PK")]
    public void A_tar_whose_first_name_looks_like_a_compression_is_a_tar(string name)
    {
        byte[] tar = new TarBuilder().File(name).End().ToArray();

        Assert.Equal(tar, Unpack(tar));
    }

    [Theory]
    [InlineData(27, true)]
    [InlineData(28, false)]
    public void Zstd_windows_are_taken_up_to_128_MiB(int log, bool taken)
    {
        // RFC 8878, 3.1.1: a header with nothing but its window, then one raw block, the last
        byte[] blob = [0x28, 0xb5, 0x2f, 0xfd, 0, (byte)((log - 10) << 3), .. (ReadOnlySpan<byte>)[(byte)((One.Length << 3) | 1), (byte)(One.Length >> 5), (byte)(One.Length >> 13)], .. One];

        if (taken)
        {
            Assert.Equal(One, Unpack(blob));
        }
        else
        {
            Assert.Equal(PullError.LimitPassed, Assert.Throws<PullException>(() => Unpack(blob)).Reason);
        }
    }

    [Fact]
    public void The_diff_id_is_compared_over_what_was_unpacked()
    {
        byte[] blob = TarBuilder.GZip(One);
        using VerifyingStream right = LayerStream.Open(new MemoryStream(blob), Digest.Of(One), "layer", new LayerLimits());
        right.Drain(TestContext.Current.CancellationToken);

        using VerifyingStream wrong = LayerStream.Open(new MemoryStream(blob), Digest.Of(Two), "layer", new LayerLimits());
        Assert.Equal(PullError.DiffIdMismatch, Assert.Throws<PullException>(() => wrong.Drain(TestContext.Current.CancellationToken)).Reason);
    }

    [Fact]
    public void Gzip_at_deflates_highest_ratio_is_never_refused()
    {
        byte[] blob = TarBuilder.GZip(new byte[64 << 20]);

        Assert.Equal(64 << 20, Length(blob, new LayerLimits { RatioFrom = 0 }));
    }

    [Theory]
    [InlineData(0, null, true)]
    [InlineData(1 << 30, null, false)]
    [InlineData(0, 1L << 30, false)]
    public void A_zstd_blob_out_of_proportion_is_refused_beyond_what_may_always_come(long from, long? maximum, bool refused)
    {
        byte[] blob = TarBuilder.Zstd(new byte[64 << 20]);
        LayerLimits limits = new() { RatioFrom = from, MaximumUnpacked = maximum };

        if (refused)
        {
            Assert.Equal(PullError.LimitPassed, Assert.Throws<PullException>(() => Length(blob, limits)).Reason);
        }
        else
        {
            Assert.Equal(64 << 20, Length(blob, limits));
        }
    }

    private static Dictionary<string, (byte[] Blob, byte[] Content)> GoodBlobs()
    {
        byte[] gzip = TarBuilder.GZip(One);
        byte[] zstd = TarBuilder.Zstd(One);
        byte[] both = [.. One, .. Two];
        return new()
        {
            ["nothing"] = ([], []),
            ["one byte"] = ([7], [7]),
            ["plain"] = (One, One),
            ["gzip"] = (gzip, One),
            ["gzip of nothing"] = (TarBuilder.GZip([0])[..0].Concat(Convert.FromHexString("1f8b080000000000000303000000000000000000")).ToArray(), []),
            ["gzip of two members"] = ([.. gzip, .. TarBuilder.GZip(Two)], both),
            ["gzip with an empty member between"] = ([.. gzip, .. Convert.FromHexString("1f8b080000000000000303000000000000000000"), .. TarBuilder.GZip(Two)], both),
            ["gzip with zeros after it"] = ([.. gzip, .. new byte[300_000]], One),
            ["gzip with one zero after it"] = ([.. gzip, 0], One),
            ["gzip with a name"] = (GZip(One, 0x08, "name\0"u8), One),
            ["gzip with a comment"] = (GZip(One, 0x10, "comment\0"u8), One),
            ["gzip with an extra field"] = (GZip(One, 0x04, [4, 0, 1, 2, 3, 4]), One),
            ["gzip with a header checksum"] = (GZip(One, 0x02, []), One),
            ["gzip with every header field"] = (GZip(One, 0x1f, [3, 0, 9, 9, 9, .. "name\0comment\0"u8]), One),
            ["zstd"] = (zstd, One),
            ["zstd with a checksum"] = (Zstd(One, compressor => compressor.SetParameter(ZSTD_cParameter.ZSTD_c_checksumFlag, 1)), One),
            ["zstd of two frames"] = ([.. zstd, .. TarBuilder.Zstd(Two)], both),
            ["zstd of an empty frame and another"] = ([.. TarBuilder.Zstd([]), .. zstd], One),
            ["zstd after a skippable frame"] = ([.. Skippable(0), .. zstd], One),
            ["zstd between skippable frames"] = ([.. Skippable(15), .. zstd, .. Skippable(3), .. TarBuilder.Zstd(Two), .. Skippable(1)], both),
            ["skippable frames alone"] = (Skippable(5), []),
        };
    }

    private static Dictionary<string, byte[]> MalformedBlobs()
    {
        byte[] gzip = TarBuilder.GZip(One);
        byte[] zstd = Zstd(One, compressor => compressor.SetParameter(ZSTD_cParameter.ZSTD_c_checksumFlag, 1));
        return new()
        {
            ["gzip magic alone"] = [0x1f, 0x8b],
            ["gzip of another method"] = With(gzip, 2, 7),
            ["gzip with reserved flags"] = With(gzip, 3, 0x20),
            ["gzip with a wrong CRC"] = With(gzip, gzip.Length - 8, (byte)(gzip[^8] ^ 1)),
            ["gzip with a wrong length"] = With(gzip, gzip.Length - 1, 1),
            ["gzip with a wrong header checksum"] = With(GZip(One, 0x02, []), 10, 0),
            ["gzip with broken data"] = With(gzip, 20, (byte)~gzip[20]),
            ["gzip without its sums"] = gzip[..^8],
            ["gzip without its last byte"] = gzip[..^1],
            ["gzip with garbage after it"] = [.. gzip, .. "garbage"u8],
            ["gzip with zeros and garbage after it"] = [.. gzip, .. new byte[200_000], 1],
            ["gzip with zeros and a member after it"] = [.. gzip, 0, .. gzip],
            ["gzip with half a magic after it"] = [.. gzip, 0x1f],
            ["gzip with a broken member after it"] = [.. gzip, 0x1f, 0x8b, 8, 0, 0, 0],
            ["zstd with a wrong checksum"] = With(zstd, zstd.Length - 1, (byte)~zstd[^1]),
            ["zstd without its checksum"] = zstd[..^4],
            ["zstd without its last byte"] = zstd[..^1],
            ["zstd with garbage after it"] = [.. zstd, .. "garbage"u8],
            ["zstd with a zero after it"] = [.. zstd, 0],
            ["zstd with zeros after it"] = [.. zstd, .. new byte[1000]],
            ["zstd magic alone"] = [0x28, 0xb5, 0x2f, 0xfd],
            ["zstd with a cut skippable frame"] = [.. zstd, .. Skippable(2)[..^1]],
            ["zstd with broken data"] = With(zstd, 12, (byte)~zstd[12]),
        };
    }

    private static byte[] With(byte[] bytes, int position, byte value)
    {
        byte[] changed = [.. bytes];
        changed[position] = value;
        return changed;
    }

    // RFC 1952, 2.3: any flags, their fields, and the header's CRC-16 where its flag is set.
    internal static byte[] GZip(byte[] content, byte flags, ReadOnlySpan<byte> fields)
    {
        byte[] plain = TarBuilder.GZip(content);
        byte[] header = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3, .. fields];
        if ((flags & 2) != 0)
        {
            // the sum of a member that holds the header is the header's CRC-32
            byte[] sum = new byte[2];
            byte[] packed = TarBuilder.GZip(header);
            packed.AsSpan(packed.Length - 8, 2).CopyTo(sum);
            header = [.. header, .. sum];
        }

        return [.. header, .. plain[10..]];
    }

    private static byte[] Zstd(byte[] content, Action<Compressor> change)
    {
        using Compressor compressor = new(3);
        change(compressor);
        return compressor.Wrap(content).ToArray();
    }

    private static byte[] Skippable(int number)
    {
        byte[] frame = new byte[8 + 20];
        BinaryPrimitives.WriteUInt32LittleEndian(frame, 0x184D2A50 + (uint)number);
        BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(4), 20);
        return frame;
    }

    private static byte[] Unpack(byte[] blob, int pieces = int.MaxValue)
    {
        using Stream plain = LayerStream.Decompress(new Pieces(blob, pieces), "layer", new LayerLimits());
        using MemoryStream content = new();
        plain.CopyTo(content);
        return content.ToArray();
    }

    private static long Length(byte[] blob, LayerLimits limits)
    {
        using Stream plain = LayerStream.Decompress(new MemoryStream(blob), "layer", limits);
        byte[] buffer = new byte[1 << 16];
        long length = 0;
        int read;
        while ((read = plain.Read(buffer)) > 0)
        {
            length += read;
        }

        return length;
    }

    private sealed class Pieces(byte[] content, int longest) : ReadOnlyStream
    {
        private int position;

        public override int Read(Span<byte> buffer)
        {
            int count = Math.Min(Math.Min(buffer.Length, longest), content.Length - position);
            content.AsSpan(position, count).CopyTo(buffer);
            position += count;
            return count;
        }
    }
}
