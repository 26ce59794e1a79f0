using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>Removes trees whose names are bytes, which the BCL cannot: by handles, without following a link, at any depth.</summary>
internal static class DirectoryTree
{
    /// <summary>Removes what the path names, if anything.</summary>
    /// <exception cref="LinuxException">What cannot be removed.</exception>
    internal static void Remove(string path)
    {
        path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        using SafeFileHandle? parent = Libc.TryOpenDirectory(Path.GetDirectoryName(path) ?? "/");
        if (parent is not null)
        {
            Remove(parent, Encoding.UTF8.GetBytes(Path.GetFileName(path) + "\0"));
        }
    }

    /// <summary>Removes a name in a directory and all below it; an absent name is fine.</summary>
    /// <param name="name">Bytes ending in NUL.</param>
    /// <exception cref="LinuxException">What cannot be removed.</exception>
    internal static void Remove(SafeFileHandle parent, byte[] name)
    {
        // a stack of our own: depth is the archive's choice
        Stack<Level> levels = [];
        try
        {
            if (RemoveName(parent, name) is not { } top)
            {
                return;
            }

            levels.Push(top);
            while (levels.TryPeek(out Level? level))
            {
                if (level.Names.Count > 0)
                {
                    byte[] child = level.Names[^1];
                    level.Names.RemoveAt(level.Names.Count - 1);
                    if (RemoveName(level.Directory, child) is { } below)
                    {
                        levels.Push(below);
                    }

                    continue;
                }

                levels.Pop().Directory.Dispose();
                SafeFileHandle above = levels.TryPeek(out Level? upper) ? upper.Directory : parent;
                Expect(Libc.RemoveDirectory(above, level.Name), "rmdir", level.Name);
            }
        }
        finally
        {
            foreach (Level level in levels)
            {
                level.Directory.Dispose();
            }
        }
    }

    // Null: gone. Else a directory to be emptied first.
    private static Level? RemoveName(SafeFileHandle parent, byte[] name)
    {
        int errno = Libc.Unlink(parent, name);
        if (errno is 0 or Errno.NoEntry)
        {
            return null;
        }

        if (errno is not (Errno.IsDirectory or Errno.PermissionDenied))
        {
            throw new LinuxException("unlink", Show(name), errno);
        }

        if (Libc.RemoveDirectory(parent, name) == 0)
        {
            return null;
        }

        int flags = OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow;
        int opening = Libc.OpenAt(parent, name, flags, 0, out SafeFileHandle? directory);
        if (opening == Errno.AccessDenied && Libc.ChangeModeAt(parent, name, 0x1C0) == 0)
        {
            // ours, but without the owner's own rights
            opening = Libc.OpenAt(parent, name, flags, 0, out directory);
        }

        if (directory is null)
        {
            throw new LinuxException("unlink", Show(name), opening == Errno.NotDirectory ? errno : opening);
        }

        // ours, but what is in it may not be removable without the owner's write and search bits
        _ = Libc.ChangeMode(directory, 0x1C0);
        return new Level(directory, name, Libc.Names(directory, Show(name)));
    }

    private static void Expect(int errno, string call, byte[] name)
    {
        if (errno is not (0 or Errno.NoEntry))
        {
            throw new LinuxException(call, Show(name), errno);
        }
    }

    private static string Show(byte[] name) => Encoding.UTF8.GetString(name).TrimEnd('\0');

    private sealed record Level(SafeFileHandle Directory, byte[] Name, List<byte[]> Names);
}
