using NativePull.Tests.Fakes;
using NativePull.Tests.Layers;

namespace NativePull.Tests.Fuzz;

/// <summary>What the mutations start from: small archives that between them use everything the reader knows.</summary>
internal static class Archives
{
    internal static IReadOnlyList<byte[]> Tars() =>
    [
        new TarBuilder()
            .Directory("./").Directory("d/", mtime: 5).File("d/f", "content", uid: 3_000_000).HardLink("d/h", "d/f").Symlink("l", "d").File("l/through", "x")
            .CharacterDevice("null", 1, 3).Fifo("p").End().ToArray(),
        new TarBuilder()
            .Pax("path", "pax/name").Pax("mtime", "-1.5").Pax("uid", "4294967294").Xattr("user.a", "value").File("x", new byte[600])
            .Pax("LIBARCHIVE.xattr.user.b", "YWJj").Pax("linkpath", "../../outside").Symlink("s", "t").Global("gid", "7").Pax("size", "3").File("y", "abc").End().ToArray(),
        new TarBuilder()
            .LongName(Bytes.Repeat('n', 300)).File("n", "1").LongLink(Bytes.Repeat('k', 200)).Symlink("k", "k").Member("dump/", 'D', content: "Yname\0\0")
            .Member("label", 'V').Member("hard", '1', content: "with content", link: "n").End().ToArray(),
        new TarBuilder()
            .Directory("lower/").File("lower/a").Whiteout("lower/b").Opaque("lower").File("lower/.wh..wh.plnk").Symlink("up", "../..").File("up/escaped", "!")
            .Symlink("abs", "/").File("abs/escaped", "!").File("../escaped", "!").HardLink("hard", "../../sentinel").End().ToArray(),
        new TarBuilder().File("a").Directory("a/").File("a/b").Symlink("a", "b").File("a").Whiteout("a").Whiteout("a/b/c").HardLink("a", "a").End().ToArray(),
        SparseTests.Archive("old", Runs(30), 100_000, new byte[90]),
        SparseTests.Archive("0.0", Runs(3), 100_000, new byte[9]),
        SparseTests.Archive("0.1", Runs(5), 100_000, new byte[15]),
        SparseTests.Archive("1.0", Runs(40), 100_000, new byte[120]),
    ];

    private static (long, long)[] Runs(int count) => [.. Enumerable.Range(0, count).Select(i => (i * 1000L, 3L))];
}
