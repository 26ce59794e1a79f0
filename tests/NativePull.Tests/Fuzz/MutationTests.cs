using System.Globalization;
using NativePull.IO;
using NativePull.Layers;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Fuzz;

/// <summary>
/// Thousands of damaged archives: each is read or refused for a reason that is the archive's, in bounded steps and memory, and nothing
/// outside the target is touched. NATIVEPULL_FUZZ_SEED and NATIVEPULL_FUZZ_COUNT (a factor) change what is run; scripts/fuzz.sh goes further.
/// </summary>
public class MutationTests
{
    // Bytes that one small archive may make us allocate: the largest pax header, its copies, and the decoders.
    private const long MaximumMemory = 32L << 20;

    private static int Seed => Setting("NATIVEPULL_FUZZ_SEED", 1);

    private static int Factor => Setting("NATIVEPULL_FUZZ_COUNT", 1);

    [Fact]
    public void Damaged_archives_are_read_or_refused() => ForEach(14_000, Archives.Tars(), (mutator, archive) =>
        ReadAll(new MemoryStream(mutator.Mutate(mutator.Join(archive, mutator.Pick(Archives.Tars()))))));

    [Fact]
    public void Damaged_archives_inside_sound_compression_are_read_or_refused() => ForEach(1_500, Archives.Tars(), (mutator, archive) =>
        Unpack(mutator.Pick([TarBuilder.GZip, TarBuilder.Zstd, (Func<byte[], byte[]>)(plain => plain)])(mutator.Mutate(archive))));

    [Fact]
    public void Damaged_compression_is_unpacked_or_refused()
    {
        byte[][] blobs = [.. Archives.Tars().Take(3).SelectMany(tar => new[] { TarBuilder.GZip(tar), TarBuilder.Zstd(tar) })];
        ForEach(3_000, blobs, (mutator, blob) => Unpack(mutator.Mutate(mutator.Join(blob, mutator.Pick(blobs)))));
    }

    [Theory]
    [InlineData(nameof(LayerFormat.Flat), true)]
    [InlineData(nameof(LayerFormat.Flat), false)]
    [InlineData(nameof(LayerFormat.Overlay), true)]
    [InlineData(nameof(LayerFormat.Overlay), false)]
    public void Damaged_layers_leave_everything_outside_alone(string format, bool kernel)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and devices need root");
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["a/b"]);
        File.WriteAllText(work["sentinel"], "untouched");
        File.WriteAllText(work["a/sentinel"], "untouched");
        string before = Outside(work);
        ExtractOptions options = new() { Format = Enum.Parse<LayerFormat>(format), KernelResolution = kernel, Xattrs = XattrPolicy.Try };
        int done = 0;
        ForEach(400, Archives.Tars(), (mutator, archive) =>
        {
            // a few layers onto each other
            if (done++ % 8 == 0)
            {
                Native.DirectoryTree.Remove(work["a/b/root"]);
                Directory.CreateDirectory(work["a/b/root"]);
            }

            try
            {
                Apply(work["a/b/root"], mutator.Mutate(mutator.Join(archive, mutator.Pick(Archives.Tars()))), options);
            }
            finally
            {
                Assert.Equal(before, Outside(work));
            }
        });
    }

    // Not a listing of all: inside the target a damaged sparse file may be larger than could ever be read.
    private static string Outside(TemporaryDirectory work)
    {
        string[] directories = [work.Path, work["a"]];
        IEnumerable<string> names = directories.SelectMany(directory => Directory.GetFileSystemEntries(directory).Order(StringComparer.Ordinal).Prepend(directory));
        return string.Join('\n', names.Select(name =>
            name == work["a/b"]
                ? string.Join(' ', Directory.GetFileSystemEntries(name).Where(entry => entry != work["a/b/root"]))
                : $"{name} {File.GetUnixFileMode(name)} {File.GetLastWriteTimeUtc(name).Ticks} {(File.Exists(name) ? File.ReadAllText(name) : "")}"));
    }

    private static void Apply(string directory, byte[] archive, ExtractOptions options)
    {
        using RootDirectory root = RootDirectory.Open(directory, options.KernelResolution);
        using LayerApplier applier = new(root, options);
        using MemoryStream stream = new(archive);
        applier.Apply(stream, TestContext.Current.CancellationToken);
        applier.Settle([], TestContext.Current.CancellationToken);
    }

    private static void Unpack(byte[] blob)
    {
        using Stream plain = LayerStream.Decompress(new MemoryStream(blob), "layer", new LayerLimits { RatioFrom = 1 << 20 });
        ReadAll(plain);
        byte[] rest = new byte[65536];
        while (plain.Read(rest) > 0)
        {
        }
    }

    private static void ReadAll(Stream archive)
    {
        TarReader reader = new(new Patience(archive), new TarLimits());
        byte[] buffer = new byte[4096];
        while (reader.MoveNext())
        {
            long end = 0;
            long data = 0;
            int read;
            while ((read = reader.ReadContent(buffer, out long position)) > 0)
            {
                Assert.True(position >= end && position + read <= reader.Current.Size, "content where none belongs");
                end = position + read;
                data += read;
            }

            Assert.Equal(reader.Current.DataSize, data);
        }

        Assert.False(reader.MoveNext());
    }

    private static void ForEach(int count, IReadOnlyList<byte[]> originals, Action<Mutator, byte[]> run)
    {
        for (int i = 0; i < count * Factor; i++)
        {
            Mutator mutator = new(unchecked((Seed * 1_000_003) + i));
            long before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                run(mutator, originals[i % originals.Count]);
            }
            catch (PullException refused) when (refused.Reason is PullError.Malformed or PullError.LimitPassed or PullError.Unsupported or PullError.UnsafeEntry or PullError.NoSpace)
            {
            }
            catch (IOException)
            {
                // the file system's own refusal: a name that is too long, a time or size that it does not have
            }
            catch (Exception other)
            {
                throw new InvalidOperationException($"seed {Seed}, mutation {i}", other);
            }

            long used = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(used < MaximumMemory, $"seed {Seed}, mutation {i}: {used} bytes allocated");
        }
    }

    private static int Setting(string name, int usual) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : usual;

    /// <summary>Fails where a reader asks again and again after the end: that is a hang.</summary>
    private sealed class Patience(Stream inner) : ReadOnlyStream
    {
        private int ends;

        public override int Read(Span<byte> buffer)
        {
            int read = inner.Read(buffer);
            Assert.True(read > 0 || buffer.Length == 0 || ++ends < 10, "reads on after the end");
            return read;
        }
    }
}
