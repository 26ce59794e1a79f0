using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// A file without a name, for an input that can be read only once. It goes when it is closed or the process dies; a kill in the instant before its name
/// is taken away leaves an empty file, which the next to come takes over.
/// </summary>
internal static class SpoolFile
{
    private const int SharingViolation = 11; // EAGAIN, what flock answers through the BCL

    /// <summary>Where the spool for something to be made at a path lies: beside it, on the file system that will have to hold the result too.</summary>
    internal static string Beside(string destination) =>
        Path.Combine(Path.GetDirectoryName(destination) ?? "/", $".{Path.GetFileName(destination)}.nativepull-input");

    internal static FileStream Create(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path) ?? "/");
        while (true)
        {
            FileStream? file = TryOpen(path);
            if (file is null)
            {
                Thread.Yield();
                continue;
            }

            // another process may have opened the same name and taken it away meanwhile
            if (Libc.TryIdentityOf(path) == Libc.IdentityOf(file.SafeFileHandle, path))
            {
                File.Delete(path);
                return file;
            }

            file.Dispose();
        }
    }

    private static FileStream? TryOpen(string path)
    {
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1);
        }
        catch (IOException held) when (held.HResult == SharingViolation)
        {
            return null;
        }
    }
}
