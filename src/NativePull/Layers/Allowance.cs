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
    private long attributes;
    private long held;
    private long steps;
    private long lookups;

    /// <summary>For what is remembered of each name.</summary>
    internal SpillMemory Memory { get; } = new(limits.Memory);

    /// <exception cref="PullException">LimitPassed.</exception>
    internal void TakeEntry()
    {
        if (Interlocked.Increment(ref entries) > limits.MaximumEntries)
        {
            throw new PullException(PullError.LimitPassed, $"archive: more than {Text(limits.MaximumEntries)} entries");
        }
    }

    /// <summary>When a symbolic link is followed on the way to a name.</summary>
    /// <param name="count">Components of its target.</param>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal void TakeSteps(int count)
    {
        if (Interlocked.Add(ref steps, count) > limits.MaximumSteps)
        {
            throw new PullException(PullError.LimitPassed, $"archive: the links on the way to its names have more than {Text(limits.MaximumSteps)} components");
        }
    }

    /// <summary>Before names are looked up in a layer below.</summary>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal void TakeLookups(int count)
    {
        if (Interlocked.Add(ref lookups, count) > limits.MaximumLookups)
        {
            throw new PullException(PullError.LimitPassed, $"archive: more than {Text(limits.MaximumLookups)} names to look up in the layers below");
        }
    }

    /// <summary>Before the first of a file's bytes is written, or those between two holes.</summary>
    /// <param name="root">Where it is to be.</param>
    /// <exception cref="PullException">LimitPassed, NoSpace.</exception>
    internal void TakeContent(SafeFileHandle root, ReadOnlySpan<byte> name, long size) =>
        TakeBytes(name, size, size >= WorthAsking ? Libc.FreeBytes(root) : null);

    /// <summary>The same with what is free as it was found out before; null: nobody can say.</summary>
    /// <exception cref="PullException">LimitPassed, NoSpace.</exception>
    internal void TakeBytes(ReadOnlySpan<byte> name, long size, long? free)
    {
        // size first: the sum of two long numbers may pass the largest
        if (limits.MaximumUnpacked is { } maximum && (size > maximum || Interlocked.Add(ref bytes, size) > maximum))
        {
            throw new PullException(
                PullError.LimitPassed,
                $"archive: {TarText.Show(name)} has {Text(size)} bytes; with it there would be more than the {Text(maximum)} allowed");
        }

        if (size > free)
        {
            throw new PullException(PullError.NoSpace, $"archive: {TarText.Show(name)} has {Text(size)} bytes, and {Text(free.Value)} are free");
        }
    }

    /// <summary>Before an extended attribute is written.</summary>
    /// <param name="bytes">Its name and value.</param>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal void TakeAttribute(ReadOnlySpan<byte> path, long bytes)
    {
        if (Interlocked.Add(ref attributes, bytes) is var all && all > limits.MaximumAttributes)
        {
            throw new PullException(
                PullError.LimitPassed,
                $"archive: with those of {TarText.Show(path)} extended attributes have {Text(all)} bytes, more than {Text(limits.MaximumAttributes)}");
        }
    }

    /// <summary>When headers are kept until others are read; a negative number when they are not any more.</summary>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal void Hold(long count)
    {
        if (count != 0 && Interlocked.Add(ref held, count) is var all && all > limits.MaximumHeld && count > 0)
        {
            throw new PullException(
                PullError.LimitPassed,
                $"archive: its links and attributes need {Text(all)} bytes, more than {Text(limits.MaximumHeld)}");
        }
    }

    /// <summary>Gives back what a layer took that is begun again.</summary>
    internal void Return(ExtractReport report)
    {
        Interlocked.Add(ref held, -report.Held);
        Interlocked.Add(ref entries, -report.Entries);
        Interlocked.Add(ref steps, -report.Steps);
        Interlocked.Add(ref lookups, -report.Lookups);
        Interlocked.Add(ref bytes, -report.Bytes);
        Interlocked.Add(ref attributes, -report.AttributeBytes);
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
