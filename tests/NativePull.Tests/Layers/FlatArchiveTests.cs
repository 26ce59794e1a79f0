using System.Text;
using NativePull.Layers;
using NativePull.Tests.Conformance;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Layers;

/// <summary>The flattened archive: the same tree as flat extraction makes, without a file system, byte for byte the same each time.</summary>
public sealed class FlatArchiveTests
{
    private static readonly string[] Names = ["a", "b", "c", "a/b", "b/a", "b/c", "a/b/c", "c/a/b/d", "./d", "d/e", "e", "/e/a"];

    [Fact]
    public void It_is_the_tree_that_flat_extraction_makes_for_any_stack_of_layers()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "devices and owners need root");
        int seed = DifferentialSetup.Setting("NATIVEPULL_DIFF_SEED", 1);
        int accepted = 0;
        for (int i = 0; i < 250; i++)
        {
            Random random = new(seed + i);
            byte[][] layers = [.. Enumerable.Range(0, random.Next(1, 5)).Select(_ => RandomLayer(random))];
            using TemporaryDirectory directory = new();

            (TreeListing? Tree, PullError? Refusal) applied = Try(() => Apply(layers, directory["applied"]));
            (TreeListing? Tree, PullError? Refusal) written = Try(() => Apply([Flatten(layers)], directory["written"]));

            Assert.True(applied.Refusal == written.Refusal, $"seed {seed + i}: applied {applied.Refusal}, written {written.Refusal}");
            if (applied.Tree is not null)
            {
                accepted++;
                IReadOnlyList<string> differences = applied.Tree.Differences(written.Tree!);
                Assert.True(differences.Count == 0, $"seed {seed + i}:\n{string.Join('\n', differences)}");
            }
        }

        Assert.True(accepted > 40, $"seed {seed}: only {accepted} stacks were accepted");
    }

    [Fact]
    public void It_is_the_tree_that_flat_extraction_makes_of_what_the_generator_of_the_model_thinks_of()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "devices and owners need root");
        int seed = DifferentialSetup.Setting("NATIVEPULL_DIFF_SEED", 1);
        for (int i = 0; i < 100; i++)
        {
            int each = i == 0 ? 286067878 : seed + i;
            byte[][] layers = [.. LayerStackGenerator.Generate(each).Select(LayerArchive.Of)];
            using TemporaryDirectory directory = new();

            (TreeListing? Tree, PullError? Refusal) applied = Try(() => Apply(layers, directory["applied"]));
            (TreeListing? Tree, PullError? Refusal) written = Try(() => Apply([Flatten(layers)], directory["written"]));

            Assert.True(applied.Refusal == written.Refusal, $"seed {each}: applied {applied.Refusal}, written {written.Refusal}");
            IReadOnlyList<string> differences = applied.Tree?.Differences(written.Tree!) ?? [];
            Assert.True(differences.Count == 0, $"seed {each}:\n{string.Join('\n', differences)}");
        }
    }

    [Theory]
    [InlineData("tar")]
    [InlineData("bsdtar")]
    public async Task Other_programs_unpack_it_to_the_same_tree(string program)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "devices and owners need root");
        byte[][] layers = AwkwardLayers();
        using TemporaryDirectory directory = new();
        TreeListing expected = Apply(layers, directory["applied"]);
        await File.WriteAllBytesAsync(directory["x.tar"], Flatten(layers), TestContext.Current.CancellationToken);
        Directory.CreateDirectory(directory["unpacked"]);

        string[] how = program == "tar" ? ["--xattrs", "--xattrs-include=*", "--numeric-owner"] : ["--numeric-owner", "--xattrs", "--same-owner"];
        (await Binary.ProgramAsync("env", ["LC_ALL=C.UTF-8", program, "-x", "-p", "-f", directory["x.tar"], "-C", directory["unpacked"], .. how])).Expect(0);

        // libarchive leaves the time of "." alone, and reads half a second before a second as half a second after it
        TreeEntry? Comparable(TreeEntry entry) => program == "bsdtar" && (entry.Path == "." || entry.Modified.StartsWith('-')) ? entry with { Modified = "" } : entry;
        TreeListing.AssertSame(expected.Select(Comparable), TreeListing.Of(directory["unpacked"]).Select(Comparable));
    }

    [Fact]
    public async Task Python_reads_it_without_a_complaint()
    {
        using TemporaryDirectory directory = new();
        await File.WriteAllBytesAsync(directory["x.tar"], Flatten(AwkwardLayers()), TestContext.Current.CancellationToken);

        BinaryResult listed = await Binary.ProgramAsync(
            "python3", "-c", "import sys,tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.name, m.type.decode(), m.mode, m.uid, m.size, m.mtime, m.linkname)", directory["x.tar"]);

        string text = listed.Expect(0).Out;
        Assert.Contains("d/link 1 416 3000000000 0 ", text, StringComparison.Ordinal);
        Assert.Contains("1700000000.1234567", text, StringComparison.Ordinal);
    }

    [Fact]
    public void The_same_layers_give_the_same_bytes()
    {
        byte[] once = Flatten(AwkwardLayers());
        byte[] again = Flatten(AwkwardLayers());

        Assert.Equal(once, again);
        Assert.Equal(0, once.Length % 512);
    }

    [Fact]
    public void A_name_whose_first_name_is_gone_keeps_the_content_and_stands_where_its_directory_is_already()
    {
        byte[][] layers =
        [
            new TarBuilder().File("a", "hello").End().ToArray(),
            new TarBuilder().Directory("new/", mtime: 7).HardLink("new/b", "a").HardLink("new/c", "a").End().ToArray(),
            new TarBuilder().Whiteout("a").End().ToArray(),
        ];

        Assert.Equal(["./ Directory ", "new/ Directory ", "new/b File hello", "new/c HardLink new/b"], List(Flatten(layers)));
        Assert.Equal(7, Last(Flatten(layers[..2]), "new/").Modified.Seconds);
    }

    [Fact]
    public void Order_is_that_of_the_layers_and_directories_look_as_the_last_layer_says()
    {
        byte[][] layers =
        [
            new TarBuilder().Directory("z/").File("z/1", "x").File("m", "m").End().ToArray(),
            new TarBuilder().File("b", "b").Directory("z/", mode: 0x1C0).File("m", "M").End().ToArray(),
        ];

        Assert.Equal(["./ Directory ", "z/ Directory ", "z/1 File x", "b File b", "m File M"], List(Flatten(layers)));
        Assert.Equal(
            ["./ Directory ", "z/ Directory ", "z/1 File x", "b File b", "m File M", "z/2 File y", "z/ Directory "],
            List(Flatten([.. layers, new TarBuilder().File("z/2", "y").End().ToArray()])));
        // coming back to one below does not mean that the one above was never left
        byte[][] deep = [new TarBuilder().File("z/y/1").File("a").End().ToArray(), new TarBuilder().File("z/y/2").File("z/3").End().ToArray()];
        Assert.Equal(["z/ Directory ", "z/y/ Directory "], List(Flatten(deep))[^2..]);
        Assert.Equal(0x1C0u, Last(Flatten(layers), "z/").Mode);
    }

    [Fact]
    public void An_image_without_layers_is_an_empty_root()
    {
        byte[] tar = Flatten([]);

        Assert.Equal(["./ Directory "], List(tar));
        Assert.Equal(3 * 512, tar.Length);
    }

    /// <param name="scratch">With limits that allow little memory: where the rest goes.</param>
    internal static byte[] Flatten(byte[][] layers, LayerLimits? limits = null, string? scratch = null)
    {
        using FlatArchive archive = new(limits ?? new LayerLimits(), null, () => scratch);
        foreach (byte[] layer in layers)
        {
            archive.Merge(new MemoryStream(layer), CancellationToken.None);
        }

        using MemoryStream output = new();
        archive.Begin(output);
        foreach (byte[] layer in layers)
        {
            archive.Write(new MemoryStream(layer), CancellationToken.None);
        }

        archive.End();
        return output.ToArray();
    }

    /// <summary>What archives and file systems like to lose.</summary>
    internal static byte[][] AwkwardLayers() =>
    [
        new TarBuilder()
            .Pax("mtime", "1700000000.123456789").Directory("d/", mode: 0x3FF)
            .Pax("mtime", "-1.5").Pax("uid", "3000000000").File("d/file", "hello", mode: 0x1A0)
            .Xattr("user.note", (byte[])[1, 0, 2, (byte)'\n']).Xattr("security.capability", (byte[])[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).File("cap", "x", mode: 0xDED)
            .Symlink("l", new string('t', 200)).Symlink("into", "d").Fifo("p").CharacterDevice("null", 1, 3).BlockDevice("disk", 8, 1)
            .File(new string('n', 180) + "/" + new string('f', 255), "long")
            .File("d/sparse-not", new string('0', 100_000))
            .File("empty").File("gone", "x").Directory("opaque/").File("opaque/below", "x")
            .End().ToArray(),
        new TarBuilder()
            .HardLink("d/link", "d/file").HardLink("pipe", "p").HardLink("ll", "l")
            .File("into/through", "a link").Whiteout("gone").Opaque("opaque").File("opaque/above", "y")
            .Xattr("user.d", "1").Pax("mtime", "1600000000.5").Directory("opaque/", mode: 0x1C0)
            .File((byte[])[.. "latin-"u8, 0xe9, (byte)' ', (byte)'\\', (byte)'"'], "not UTF-8")
            .File((byte[])[.. "ä/"u8, .. Encoding.ASCII.GetBytes(new string('q', 120))], "long and not ASCII")
            .End().ToArray(),
    ];

    private static byte[] RandomLayer(Random random)
    {
        TarBuilder tar = new();
        List<string> files = [];
        for (int i = random.Next(1, 9); i > 0; i--)
        {
            string name = Names[random.Next(Names.Length)];
            string other = Names[random.Next(Names.Length)];
            switch (random.Next(12))
            {
                case < 4:
                    files.Add(name);
                    tar.File(name, random.Next().ToString(System.Globalization.CultureInfo.InvariantCulture), mtime: random.Next(), uid: random.Next(3));
                    break;
                case < 6:
                    tar.Directory(name + "/", mode: 0x1C0 | random.Next(0x40), mtime: random.Next());
                    break;
                case 6:
                    tar.Symlink(name, random.Next(3) switch { 0 => other, 1 => "../" + other, _ => "/" + other.TrimStart('/') });
                    break;
                case 7 or 8:
                    // mostly to what may well be there
                    tar.HardLink(name, files.Count > 0 && random.Next(8) > 0 ? files[random.Next(files.Count)] : other);
                    break;
                case 9:
                    tar.Whiteout(name);
                    break;
                case 10:
                    tar.Opaque(name);
                    break;
                default:
                    tar.Fifo(name);
                    break;
            }
        }

        return tar.End().ToArray();
    }

    private static TreeListing Apply(byte[][] layers, string to)
    {
        Directory.CreateDirectory(to);
        using RootDirectory root = RootDirectory.Open(to);
        root.SetDefaults();
        foreach (byte[] layer in layers)
        {
            using LayerApplier applier = new(root, new ExtractOptions { Format = LayerFormat.Flat });
            applier.Apply(new MemoryStream(layer), CancellationToken.None);
            applier.Settle([], CancellationToken.None);
        }

        return TreeListing.Of(to);
    }

    private static (T? Result, PullError? Refusal) Try<T>(Func<T> work)
        where T : class
    {
        try
        {
            return (work(), null);
        }
        catch (PullException refused)
        {
            return (null, refused.Reason);
        }
        catch (IOException)
        {
            // what the file system alone notices, such as a link to what the link itself replaces
            return (null, PullError.Malformed);
        }
    }

    private static TarEntry Last(byte[] archive, string name)
    {
        TarEntry? found = null;
        TarReader reader = new(new MemoryStream(archive), new TarLimits());
        while (reader.MoveNext())
        {
            found = Encoding.UTF8.GetString(reader.Current.Name) == name ? reader.Current : found;
        }

        return found!;
    }

    private static string[] List(byte[] archive)
    {
        List<string> lines = [];
        TarReader reader = new(new MemoryStream(archive), new TarLimits());
        while (reader.MoveNext())
        {
            TarEntry entry = reader.Current;
            byte[] content = new byte[entry.Size];
            int length = reader.ReadContent(content, out _);
            string rest = entry.Kind == TarEntryKind.File ? Encoding.UTF8.GetString(content, 0, length) : Encoding.UTF8.GetString(entry.LinkName);
            lines.Add($"{Encoding.UTF8.GetString(entry.Name)} {entry.Kind} {rest}");
        }

        return [.. lines];
    }

    /// <summary>An archive of empty files, made while it is read.</summary>
    internal sealed class ManyFiles(int count) : Stream
    {
        private readonly Queue<byte> rest = [];
        private int made;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(Span<byte> buffer)
        {
            if (rest.Count == 0 && made < count)
            {
                foreach (byte b in new TarBuilder().File($"usr/share/some-package-{made / 100}/file-number-{made++}.txt").ToArray())
                {
                    rest.Enqueue(b);
                }
            }

            int length = 0;
            while (length < buffer.Length && rest.TryDequeue(out byte next))
            {
                buffer[length++] = next;
            }

            return length;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush() { }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
