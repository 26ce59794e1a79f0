using System.Globalization;

namespace NativePull.Layers;

/// <summary>
/// Where the data of a sparse file belongs: runs in ascending order that do not overlap and do not pass the file's size. Everything between
/// them is hole. (GNU tar manual, "Storing Sparse Files".)
/// </summary>
/// <param name="what">It belongs to, for messages: "of a file".</param>
internal sealed class SparseMap(int limit, string what)
{
    private const int Block = 4096;

    private readonly List<(long Offset, long Length)> runs = [];
    private long end;
    private long blocks;
    private long nextBlock;

    internal int Count => runs.Count;

    /// <summary>Bytes of data in all runs.</summary>
    internal long DataSize { get; private set; }

    /// <summary>
    /// Bytes that they take on a disk, where the usual file system gives out no less than 4 KiB: a run of one byte takes as much as one of thousands, and a
    /// million of them is little in an archive. Two blocks less, so that one run counts as it is wherever it begins.
    /// </summary>
    internal long Room => long.CreateSaturating(Int128.Max(DataSize, ((Int128)blocks - 2) * Block));

    internal (long Offset, long Length) this[int index] => runs[index];

    /// <exception cref="PullException">Malformed, LimitPassed.</exception>
    internal void Add(long offset, long length)
    {
        if (offset < end || length < 0 || offset > long.MaxValue - length)
        {
            throw new PullException(
                PullError.Malformed,
                $"archive: sparse map {what}: {Text(length)} bytes at {Text(offset)} after a run that ends at {Text(end)}");
        }

        end = offset + length;
        DataSize += length;
        // GNU tar closes the map by an empty run at the file's end
        if (length == 0)
        {
            return;
        }

        if (runs.Count == limit)
        {
            throw new PullException(PullError.LimitPassed, $"archive: sparse map {what}: more than {Text(limit)} runs");
        }

        runs.Add((offset, length));
        long last = (end - 1) / Block;
        blocks += last + 1 - Math.Min(last + 1, Math.Max(nextBlock, offset / Block));
        nextBlock = last + 1;
    }

    /// <summary>Compares the map with what the headers promise.</summary>
    /// <param name="size">Of the file with its holes.</param>
    /// <param name="stored">Bytes of content in the archive.</param>
    /// <exception cref="PullException">Malformed.</exception>
    internal void Check(long size, long stored, ReadOnlySpan<byte> name)
    {
        if (end > size)
        {
            throw new PullException(
                PullError.Malformed,
                $"archive: sparse map of {TarText.Show(name)} reaches {Text(end)}, the file has {Text(size)} bytes");
        }

        if (DataSize != stored)
        {
            throw new PullException(
                PullError.Malformed,
                $"archive: sparse map of {TarText.Show(name)} has {Text(DataSize)} bytes of data, the archive {Text(stored)}");
        }
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
