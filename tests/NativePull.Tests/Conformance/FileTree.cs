using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace NativePull.Tests.Conformance;

/// <summary>Reads a directory tree byte by byte with system calls of its own, sharing nothing with the code under test.</summary>
internal static partial class FileTree
{
    private const int AtCurrentDirectory = -100;
    private const int NoFollow = 0x100;
    private const uint BasicStats = 0x7FF;

    /// <summary>Path → what is there, as <see cref="LayerModel.Describe"/> tells it.</summary>
    internal static SortedDictionary<string, string> Read(string root)
    {
        SortedDictionary<string, string> tree = new(StringComparer.Ordinal);
        Dictionary<(ulong Device, ulong Inode), List<string>> names = [];
        Visit("");
        foreach (List<string> group in names.Values.Where(group => group.Count > 1))
        {
            group.Sort(StringComparer.Ordinal);
            foreach (string path in group)
            {
                tree[path] += $" linked to '{TreeText.Show(group[0])}'";
            }
        }

        return tree;

        void Visit(string path)
        {
            byte[] full = Encoding.Latin1.GetBytes(path.Length == 0 ? $"{root}\0" : $"{root}/{path}\0");
            byte[] status = new byte[256];
            Check(Statx(AtCurrentDirectory, full, NoFollow, BasicStats, status), "statx", path);
            int mode = BinaryPrimitives.ReadUInt16LittleEndian(status.AsSpan(28));
            uint major = UInt32(status, 128);
            uint minor = UInt32(status, 132);
            string what = (mode >> 12) switch
            {
                1 => "fifo",
                2 => $"character {major}:{minor}",
                4 => "directory",
                6 => $"block {major}:{minor}",
                8 => $"file {TreeText.Content(Content(full, path))}",
                10 => $"link to '{TreeText.Show(Target(full, path))}'",
                _ => $"mode {mode:x}",
            };
            tree[path] = $"{what} {TreeText.Octal(mode)} {UInt32(status, 20)}:{UInt32(status, 24)} "
                + TreeText.Time(BinaryPrimitives.ReadInt64LittleEndian(status.AsSpan(112)), UInt32(status, 120))
                + TreeText.Xattrs(Xattrs(full, path));
            if (mode >> 12 == 4)
            {
                foreach (string name in Names(full, path))
                {
                    Visit(path.Length == 0 ? name : $"{path}/{name}");
                }

                return;
            }

            (ulong, ulong) identity = (((ulong)UInt32(status, 136) << 32) | UInt32(status, 140), BinaryPrimitives.ReadUInt64LittleEndian(status.AsSpan(32)));
            if (!names.TryGetValue(identity, out List<string>? group))
            {
                names[identity] = group = [];
            }

            group.Add(path);
        }
    }

    private static List<string> Names(byte[] full, string path)
    {
        int fd = Open(full, 0x80000);
        Check(fd, "open", path);
        try
        {
            List<string> names = [];
            byte[] buffer = new byte[32768];
            int length;
            while ((length = (int)GetDirectoryEntries(fd, buffer, (nuint)buffer.Length)) > 0)
            {
                for (int at = 0; at < length; at += BinaryPrimitives.ReadUInt16LittleEndian(buffer.AsSpan(at + 16)))
                {
                    // struct linux_dirent64: the name follows inode, offset, length and type
                    ReadOnlySpan<byte> name = buffer.AsSpan(at + 19);
                    string text = Encoding.Latin1.GetString(name[..name.IndexOf((byte)0)]);
                    if (text is not ("." or ".."))
                    {
                        names.Add(text);
                    }
                }
            }

            Check(length, "getdents64", path);
            return names;
        }
        finally
        {
            _ = Close(fd);
        }
    }

    private static byte[] Content(byte[] full, string path)
    {
        int fd = Open(full, 0x80000);
        Check(fd, "open", path);
        try
        {
            using MemoryStream content = new();
            byte[] buffer = new byte[4096];
            int length;
            while ((length = (int)ReadFile(fd, buffer, (nuint)buffer.Length)) > 0)
            {
                content.Write(buffer, 0, length);
            }

            Check(length, "read", path);
            return content.ToArray();
        }
        finally
        {
            _ = Close(fd);
        }
    }

    private static string Target(byte[] full, string path)
    {
        byte[] target = new byte[4096];
        int length = (int)ReadLink(full, target, (nuint)target.Length);
        Check(length, "readlink", path);
        return Encoding.Latin1.GetString(target, 0, length);
    }

    private static List<(string, byte[])> Xattrs(byte[] full, string path)
    {
        byte[] list = new byte[65536];
        int length = (int)ListXattrs(full, list, (nuint)list.Length);
        Check(length, "llistxattr", path);
        List<(string, byte[])> xattrs = [];
        foreach (string name in Encoding.Latin1.GetString(list, 0, length).Split('\0', StringSplitOptions.RemoveEmptyEntries))
        {
            byte[] value = new byte[65536];
            int size = (int)GetXattr(full, Encoding.Latin1.GetBytes(name + "\0"), value, (nuint)value.Length);
            Check(size, "lgetxattr", path);
            xattrs.Add((name, value[..size]));
        }

        return xattrs;
    }

    private static uint UInt32(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(offset));

    private static void Check(int result, string call, string path)
    {
        if (result < 0)
        {
            throw new IOException($"{call} {TreeText.Show(path)}: errno {Marshal.GetLastPInvokeError()}");
        }
    }

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true)]
    private static partial int Statx(int directory, byte[] path, int flags, uint mask, byte[] status);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true)]
    private static partial int Open(byte[] path, int flags);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    private static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static partial nint ReadFile(int fd, byte[] buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "getdents64", SetLastError = true)]
    private static partial nint GetDirectoryEntries(int fd, byte[] buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "readlink", SetLastError = true)]
    private static partial nint ReadLink(byte[] path, byte[] target, nuint size);

    [LibraryImport("libc", EntryPoint = "llistxattr", SetLastError = true)]
    private static partial nint ListXattrs(byte[] path, byte[] list, nuint size);

    [LibraryImport("libc", EntryPoint = "lgetxattr", SetLastError = true)]
    private static partial nint GetXattr(byte[] path, byte[] name, byte[] value, nuint size);
}
