using System.Collections;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// The layers below one that is settled, top first, each as its own root. One is opened when it is looked at: the topmost stay open, of the rest one at a
/// time, so that there may be any number of layers where a process may have few open files.
/// </summary>
/// <param name="paths">Every layer's directory, bottom first.</param>
/// <param name="count">How many of them, from the bottom, are meant.</param>
internal sealed class LowerRoots(IReadOnlyList<string?> paths, int count, bool kernel) : IReadOnlyList<RootDirectory>, IDisposable
{
    /// <summary>How many roots an extraction holds open at once: of layers that wait for those below, and of these.</summary>
    internal static readonly int MaximumOpen = (int)Math.Clamp(Libc.MaximumDescriptors() / 8, 4, 256);

    private readonly RootDirectory?[] topmost = new RootDirectory?[Math.Min(count, MaximumOpen)];
    private RootDirectory? passing;

    public int Count => count;

    /// <summary>Good until another is asked for.</summary>
    public RootDirectory this[int index]
    {
        get
        {
            if (index < topmost.Length)
            {
                return topmost[index] ??= Open(index);
            }

            passing?.Dispose();
            return passing = Open(index);
        }
    }

    /// <summary>Each is good until the next.</summary>
    public IEnumerator<RootDirectory> GetEnumerator()
    {
        for (int i = 0; i < topmost.Length; i++)
        {
            yield return this[i];
        }

        for (int i = topmost.Length; i < count; i++)
        {
            // not the indexer's: two may go through the layers at once
            using RootDirectory root = Open(i);
            yield return root;
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    public void Dispose()
    {
        passing?.Dispose();
        foreach (RootDirectory? root in topmost)
        {
            root?.Dispose();
        }
    }

    private RootDirectory Open(int index) => RootDirectory.Open(paths[count - 1 - index]!, kernel);
}
