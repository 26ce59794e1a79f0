using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>A directory that a layer speaks of or puts something into, and what remains to be done to it when the layer has ended.</summary>
internal sealed class TouchedDirectory(int number, byte[] path)
{
    /// <summary>Tells it from every other of the layer.</summary>
    internal int Number { get; } = number;

    /// <summary>Normalised; the last one by which it was reached.</summary>
    internal byte[] Path { get; set; } = path;

    /// <summary>Open while cached.</summary>
    internal SafeFileHandle? Handle { get; set; }

    /// <summary>Made for something below it; no entry of the layer describes it.</summary>
    internal bool IsImplied { get; set; }

    /// <summary>Hides everything below it (overlay).</summary>
    internal bool IsOpaque { get; set; }

    /// <summary>What its modification time shall be in the end.</summary>
    internal TarTime Modified { get; set; }

    /// <summary>What its mode shall be in the end, where it had to be wider in the meantime.</summary>
    internal uint? FinalMode { get; set; }
}

/// <summary>Which inode: the key under which a directory is remembered, however many paths lead to it.</summary>
internal readonly record struct DirectoryKey(uint Major, uint Minor, ulong Inode)
{
    internal static DirectoryKey Of(FileStatus status) => new(status.DeviceMajor, status.DeviceMinor, status.Inode);
}
