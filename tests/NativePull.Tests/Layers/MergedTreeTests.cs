using System.Text;
using NativePull.Layers;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Layers;

/// <summary>What the merged view remembers of names.</summary>
public sealed class MergedTreeTests
{
    [Fact]
    public void Names_that_are_gone_are_not_gone_through_by_every_layer_that_hides_a_directory()
    {
        using SpillPool pool = new(new SpillMemory(1 << 20), null);
        MergedTree tree = new(pool);
        int position = 0;
        Merge(0, Enumerable.Range(0, 1_000).Aggregate(new TarBuilder(), (tar, i) => tar.File($"d/{i}").File($"d/e/{i}")));
        Merge(1, new TarBuilder().Opaque("d").File("d/e/new"));
        int directory = tree.Find(MergedTree.Root, "d"u8);

        Merge(2, new TarBuilder().Opaque("d").File("d/f"));

        Assert.Equal(["d/f"], NamesBelow().Where(name => !tree.IsGone(name)).Select(name => Encoding.ASCII.GetString(tree.PathOf(name))));
        // and what the last layer removed
        Assert.InRange(NamesBelow().Count(), 1, 10);

        void Merge(short layer, TarBuilder tar)
        {
            TreeMerger merger = new(tree, layer, position + 1, () => { }, _ => { });
            TarReader reader = new(new MemoryStream(tar.End().ToArray()), new TarLimits());
            while (reader.MoveNext())
            {
                merger.Add(reader.Current, ++position);
            }
        }

        IEnumerable<int> NamesBelow()
        {
            for (int at = tree.NextBelow(directory, directory); at != MergedTree.None; at = tree.NextBelow(directory, at))
            {
                yield return at;
            }
        }
    }
}
