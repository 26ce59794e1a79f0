using System.Buffers.Binary;

namespace NativePull.Layers;

/// <summary>Byte strings, end to end in the pages of a pool.</summary>
internal sealed class SpilledBytes(SpillPool pool)
{
    private const int PageSize = SpillPool.PageSize;

    private readonly List<int> pages = [];

    // within the last page
    private int used = PageSize;

    /// <returns>Where it is; its length is for the caller to remember.</returns>
    /// <exception cref="PullException">LimitPassed: 2 GiB of them.</exception>
    internal int Add(ReadOnlySpan<byte> text)
    {
        // what fits into a page is never split, so that it can be read in place
        if (used + text.Length > PageSize)
        {
            AddPage();
        }

        int at = ((pages.Count - 1) * PageSize) + used;
        while (true)
        {
            ReadOnlySpan<byte> part = text[..Math.Min(text.Length, PageSize - used)];
            part.CopyTo(pool.Write(pages[^1])[used..]);
            used += part.Length;
            text = text[part.Length..];
            if (text.Length == 0)
            {
                return at;
            }

            AddPage();
        }
    }

    /// <summary>Good until the pool's next access.</summary>
    internal ReadOnlySpan<byte> Get(int at, int length)
    {
        int page = at / PageSize;
        int offset = at % PageSize;
        if (offset + length <= PageSize)
        {
            return length == 0 ? default : pool.Read(pages[page]).Slice(offset, length);
        }

        byte[] text = new byte[length];
        for (int copied = 0; copied < length; offset = 0)
        {
            int part = Math.Min(length - copied, PageSize - offset);
            pool.Read(pages[page++]).Slice(offset, part).CopyTo(text.AsSpan(copied));
            copied += part;
        }

        return text;
    }

    /// <summary>The same with its length beside it.</summary>
    internal int AddWithLength(ReadOnlySpan<byte> text)
    {
        byte[] whole = new byte[sizeof(int) + text.Length];
        BinaryPrimitives.WriteInt32LittleEndian(whole, text.Length);
        text.CopyTo(whole.AsSpan(sizeof(int)));
        return Add(whole);
    }

    internal ReadOnlySpan<byte> GetWithLength(int at) =>
        Get(at + sizeof(int), BinaryPrimitives.ReadInt32LittleEndian(Get(at, sizeof(int))));

    internal void Clear()
    {
        pages.ForEach(pool.Free);
        pages.Clear();
        used = PageSize;
    }

    private void AddPage()
    {
        if (pages.Count == int.MaxValue / PageSize)
        {
            throw new PullException(PullError.LimitPassed, "archive: its names and attributes have more than 2 GiB");
        }

        pages.Add(pool.Add());
        used = 0;
    }
}
