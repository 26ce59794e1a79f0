using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Tests.Fakes;

/// <summary>Everything about one name in a tree that a layer can decide. Bytes that are not plain ASCII are written \xNN, so equal texts are equal bytes.</summary>
/// <param name="Type">d, f, l, p, c, b or s.</param>
/// <param name="Size">Of a file's content; of a link's target; else 0.</param>
/// <param name="Modified">Seconds and nanoseconds since the epoch.</param>
/// <param name="Content">sha256 of a file's content; the target of a link; major:minor of a device; else empty.</param>
/// <param name="LinkedTo">The first path, in byte order, of those that are the same inode; empty where this is the only one or the first.</param>
/// <param name="Xattrs">name=hex pairs by name, all namespaces this process may see.</param>
internal sealed record TreeEntry(
    string Path, char Type, uint Mode, uint Uid, uint Gid, long Size, string Modified, string Content, string LinkedTo, string Xattrs)
{
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Path} {Type} {Convert.ToString(Mode, 8)} {Uid}:{Gid} {Size} @{Modified} {Content}{(LinkedTo.Length > 0 ? $" = {LinkedTo}" : "")}{(Xattrs.Length > 0 ? $" [{Xattrs}]" : "")}");
}

/// <summary>
/// A byte-exact listing of a tree: of every name its type, mode, owner, size, content, time, hard-link group, device numbers and extended
/// attributes. The root itself is ".". Links are never followed.
/// </summary>
internal sealed partial class TreeListing
{
    private readonly SortedDictionary<string, TreeEntry> entries = new(StringComparer.Ordinal);
    private readonly Dictionary<(uint, uint, ulong), string> firstNames = [];

    private TreeListing() { }

    internal IEnumerable<TreeEntry> Entries => entries.Values;

    internal int Count => entries.Count;

    /// <summary>By its escaped path, "." for the root; null where there is none.</summary>
    internal TreeEntry? this[string path] => entries.GetValueOrDefault(path);

    internal static TreeListing Of(string root)
    {
        TreeListing listing = new();
        using SafeFileHandle top = Libc.TryOpenDirectory(root) ?? throw new DirectoryNotFoundException(root);
        listing.Add(top, ".\0"u8.ToArray(), ".");
        listing.Walk(top, "");
        return listing;
    }

    /// <summary>The same listing with some entries changed, or dropped where the change gives null: for what a comparison is to leave out.</summary>
    internal TreeListing Select(Func<TreeEntry, TreeEntry?> change)
    {
        TreeListing changed = new();
        foreach (TreeEntry entry in entries.Values)
        {
            if (change(entry) is { } kept)
            {
                changed.entries.Add(kept.Path, kept);
            }
        }

        return changed;
    }

    /// <summary>One line for each entry that is in one only, two for each that is in both and differs.</summary>
    internal IReadOnlyList<string> Differences(TreeListing other)
    {
        List<string> found = [];
        foreach (string path in entries.Keys.Union(other.entries.Keys).Order(StringComparer.Ordinal))
        {
            TreeEntry? mine = this[path];
            TreeEntry? theirs = other[path];
            if (mine != theirs)
            {
                found.AddRange(new[] { mine is null ? null : $"- {mine}", theirs is null ? null : $"+ {theirs}" }.OfType<string>());
            }
        }

        return found;
    }

    /// <summary>Asserts that the two are the same, showing the first differences.</summary>
    internal static void AssertSame(TreeListing expected, TreeListing actual)
    {
        IReadOnlyList<string> differences = expected.Differences(actual);
        Assert.True(
            differences.Count == 0,
            $"{differences.Count} lines of difference between {expected.Count} entries (-) and {actual.Count} (+):\n{string.Join('\n', differences.Take(40))}");
    }

    /// <summary>Bytes as text, reversibly: what is not printable ASCII, and the backslash, as \xNN.</summary>
    internal static string Escape(ReadOnlySpan<byte> bytes)
    {
        StringBuilder text = new(bytes.Length);
        foreach (byte one in bytes)
        {
            _ = one is >= 0x20 and < 0x7f and not (byte)'\\' ? text.Append((char)one) : text.Append(CultureInfo.InvariantCulture, $"\\x{one:x2}");
        }

        return text.ToString();
    }

    private void Walk(SafeFileHandle directory, string prefix)
    {
        List<byte[]> names = Libc.Names(directory, prefix);
        // in byte order, so that the first name of a hard-link group is the same in every copy of a tree
        foreach (byte[] name in names.OrderBy(name => Escape(name), StringComparer.Ordinal))
        {
            string path = prefix + Escape(name.AsSpan(0, name.Length - 1));
            if (Add(directory, name, path).IsDirectory)
            {
                Check(Libc.OpenAt(directory, name, OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow, 0, out SafeFileHandle? below), "open", path);
                using (below)
                {
                    Walk(below!, path + "/");
                }
            }
        }
    }

    private FileStatus Add(SafeFileHandle parent, byte[] name, string path)
    {
        Check(Libc.TryStatusAt(parent, name, out FileStatus status), "statx", path);
        (char type, string content) = status.Type switch
        {
            FileType.Directory => ('d', ""),
            FileType.Regular => ('f', HashOf(parent, name, path)),
            FileType.Symlink => ('l', "-> " + Escape(Libc.ReadLink(parent, name))),
            FileType.Fifo => ('p', ""),
            FileType.Character => ('c', $"{status.RawMajor}:{status.RawMinor}"),
            FileType.Block => ('b', $"{status.RawMajor}:{status.RawMinor}"),
            _ => ('s', ""),
        };
        string linkedTo = "";
        if (!status.IsDirectory && !firstNames.TryAdd((status.DeviceMajor, status.DeviceMinor, status.Inode), path))
        {
            linkedTo = firstNames[(status.DeviceMajor, status.DeviceMinor, status.Inode)];
        }

        entries.Add(path, new TreeEntry(
            path,
            type,
            status.Permissions,
            status.Uid,
            status.Gid,
            type is 'f' or 'l' ? status.Size : 0,
            string.Create(CultureInfo.InvariantCulture, $"{status.ModifiedSeconds}.{status.ModifiedNanoseconds:d9}"),
            content,
            linkedTo,
            XattrsOf(parent, name, path)));
        return status;
    }

    private static string HashOf(SafeFileHandle parent, byte[] name, string path)
    {
        Check(Libc.OpenAt(parent, name, OpenFlags.ReadOnly | OpenFlags.NoFollow, 0, out SafeFileHandle? opened), "open", path);
        using SafeFileHandle file = opened!;
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[128 * 1024];
        long offset = 0;
        int read;
        while ((read = RandomAccess.Read(file, buffer, offset)) > 0)
        {
            hash.AppendData(buffer, 0, read);
            offset += read;
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    // Links, devices and fifos cannot be opened to be asked: the name itself is, below its directory's own entry in /proc.
    private static string XattrsOf(SafeFileHandle parent, byte[] name, string path)
    {
        byte[] address = [.. Encoding.ASCII.GetBytes($"/proc/self/fd/{parent.DangerousGetHandle()}/"), .. name];
        byte[] names = new byte[64 * 1024];
        nint length = llistxattr(address, names, names.Length);
        if (length < 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            return errno == Errno.NotSupported ? "" : throw new LinuxException("llistxattr", path, errno);
        }

        List<string> found = [];
        for (int start = 0; start < length;)
        {
            int end = Array.IndexOf(names, (byte)0, start) + 1;
            byte[] value = new byte[64 * 1024];
            nint size = lgetxattr(address, names[start..end], value, value.Length);
            found.Add($"{Escape(names.AsSpan(start, end - start - 1))}={(size < 0 ? "unreadable" : Convert.ToHexStringLower(value, 0, (int)size))}");
            start = end;
        }

        GC.KeepAlive(parent);
        return string.Join(' ', found.Order(StringComparer.Ordinal));
    }

    private static void Check(int errno, string call, string path)
    {
        if (errno != 0)
        {
            throw new LinuxException(call, path, errno);
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint llistxattr(byte[] path, byte[] list, nint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint lgetxattr(byte[] path, byte[] name, byte[] value, nint size);
}
