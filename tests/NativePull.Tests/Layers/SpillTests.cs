using NativePull.Layers;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Layers;

/// <summary>What is remembered of names with memory for eight pages, and the rest in a file without a name.</summary>
public sealed class SpillTests
{
    [Fact]
    public void Whatever_is_put_into_lists_and_bytes_comes_back_from_the_file()
    {
        using TemporaryDirectory scratch = new();
        using SpillPool pool = Pool(0, scratch);
        SpilledList<long> list = new(pool);
        SpilledBytes bytes = new(pool);
        List<(int At, byte[] Text)> texts = [];
        Random random = new(1);
        for (int i = 0; i < 20_000; i++)
        {
            list.Add(i * 3L);
            byte[] text = new byte[i % 997 == 0 ? 10_000 : random.Next(40)];
            random.NextBytes(text);
            texts.Add((bytes.AddWithLength(text), text));
        }

        for (int i = 0; i < 60_000; i++)
        {
            int at = random.Next(list.Count);
            list[at] += 1;
            list[at] -= 1;
            Assert.Equal(at * 3L, list[at]);
            Assert.True(bytes.GetWithLength(texts[at].At).SequenceEqual(texts[at].Text));
        }

        Assert.True(pool.HasSpilled);
        Assert.Empty(scratch.Names);
    }

    [Fact]
    public void A_file_that_had_a_name_for_a_moment_serves_as_well()
    {
        using TemporaryDirectory scratch = new();
        using RootDirectory root = RootDirectory.Open(scratch.Path);
        using SpillPool pool = new(new SpillMemory(0), () => NewFile.MadeAndRemoved(root.Handle));
        SpilledList<int> list = new(pool);
        for (int i = 0; i < 100_000; i++)
        {
            list.Add(i);
        }

        Assert.True(pool.HasSpilled);
        Assert.Equal(54_321, list[54_321]);
        Assert.Empty(scratch.Names);
    }

    [Fact]
    public void A_page_that_was_given_back_is_zeros_when_it_is_taken_again()
    {
        using TemporaryDirectory scratch = new();
        using SpillPool pool = Pool(0, scratch);
        SpilledList<int> list = new(pool);
        for (int turn = 0; turn < 3; turn++)
        {
            list.Resize(100_000);
            for (int i = 0; i < list.Count; i++)
            {
                Assert.Equal(0, list[i]);
                list[i] = i + 1;
            }

            list.Clear();
        }

        Assert.True(pool.HasSpilled);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(100 << 20)]
    public void Names_are_found_by_their_directory_until_they_are_removed(int memory)
    {
        using TemporaryDirectory scratch = new();
        using SpillPool pool = Pool(memory, scratch);
        NameTable table = new(pool);
        Dictionary<(int, string), int> expected = [];
        List<int> directories = [NameTable.Root];
        Random random = new(2);
        for (int i = 0; i < 30_000; i++)
        {
            (int parent, string text) = (directories[random.Next(directories.Count)], $"n{random.Next(60)}");
            int found = table.Find(parent, System.Text.Encoding.ASCII.GetBytes(text));
            Assert.Equal(expected.GetValueOrDefault((parent, text), NameTable.None), found);
            if (found == NameTable.None)
            {
                expected[(parent, text)] = table.Add(parent, System.Text.Encoding.ASCII.GetBytes(text));
                directories.Add(expected[(parent, text)]);
            }
            else if (random.Next(3) == 0)
            {
                table.Remove(found);
                expected.Remove((parent, text));
                Assert.True(table.IsRemoved(found));
            }
        }

        Assert.All(expected, pair => Assert.EndsWith(pair.Key.Item2, System.Text.Encoding.ASCII.GetString(table.PathOf(pair.Value)), StringComparison.Ordinal));
        Assert.Equal(memory == 0, pool.HasSpilled);
    }

    [Fact]
    public void Without_a_place_for_the_file_memory_is_taken_after_all()
    {
        using SpillPool pool = new(new SpillMemory(0), () => null);
        SpilledList<int> list = new(pool);
        for (int i = 0; i < 200_000; i++)
        {
            list.Add(i);
        }

        Assert.Equal(123_456, list[123_456]);
        Assert.False(pool.HasSpilled);
    }

    [Fact]
    public void Pools_share_what_memory_there_is_and_give_it_back()
    {
        using TemporaryDirectory scratch = new();
        SpillMemory memory = new(50 * SpillPool.PageSize);
        for (int i = 0; i < 2; i++)
        {
            using SpillPool first = new(memory, () => Nameless(scratch));
            Enumerable.Range(0, 50).ToList().ForEach(_ => first.Add());
            Assert.False(first.HasSpilled);
            Assert.False(memory.TryTake(1));
            using SpillPool second = new(memory, () => Nameless(scratch));
            Enumerable.Range(0, 9).ToList().ForEach(_ => second.Add());
            Assert.True(second.HasSpilled);
        }

        Assert.True(memory.TryTake(50 * SpillPool.PageSize));
    }

    // each would leave as much to be collected as all may have: of layers one above the other a hundred megabytes
    [Fact]
    public void Pools_one_after_the_other_have_the_same_memory()
    {
        SpillMemory memory = new(50 * SpillPool.PageSize);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            using SpillPool pool = new(memory, null);
            Enumerable.Range(0, 50).ToList().ForEach(_ => Assert.Equal(0, pool.Write(pool.Add())[^1]++));
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 50 * SpillPool.PageSize, 1_500 * SpillPool.PageSize);
    }

    private static SpillPool Pool(int memory, TemporaryDirectory scratch) => new(new SpillMemory(memory), () => Nameless(scratch));

    private static Microsoft.Win32.SafeHandles.SafeFileHandle? Nameless(TemporaryDirectory scratch)
    {
        using RootDirectory root = RootDirectory.Open(scratch.Path);
        return NewFile.Nameless(root.Handle);
    }
}
