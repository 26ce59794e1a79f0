using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What is left of the limits of one image; its layers take from it, several at a time.</summary>
internal sealed class Allowance(LayerLimits limits)
{
    // Bytes; a file below this is written without asking whether there is room.
    private const long WorthAsking = 1024 * 1024;

    private long entries;
    private long bytes;

    /// <exception cref="PullException">LimitPassed.</exception>
    internal void TakeEntry()
    {
        if (Interlocked.Increment(ref entries) > limits.MaximumEntries)
        {
            throw new PullException(PullError.LimitPassed, $"archive: more than {Text(limits.MaximumEntries)} entries");
        }
    }

    /// <summary>Before the first byte of a file is written.</summary>
    /// <param name="root">Where it is to be.</param>
    /// <exception cref="PullException">LimitPassed, NoSpace.</exception>
    internal void TakeFile(SafeFileHandle root, TarEntry file)
    {
        long size = file.DataSize;
        TakeBytes(file, size);
        if (size >= WorthAsking && Libc.FreeBytes(root) is { } free && size > free)
        {
            throw new PullException(PullError.NoSpace, $"archive: {TarText.Show(file.Name)} has {Text(size)} bytes, and {Text(free)} are free");
        }
    }

    /// <summary>Before a file is written to where nobody can say what is free.</summary>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal void TakeBytes(TarEntry file, long size)
    {
        // size first: the sum of two long numbers may pass the largest
        if (limits.MaximumUnpacked is { } maximum && (size > maximum || Interlocked.Add(ref bytes, size) > maximum))
        {
            throw new PullException(
                PullError.LimitPassed,
                $"archive: {TarText.Show(file.Name)} has {Text(size)} bytes; with it there would be more than the {Text(maximum)} allowed");
        }
    }

    /// <summary>Gives back what a layer took that is begun again.</summary>
    internal void Return(ExtractReport report)
    {
        Interlocked.Add(ref entries, -report.Entries);
        Interlocked.Add(ref bytes, -report.Bytes);
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
