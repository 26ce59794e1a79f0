using Microsoft.Win32.SafeHandles;

namespace NativePull.Store;

/// <summary>
/// A file without a name, for an input that can be read only once. It goes when it is closed or the process dies; a kill in the instant before its name
/// is taken away leaves an empty file, which the next to come removes.
/// </summary>
internal static class SpoolFile
{
    /// <summary>Where the spool for something to be made at a path lies: beside it, on the file system that will have to hold the result too.</summary>
    internal static string Beside(string destination) =>
        Path.Combine(Path.GetDirectoryName(destination) ?? "/", $".{Path.GetFileName(destination)}.nativepull-input");

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
