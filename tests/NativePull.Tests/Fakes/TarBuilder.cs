using System.Globalization;
using System.IO.Compression;
using System.Text;
using ZstdSharp;

namespace NativePull.Tests.Fakes;

/// <summary>Bytes that a test may write as text (UTF-8) or as they are.</summary>
internal readonly struct Bytes
{
    private readonly byte[]? value;

    private Bytes(byte[] value) => this.value = value;

    internal byte[] Value => value ?? [];

    public static implicit operator Bytes(string text) => new(Encoding.UTF8.GetBytes(text));

    public static implicit operator Bytes(byte[] bytes) => new(bytes);

    /// <summary>Each character below 256 as one byte: for names that are not UTF-8.</summary>
    internal static Bytes Latin1(string text) => new(Encoding.Latin1.GetBytes(text));

    internal static Bytes Repeat(char letter, int count) => new string(letter, count);
}

/// <summary>
/// Writes archives member by member, in order; any field can be lied about. What is asked for with <see cref="Pax(string, Bytes)"/>,
/// <see cref="Xattr"/>, <see cref="LongName"/> or <see cref="LongLink"/> stands before the next member. Names beyond 100 bytes get a pax record by themselves.
/// <code>
/// byte[] tar = new TarBuilder().Directory("a/").File("a/b", "hello", mode: 0x1A4).Symlink("l", "a/b").End().ToArray();
/// byte[] bad = new TarBuilder().Member("x", '0', fields => fields.Size(-1)).ToArray();
/// </code>
/// </summary>
internal sealed class TarBuilder
{
    private readonly List<byte> archive = [];
    private readonly List<(Bytes Key, Bytes Value)> pending = [];

    /// <param name="mode">Permission bits; C# has no octal, so 0x1ED is 0755.</param>
    internal TarBuilder Directory(Bytes name, int mode = 0x1ED, long uid = 0, long gid = 0, long mtime = 0) =>
        Member(name, '5', fields => fields.Mode(mode).Uid(uid).Gid(gid).Mtime(mtime));

    internal TarBuilder File(Bytes name, Bytes content = default, int mode = 0x1A4, long uid = 0, long gid = 0, long mtime = 0) =>
        Member(name, '0', fields => fields.Mode(mode).Uid(uid).Gid(gid).Mtime(mtime), content);

    internal TarBuilder Symlink(Bytes name, Bytes target, long uid = 0, long gid = 0, long mtime = 0) =>
        Member(name, '2', fields => fields.Mode(0x1FF).Uid(uid).Gid(gid).Mtime(mtime), link: target);

    internal TarBuilder HardLink(Bytes name, Bytes target) => Member(name, '1', link: target);

    internal TarBuilder Fifo(Bytes name, int mode = 0x1A4) => Member(name, '6', fields => fields.Mode(mode));

    internal TarBuilder CharacterDevice(Bytes name, int major, int minor, int mode = 0x1B6) =>
        Member(name, '3', fields => fields.Mode(mode).Device(major, minor));

    internal TarBuilder BlockDevice(Bytes name, int major, int minor, int mode = 0x1B0) =>
        Member(name, '4', fields => fields.Mode(mode).Device(major, minor));

    /// <summary>Removes what lower layers have under the name: <c>dir/.wh.name</c>.</summary>
    internal TarBuilder Whiteout(string path)
    {
        int slash = path.LastIndexOf('/');
        return File($"{path[..(slash + 1)]}.wh.{path[(slash + 1)..]}");
    }

    internal TarBuilder Opaque(string directory) => File($"{directory.TrimEnd('/')}/.wh..wh..opq".TrimStart('/'));

    /// <summary>One member with any type; <paramref name="change"/> has the last word on every field, then content follows, padded.</summary>
    internal TarBuilder Member(Bytes name, char type, Action<TarFields>? change = null, Bytes content = default, Bytes link = default)
    {
        if (name.Value.Length > 100)
        {
            pending.Insert(0, ("path", name));
        }

        if (link.Value.Length > 100)
        {
            pending.Insert(0, ("linkpath", link));
        }

        FlushPax();
        return Block(name, type, change, content, link);
    }

    /// <summary>A record of the pax header before the next member; a key may be given again.</summary>
    internal TarBuilder Pax(string key, Bytes value)
    {
        pending.Add((key, value));
        return this;
    }

    /// <summary>An extended attribute of the next member, as Go and GNU tar write it.</summary>
    internal TarBuilder Xattr(string name, Bytes value) => Pax("SCHILY.xattr." + name, value);

    /// <summary>A pax header whose content is given whole.</summary>
    internal TarBuilder RawPax(Bytes content, char type = 'x') => Block("PaxHeaders/0", type, null, content, default);

    internal TarBuilder Global(string key, Bytes value) => RawPax(Record(key, value), 'g');

    /// <summary>GNU's long name (type L) before the next member; it ends in NUL as GNU's does.</summary>
    internal TarBuilder LongName(Bytes name) => Block("././@LongLink", 'L', null, (byte[])[.. name.Value, 0], default);

    internal TarBuilder LongLink(Bytes name) => Block("././@LongLink", 'K', null, (byte[])[.. name.Value, 0], default);

    internal TarBuilder Raw(Bytes bytes)
    {
        archive.AddRange(bytes.Value);
        return this;
    }

    internal TarBuilder Zeros(int count) => Raw(new byte[count]);

    /// <summary>The end marker: two zero blocks.</summary>
    internal TarBuilder End() => Zeros(2 * 512);

    internal byte[] ToArray() => [.. archive];

    internal MemoryStream ToStream() => new(ToArray());

    internal byte[] ToGZip() => GZip(ToArray());

    internal byte[] ToZstd() => Zstd(ToArray());

    internal static byte[] GZip(byte[] content)
    {
        MemoryStream packed = new();
        using (GZipStream gzip = new(packed, CompressionLevel.Fastest))
        {
            gzip.Write(content);
        }

        return packed.ToArray();
    }

    internal static byte[] Zstd(byte[] content)
    {
        using Compressor compressor = new(1);
        return compressor.Wrap(content).ToArray();
    }

    /// <summary>"LENGTH KEY=VALUE\n".</summary>
    internal static byte[] Record(Bytes key, Bytes value)
    {
        int body = key.Value.Length + value.Value.Length + 3;
        int length = body + 1;
        while (length != body + length.ToString(CultureInfo.InvariantCulture).Length)
        {
            length = body + length.ToString(CultureInfo.InvariantCulture).Length;
        }

        return [.. Encoding.ASCII.GetBytes(length.ToString(CultureInfo.InvariantCulture)), (byte)' ', .. key.Value, (byte)'=', .. value.Value, (byte)'\n'];
    }

    private void FlushPax()
    {
        if (pending.Count > 0)
        {
            byte[] content = [.. pending.SelectMany(record => Record(record.Key, record.Value))];
            pending.Clear();
            RawPax(content);
        }
    }

    private TarBuilder Block(Bytes name, char type, Action<TarFields>? change, Bytes content, Bytes link)
    {
        TarFields fields = new TarFields().Name(name).Type(type).Link(link).Size(content.Value.Length);
        change?.Invoke(fields);
        archive.AddRange(fields.ToBlock());
        archive.AddRange(content.Value);
        return Zeros(-content.Value.Length & 511);
    }
}

/// <summary>One header block of 512 bytes, field by field; the checksum is right unless it is set. Offsets are POSIX's ("ustar Interchange Format").</summary>
internal sealed class TarFields
{
    private readonly byte[] block = new byte[512];
    private bool ownChecksum;

    internal TarFields() => Mode(0x1A4).Uid(0).Gid(0).Size(0).Mtime(0).Magic("ustar\0" + "00");

    internal TarFields Name(Bytes name) => Raw(0, Cut(name, 100), 100);

    internal TarFields Mode(long mode) => Octal(100, 8, mode);

    internal TarFields Uid(long uid) => Octal(108, 8, uid);

    internal TarFields Gid(long gid) => Octal(116, 8, gid);

    internal TarFields Size(long size) => Octal(124, 12, size);

    internal TarFields Mtime(long mtime) => Octal(136, 12, mtime);

    internal TarFields Type(char type) => Raw(156, Bytes.Latin1(type.ToString()));

    internal TarFields Link(Bytes link) => Raw(157, Cut(link, 100), 100);

    /// <summary>The 8 bytes of magic and version: "ustar\000", GNU's "ustar  \0", or 8 NULs for v7.</summary>
    internal TarFields Magic(Bytes magic) => Raw(257, magic, 8);

    internal TarFields Device(long major, long minor) => Octal(329, 8, major).Octal(337, 8, minor);

    internal TarFields Prefix(Bytes prefix) => Raw(345, prefix, 155);

    /// <summary>Wrong on purpose.</summary>
    internal TarFields Checksum(Bytes field)
    {
        ownChecksum = true;
        return Raw(148, field, 8);
    }

    /// <summary>A number as octal digits and a NUL, or in GNU's base-256 where it does not fit or is negative.</summary>
    internal TarFields Octal(int offset, int length, long number)
    {
        if (number < 0 || Convert.ToString(number, 8).Length >= length)
        {
            return Binary(offset, length, number);
        }

        return Raw(offset, Convert.ToString(number, 8).PadLeft(length - 1, '0') + "\0");
    }

    internal TarFields Binary(int offset, int length, Int128 number)
    {
        for (int i = length - 1; i >= 0; i--)
        {
            block[offset + i] = (byte)(number & 0xff);
            number >>= 8;
        }

        block[offset] |= 0x80;
        return this;
    }

    /// <summary>Any bytes anywhere; the rest of <paramref name="clear"/> bytes becomes NUL.</summary>
    internal TarFields Raw(int offset, Bytes bytes, int clear = 0)
    {
        Array.Clear(block, offset, clear);
        bytes.Value.CopyTo(block, offset);
        return this;
    }

    internal byte[] ToBlock()
    {
        if (!ownChecksum)
        {
            block.AsSpan(148, 8).Fill((byte)' ');
            int sum = block.Sum(b => b);
            Raw(148, Convert.ToString(sum, 8).PadLeft(6, '0') + "\0 ");
        }

        return [.. block];
    }

    private static Bytes Cut(Bytes bytes, int longest) => bytes.Value.Length <= longest ? bytes : bytes.Value[..longest];
}
