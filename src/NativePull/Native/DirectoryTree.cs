using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>
/// Removes trees whose names are bytes, which the BCL cannot: by handles, without following a link or entering what is mounted, at any depth with
/// few handles, and of directories of any size with few names in memory.
/// </summary>
internal static class DirectoryTree
{
    // Handles held at once, from the deepest level upwards; those above are found again by "..".
    private const int MaximumOpen = 32;

    /// <summary>Removes what the path names, if anything.</summary>
    /// <exception cref="LinuxException">What cannot be removed.</exception>
    internal static void Remove(string path)
    {
        path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        using SafeFileHandle? parent = Libc.TryOpenPlace(Path.GetDirectoryName(path) ?? "/");
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
        List<Level> levels = [];
        try
        {
            if (Enter(parent, name) is { } top)
            {
                levels.Add(top);
            }

            while (levels.Count > 0)
            {
                Level level = levels[^1];
                if (NextDirectory(level) is { } child)
                {
                    if (Enter(level.Directory!, child) is { } below)
                    {
                        levels.Add(below);
                        CloseFarAbove(levels);
                    }

                    continue;
                }

                if (levels.Count > 1)
                {
                    Reopen(levels[^2], level);
                }

                level.Directory!.Dispose();
                levels.RemoveAt(levels.Count - 1);
                Expect(Libc.RemoveDirectory(levels.Count == 0 ? parent : levels[^1].Directory!, level.Name), "rmdir", level.Name);
            }
        }
        finally
        {
            levels.ForEach(level => level.Directory?.Dispose());
        }
    }

    // Null: gone. Else a directory to be emptied first.
    private static Level? Enter(SafeFileHandle parent, byte[] name)
    {
        int errno = Libc.RemoveDirectory(parent, name);
        if (errno == Errno.NotDirectory)
        {
            errno = Libc.Unlink(parent, name);
        }

        if (errno is 0 or Errno.NoEntry)
        {
            return null;
        }

        if (errno != Errno.NotEmpty && errno != Errno.Exists)
        {
            // EBUSY is a mount point: what is mounted there is not ours to empty
            throw new LinuxException("rmdir", Show(name), errno);
        }

        int flags = OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow;
        int opening = Libc.OpenAt(parent, name, flags, 0, out SafeFileHandle? directory);
        if (opening == Errno.AccessDenied && Libc.ChangeModeAt(parent, name, Permission.Owner) == 0)
        {
            // ours, but without the owner's own rights
            opening = Libc.OpenAt(parent, name, flags, 0, out directory);
        }

        if (opening != 0)
        {
            throw new LinuxException("open", Show(name), opening);
        }

        FileStatus status = Libc.Status(directory!, Show(name));
        if ((status.Permissions & Permission.Owner) != Permission.Owner)
        {
            _ = Libc.ChangeMode(directory!, Permission.Owner);
        }

        return new Level(name, status.Inode) { Directory = directory };
    }

    // A directory in the level that is still to be removed, after the next names that are none are gone; null: the level is empty.
    private static byte[]? NextDirectory(Level level)
    {
        while (level.Directories.Count == 0)
        {
            Libc.Rewind(level.Directory!, Show(level.Name));
            List<(byte[] Name, bool IsDirectory)> names = Libc.NextNames(level.Directory!, Show(level.Name));
            if (names.Count == 0)
            {
                return null;
            }

            foreach ((byte[] name, bool isDirectory) in names)
            {
                if (isDirectory || !TryUnlink(level, name))
                {
                    level.Directories.Push(name);
                }
            }
        }

        return level.Directories.Pop();
    }

    // False: it is a directory.
    private static bool TryUnlink(Level level, byte[] name)
    {
        int errno = Libc.Unlink(level.Directory!, name);
        if (errno == Errno.IsDirectory)
        {
            return false;
        }

        Expect(errno, "unlink", name);
        return true;
    }

    private static void CloseFarAbove(List<Level> levels)
    {
        if (levels.Count > MaximumOpen)
        {
            Level far = levels[^(MaximumOpen + 1)];
            far.Directory?.Dispose();
            far.Directory = null;
            // its names too, a buffer of them: thousands of levels would make it memory; they are listed again
            far.Directories.Clear();
            far.Directories.TrimExcess();
        }
    }

    // Up again; not to anywhere else, should the tree have been moved meanwhile.
    private static void Reopen(Level level, Level below)
    {
        if (level.Directory is not null)
        {
            return;
        }

        Expect(Libc.OpenAt(below.Directory!, "..\0"u8, OpenFlags.ReadOnly | OpenFlags.Directory, 0, out SafeFileHandle? opened), "open", level.Name);
        level.Directory = opened;
        if (Libc.Status(opened!, Show(level.Name)).Inode != level.Inode)
        {
            throw new LinuxException("open", Show(level.Name) + " (moved while it was removed)", Errno.NoEntry);
        }
    }

    private static void Expect(int errno, string call, byte[] name)
    {
        if (errno is not (0 or Errno.NoEntry))
        {
            throw new LinuxException(call, Show(name), errno);
        }
    }

    private static string Show(byte[] name) => Encoding.UTF8.GetString(name).TrimEnd('\0');

    private sealed class Level(byte[] name, ulong inode)
    {
        internal byte[] Name { get; } = name;

        internal ulong Inode { get; } = inode;

        internal Stack<byte[]> Directories { get; } = new();

        internal SafeFileHandle? Directory { get; set; }
    }
}
