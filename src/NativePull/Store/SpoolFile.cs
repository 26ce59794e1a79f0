using Microsoft.Win32.SafeHandles;

namespace NativePull.Store;

/// <summary>
/// A file without a name, for an input that can be read only once. It goes when it is closed or the process dies; a kill in the instant before its name
/// is taken away leaves an empty file, which the next to come removes.
/// </summary>
internal static class SpoolFile
{
    internal static FileStream Create(string path)
    {
        SafeFileHandle? file;
        while ((file = OwnFile.TryMake(path)) is null)
        {
            // for as long as another process takes to take its name away
            Thread.Yield();
        }

        File.Delete(path);
        return new FileStream(file, FileAccess.ReadWrite, 1);
    }
}
