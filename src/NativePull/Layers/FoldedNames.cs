using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// File systems that take names for one that differ in case alone (exFAT, ext4's casefold, what Windows shares): of two such names of an image one would
/// silently take the other's place.
/// </summary>
internal static class FoldedNames
{
    /// <summary>Tried with a name of our own, which is gone again; in a directory that nobody else may enter.</summary>
    internal static bool AreIn(SafeFileHandle directory)
    {
        string name = $".nativepull-{Guid.NewGuid():n}\0";
        byte[] made = Encoding.ASCII.GetBytes(name);
        if (NewFile.Create(directory, made, out SafeFileHandle? file) != 0)
        {
            // what is made next will say why
            return false;
        }

        file!.Dispose();
        bool folded = Libc.TryStatusAt(directory, Encoding.ASCII.GetBytes(name.ToUpperInvariant()), out _) == 0;
        Failure.ThrowIf(Libc.Unlink(directory, made), "unlink", made.AsSpan(0, made.Length - 1));
        return folded;
    }

    /// <summary>Refuses a name where there is one that the file system takes for it.</summary>
    /// <param name="name">Ends in NUL.</param>
    /// <param name="path">For the message.</param>
    /// <exception cref="PullException">Machine.</exception>
    internal static void Check(SafeFileHandle directory, byte[] name, ReadOnlySpan<byte> path)
    {
        if (Libc.TryStatusAt(directory, name, out _) != 0)
        {
            return;
        }

        string shown = TarText.Show(path);
        byte[]? there = null;
        Libc.Rewind(directory, shown);
        while (Libc.NextNames(directory, shown) is { Count: > 0 } names)
        {
            foreach ((byte[] each, _) in names)
            {
                if (each.AsSpan().SequenceEqual(name))
                {
                    return;
                }

                there = Ascii.EqualsIgnoreCase(each, name) ? each : there;
            }
        }

        throw new PullException(
            PullError.Machine,
            $"{shown}: this file system takes names that differ in case alone for one, and has {(there is null ? "another of them" : TarText.Show(there.AsSpan(0, there.Length - 1)))} already");
    }
}
