using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace NativePull.Registry;

/// <summary>Sees to it that a list of tags has an end, in memory of a few megabytes: pages that come again, that hold nothing, or that never end.</summary>
internal sealed class TagListEnd(string what)
{
    // A hundred million tags at the usual page size; of a registry that gives ten at a time, a million.
    private const int MaximumPages = 100_000;

    // A registry that hides tags may send an empty page with a successor.
    private const int MaximumEmpty = 100;

    private readonly HashSet<long> seen = [];
    private int pages;
    private int empty;

    /// <summary>Called with each page, before it is given out.</summary>
    /// <exception cref="PullException">Malformed, LimitPassed.</exception>
    internal void Check(string path, TagPage page)
    {
        // the same address, or the same tags under another
        if (!seen.Add(Mark(Encoding.UTF8.GetBytes(path))) || (page.Count > 0 && !seen.Add(Mark(page.Lines.Span))))
        {
            throw new PullException(PullError.Malformed, $"{what}: the pages of the tag list go in a circle");
        }

        empty = page.Count > 0 ? 0 : empty + 1;
        if (empty > MaximumEmpty)
        {
            throw new PullException(PullError.Malformed, $"{what}: the tag list has more than {MaximumEmpty} pages in a row without a tag");
        }

        if (++pages > MaximumPages)
        {
            throw new PullException(PullError.LimitPassed, $"{what}: the tag list has more than {MaximumPages} pages");
        }
    }

    // Two of 200,000 are the same by chance once in a thousand million lists.
    private static long Mark(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadInt64LittleEndian(SHA256.HashData(bytes));
}
