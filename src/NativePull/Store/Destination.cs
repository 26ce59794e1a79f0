using System.Globalization;
using System.Text;
using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// Where a tree or an archive that the user named will appear: absolute and without links, so that what is built beside it is on its file system
/// and what is compared with it is comparable. Says no, with the reason, before any work is done.
/// </summary>
internal static class Destination
{
    // mount(2) of this process's namespace; proc_pid_mountinfo(5): the fifth field is the mount point, with spaces and such in octal
    private const string Mounts = "/proc/self/mountinfo";

    private const string InProgress = ".nativepull";
    private const string Input = InProgress + "-input";

    // Bytes; NAME_MAX, of which the longest name beside a destination takes its part.
    private const int LongestName = 255;

    /// <summary>The path of a directory to be made or replaced. A link to a directory stands for that directory.</summary>
    /// <exception cref="PullException">Usage: "/", the current directory or one above it, a name for what is in progress; Machine: a file, a link to nothing, a name that is too long.</exception>
    internal static string OfDirectory(string typed)
    {
        string path = Resolve(typed);
        if (path == "/")
        {
            throw new PullException(PullError.Usage, $"{typed} is the root of this machine, which nothing can be published at");
        }

        CheckName(path);
        if (Libc.TypeOf(path) is not (0 or FileType.Directory))
        {
            throw new PullException(PullError.Machine, $"{path} is there and is not a directory");
        }

        if (Libc.TypeOf(path) != 0 && Libc.TryRealPath(".") is { } current && IsWithin(current, path))
        {
            throw new PullException(PullError.Usage, $"{path} is the current directory or above it, and would be replaced below this process's feet; go elsewhere first");
        }

        return path;
    }

    /// <summary>The path of a file to be written. A link to a file stands for that file.</summary>
    /// <exception cref="PullException">Usage: a name for what is in progress; Machine: a directory, a link to nothing, a name that is too long.</exception>
    internal static string OfFile(string typed)
    {
        if (IsStream(typed))
        {
            return Path.GetFullPath(typed);
        }

        string path = Resolve(typed);
        if (Directory.Exists(path) || Path.EndsInDirectorySeparator(typed))
        {
            throw new PullException(PullError.Machine, $"{typed} is a directory, not a file");
        }

        CheckName(path);
        return path;
    }

    /// <summary>Where what will appear at a path is made: beside it, so on its file system, and whatever has that name is an earlier call's.</summary>
    internal static string InProgressAt(string path) => Beside(path, InProgress);

    /// <summary>The same of the copy of an input that can be read only once.</summary>
    internal static string InputOf(string path) => Beside(path, Input);

    /// <summary>Something that takes bytes and is no file: a pipe, a terminal, a device. It is written in place.</summary>
    internal static bool IsStream(string path) => Libc.TypeOf(path) is not (0 or FileType.Regular or FileType.Directory);

    /// <summary>Whether there is a file; of what may not be looked at nobody knows.</summary>
    /// <exception cref="IOException">It cannot be looked at.</exception>
    internal static bool IsFile(string path) => Libc.TypeOf(path) == FileType.Regular;

    /// <inheritdoc cref="IsFile"/>
    internal static bool IsDirectory(string path) => Libc.TypeOf(path) == FileType.Directory;

    /// <inheritdoc cref="IsFile"/>
    internal static bool IsThere(string path) => Libc.TypeOf(path) != 0;

    /// <summary>Whether a path is a directory or lies below it; both resolved.</summary>
    internal static bool IsWithin(string path, string directory) =>
        path == directory || directory == "/" || path.StartsWith(directory + "/", StringComparison.Ordinal);

    /// <summary>Absolute and without links, as far as the path exists.</summary>
    /// <exception cref="PullException">Machine: a link to nothing; Usage: a name that is not UTF-8.</exception>
    internal static string Resolve(string typed)
    {
        string full = Named(Path.TrimEndingDirectorySeparator(Path.GetFullPath(typed)));
        if (Libc.TryRealPath(full) is { } real)
        {
            return Named(real);
        }

        // What was not there a moment ago may be by now: another process makes the same store, or the link's target.
        if (Libc.TryIdentityOf(full) is not null)
        {
            return Libc.TryRealPath(full) is null && new FileInfo(full).LinkTarget is not null
                ? throw new PullException(PullError.Machine, $"{full} is a symbolic link to nothing")
                : Resolve(full);
        }

        return Path.Combine(Resolve(Path.GetDirectoryName(full) ?? "/"), Path.GetFileName(full));
    }

    /// <summary>The same of something to be read; null: it is there, but nowhere, as a pipe or a removed file is that a shell hands down as /dev/fd/N.</summary>
    /// <exception cref="PullException">As <see cref="Resolve"/>.</exception>
    internal static string? ResolveInput(string typed) => Libc.TypeOf(typed) != 0 && Libc.TryRealPath(typed) is null ? null : Resolve(typed);

    /// <summary>Refuses a directory at or in which something is mounted: it would move out of sight with the old tree, which could not be removed.</summary>
    /// <exception cref="PullException">Machine.</exception>
    internal static void CheckMounts(string directory)
    {
        if (!File.Exists(Mounts))
        {
            return;
        }

        foreach (string line in File.ReadLines(Mounts))
        {
            string[] fields = line.Split(' ', 6);
            if (fields.Length < 6 || Unescape(fields[4]) is not { } point || !IsWithin(point, directory))
            {
                continue;
            }

            throw new PullException(PullError.Machine, point == directory
                ? MountPoint(directory)
                : $"{directory} cannot be replaced: something is mounted at {point}");
        }
    }

    private static string Beside(string path, string what) => Path.Combine(Path.GetDirectoryName(path) ?? "/", $".{Path.GetFileName(path)}{what}");

    // Another call would take it for what a killed one has left, and remove it.
    private static void CheckName(string path)
    {
        string name = Path.GetFileName(path);
        if (name.StartsWith('.') && (name.EndsWith(InProgress, StringComparison.Ordinal) || name.EndsWith(Input, StringComparison.Ordinal)))
        {
            throw new PullException(PullError.Usage, $"{path} has a name that this program gives to what it has in progress, and removes");
        }

        int length = Encoding.UTF8.GetByteCount(name);
        int longest = LongestName - 1 - Input.Length;
        if (length > longest)
        {
            throw new PullException(
                PullError.Machine,
                $"{path} has a name of {length.ToString(CultureInfo.InvariantCulture)} bytes, more than {longest.ToString(CultureInfo.InvariantCulture)}: what is made beside it has a longer one");
        }
    }

    internal static string MountPoint(string directory) => $"{directory} is a mount point, which no rename can replace; name a directory below it";

    // What is not UTF-8 arrives as the replacement character, and would be made under that name.
    private static string Named(string path) => path.Contains('\uFFFD', StringComparison.Ordinal)
        ? throw new PullException(PullError.Usage, $"{path} has a name that is not UTF-8, which is not supported here")
        : path;

    private static string Unescape(string field)
    {
        if (!field.Contains('\\', StringComparison.Ordinal))
        {
            return field;
        }

        StringBuilder text = new();
        for (int i = 0; i < field.Length; i++)
        {
            if (field[i] == '\\' && i + 3 < field.Length)
            {
                text.Append((char)Convert.ToInt32(field.Substring(i + 1, 3), 8));
                i += 3;
            }
            else
            {
                text.Append(field[i]);
            }
        }

        return text.ToString();
    }
}
