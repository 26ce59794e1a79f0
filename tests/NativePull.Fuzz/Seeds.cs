using NativePull.Tests.Fakes;

namespace NativePull.Fuzz;

/// <summary>The inputs to start from: each shows one part of the format, small, because a fuzzer's time goes by size.</summary>
internal static class Seeds
{
    internal static void Write(string directory)
    {
        Directory.CreateDirectory(directory);
        foreach ((string name, TarBuilder tar) in Tars())
        {
            Save($"tar-{name}", Target.MendedTar, tar.ToArray());
        }

        byte[] small = new TarBuilder().File("f", "content").End().ToArray();
        byte[] gzip = TarBuilder.GZip(small);
        byte[] zstd = TarBuilder.Zstd(small);
        Save("plain", Target.Blob, small);
        Save("gzip", Target.Blob, gzip);
        Save("gzip-members", Target.Blob, [.. gzip, .. gzip, 0, 0]);
        Save("gzip-fields", Target.Blob, [0x1f, 0x8b, 8, 0x1c, .. gzip[4..10], 3, 0, 1, 2, 3, .. "name\0comment\0"u8, .. gzip[10..]]);
        Save("zstd", Target.Blob, zstd);
        Save("zstd-frames", Target.Blob, [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2, .. zstd, .. zstd]);

        void Save(string name, byte target, byte[] content) => File.WriteAllBytes(Path.Combine(directory, name), [target, .. content]);
    }

    private static IEnumerable<(string, TarBuilder)> Tars() =>
    [
        ("file", new TarBuilder().File("d/f", "content").HardLink("h", "d/f")),
        ("pax", new TarBuilder().Pax("path", "name").Pax("mtime", "-1.5").Pax("uid", "7").Pax("size", "3").File("x", "abc")),
        ("xattr", new TarBuilder().Xattr("user.a", "v").Pax("LIBARCHIVE.xattr.user.b", "YWJj").File("x").Global("gid", "7").File("y")),
        ("gnu-names", new TarBuilder().LongName("long name").LongLink("long link").Symlink("x", "y")),
        ("odd", new TarBuilder().Member("label", 'V').Member("d/", 'D', content: "Yf\0\0").Member("h", '1', content: "content", link: "f").CharacterDevice("c", 1, 3)),
        ("sparse-old", new TarBuilder().Member(
            "s",
            'S',
            fields => fields.Magic("ustar  \0").Octal(386, 12, 0).Octal(398, 12, 1).Octal(410, 12, 9).Octal(422, 12, 2).Octal(483, 12, 20),
            "abc")),
        ("sparse-0.0", new TarBuilder().Pax("GNU.sparse.size", "20").Pax("GNU.sparse.offset", "3").Pax("GNU.sparse.numbytes", "3").File("s", "abc")),
        ("sparse-0.1", new TarBuilder().Pax("GNU.sparse.size", "20").Pax("GNU.sparse.name", "s").Pax("GNU.sparse.map", "0,1,9,2").File("x", "abc")),
        ("sparse-1.0", new TarBuilder().Pax("GNU.sparse.major", "1").Pax("GNU.sparse.minor", "0").Pax("GNU.sparse.realsize", "20")
            .File("s", (byte[])[.. "2\n0\n1\n9\n2\n"u8, .. new byte[512 - 10], .. "abc"u8])),
    ];
}
