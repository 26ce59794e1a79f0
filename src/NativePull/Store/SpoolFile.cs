using System.Diagnostics;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Store;

/// <summary>
/// A file without a name, for an input that can be read only once. It goes when it is closed or the process dies; a kill in the instant before its name
/// is taken away leaves an empty file, which the next to come removes.
/// </summary>
internal static class SpoolFile
{
    // What another process has of that name, it has for the instant in which it takes the name away.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    /// <exception cref="PullException">Locked: another process holds on to what has the name.</exception>
    internal static FileStream Create(string path, CancellationToken token)
    {
        long begun = Stopwatch.GetTimestamp();
        SafeFileHandle? file;
        while ((file = OwnFile.TryMake(path)) is null)
        {
            token.ThrowIfCancellationRequested();
            if (Stopwatch.GetElapsedTime(begun) > Patience)
            {
                throw new PullException(PullError.Locked, $"{path} is held by another process, where the copy of the input is to be");
            }

            Thread.Sleep(Pause);
        }

        File.Delete(path);
        return new FileStream(file, FileAccess.ReadWrite, 1);
    }
}
