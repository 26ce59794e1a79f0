using System.Globalization;
using System.Text;

namespace NativePull.Tests.Conformance;

/// <summary>Model entries as a pax archive (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header").</summary>
internal static class LayerArchive
{
    private const int Block = 512;

    internal static byte[] Of(IReadOnlyList<ModelEntry> layer)
    {
        MemoryStream archive = new();
        foreach (ModelEntry entry in layer)
        {
            Write(archive, entry);
        }

        archive.Write(new byte[2 * Block]);
        return archive.ToArray();
    }

    private static void Write(MemoryStream archive, ModelEntry entry)
    {
        MemoryStream pax = new();
        byte[] name = Encoding.Latin1.GetBytes(entry.Name);
        byte[] target = Encoding.Latin1.GetBytes(entry.Target);
        if (name.Length > 100)
        {
            Record(pax, "path", name);
        }

        if (target.Length > 100)
        {
            Record(pax, "linkpath", target);
        }

        if (entry.Uid > 0x1FFFFF)
        {
            Record(pax, "uid", Number(entry.Uid));
        }

        if (entry.Gid > 0x1FFFFF)
        {
            Record(pax, "gid", Number(entry.Gid));
        }

        if (entry.Seconds < 0 || entry.Nanoseconds > 0)
        {
            Record(pax, "mtime", Time(entry.Seconds, entry.Nanoseconds));
        }

        foreach ((string key, byte[] value) in entry.Xattrs)
        {
            Record(pax, "SCHILY.xattr." + key, value);
        }

        if (pax.Length > 0)
        {
            Header(archive, "pax"u8, (byte)'x', new ModelEntry(EntryKind.File, "pax") { Size = (int)pax.Length }, []);
            Padded(archive, pax.ToArray());
        }

        Header(archive, name, (byte?)entry.TypeFlag ?? Type(entry.Kind), entry, target);
        if (entry.Kind == EntryKind.File)
        {
            Padded(archive, entry.Content());
        }
    }

    private static byte Type(EntryKind kind) => (byte)(kind switch
    {
        EntryKind.HardLink => '1',
        EntryKind.SymbolicLink => '2',
        EntryKind.CharacterDevice => '3',
        EntryKind.BlockDevice => '4',
        EntryKind.Directory => '5',
        EntryKind.Fifo => '6',
        _ => '0',
    });

    private static void Header(MemoryStream archive, ReadOnlySpan<byte> name, byte type, ModelEntry entry, ReadOnlySpan<byte> target)
    {
        byte[] header = new byte[Block];
        name[..Math.Min(100, name.Length)].CopyTo(header);
        Octal(header, 100, 8, entry.Mode);
        Octal(header, 108, 8, Math.Min(entry.Uid, 0x1FFFFF));
        Octal(header, 116, 8, Math.Min(entry.Gid, 0x1FFFFF));
        Octal(header, 124, 12, entry.Kind == EntryKind.File ? entry.Size : 0);
        Octal(header, 136, 12, Math.Max(0, entry.Seconds));
        header[156] = type;
        target[..Math.Min(100, target.Length)].CopyTo(header.AsSpan(157));
        "ustar\000"u8.CopyTo(header.AsSpan(257));
        Octal(header, 329, 8, entry.Major);
        Octal(header, 337, 8, entry.Minor);
        header.AsSpan(148, 8).Fill((byte)' ');
        int sum = 0;
        foreach (byte b in header)
        {
            sum += b;
        }

        Octal(header, 148, 7, sum);
        archive.Write(header);
    }

    private static void Octal(byte[] header, int offset, int width, long value) =>
        Encoding.ASCII.GetBytes(Convert.ToString(value, 8).PadLeft(width - 1, '0') + "\0").CopyTo(header, offset);

    private static byte[] Number(uint value) => Encoding.ASCII.GetBytes(value.ToString(CultureInfo.InvariantCulture));

    private static byte[] Time(long seconds, uint nanoseconds)
    {
        // one signed decimal number: half a second after -2 is -1.5
        decimal time = seconds + (nanoseconds / 1_000_000_000m);
        return Encoding.ASCII.GetBytes(time.ToString(CultureInfo.InvariantCulture));
    }

    private static void Record(MemoryStream pax, string key, byte[] value)
    {
        int length = key.Length + value.Length + 3;
        // the length counts its own digits
        int digits = 1;
        while ((length + digits).ToString(CultureInfo.InvariantCulture).Length != digits)
        {
            digits++;
        }

        pax.Write(Encoding.Latin1.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{length + digits} {key}=")));
        pax.Write(value);
        pax.WriteByte((byte)'\n');
    }

    private static void Padded(MemoryStream archive, byte[] content)
    {
        archive.Write(content);
        archive.Write(new byte[(Block - (content.Length % Block)) % Block]);
    }
}
