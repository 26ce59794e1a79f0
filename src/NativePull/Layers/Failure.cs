using NativePull.Native;

namespace NativePull.Layers;

/// <summary>Linux errors of this room as exceptions that name the entry; what they mean (no space, no permission) their errno tells.</summary>
internal static class Failure
{
    internal static void ThrowIf(int errno, string call, ReadOnlySpan<byte> path)
    {
        if (errno != 0)
        {
            throw new LinuxException(call, TarText.Show(path), errno);
        }
    }

    internal static void ThrowIf(int errno, string call, string path)
    {
        if (errno != 0)
        {
            throw new LinuxException(call, path, errno);
        }
    }
}
