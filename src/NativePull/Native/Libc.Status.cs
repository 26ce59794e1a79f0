using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>What is there: the status of files, where links lead, the names in a directory.</summary>
internal static unsafe partial class Libc
{
    private const uint MountId = 0x1000; // STATX_MNT_ID, Linux 5.8; 0 before
    private const byte DirectoryEntry = 4; // DT_DIR, getdents(2)

    private static readonly byte[] EmptyName = [0];

    /// <summary>readlinkat(2); null where the name is no link, or nothing.</summary>
    /// <exception cref="LinuxException">It cannot be read.</exception>
    internal static byte[]? ReadLink(SafeFileHandle parent, ReadOnlySpan<byte> name)
    {
        byte[] target = new byte[4096]; // PATH_MAX
        fixed (byte* bytes = name)
        fixed (byte* targetBytes = target)
        {
            nint length = readlinkat(parent, bytes, targetBytes, target.Length);
            if (length >= 0)
            {
                return target[..(int)length];
            }

            int errno = Marshal.GetLastPInvokeError();
            return errno is Errno.Invalid or Errno.NoEntry ? null : throw new LinuxException("readlink", Encoding.UTF8.GetString(name).TrimEnd('\0'), errno);
        }
    }

    /// <summary>statx(2) of an open file.</summary>
    internal static FileStatus Status(SafeFileHandle file, string subject) =>
        TryStatus(file, EmptyName, out FileStatus status, EmptyPath) == 0 ? status : throw new LinuxException("statx", subject, Marshal.GetLastPInvokeError());

    /// <summary>statx(2) of an open file; 0 or an errno.</summary>
    internal static int TryStatus(SafeFileHandle file, out FileStatus status) => TryStatus(file, EmptyName, out status, EmptyPath);

    /// <summary>statx(2) of a name itself; 0 or an errno.</summary>
    internal static int TryStatusAt(SafeFileHandle parent, ReadOnlySpan<byte> name, out FileStatus status) =>
        TryStatus(parent, name, out status, NoFollowAt);

    /// <summary>getdents64(2): the names in a directory, each ending in NUL, without "." and "..". Reads from the directory's start.</summary>
    internal static List<byte[]> Names(SafeFileHandle directory, string subject)
    {
        List<byte[]> all = [];
        Rewind(directory, subject);
        while (NextNames(directory, subject) is { Count: > 0 } some)
        {
            foreach ((byte[] name, _) in some)
            {
                all.Add(name);
            }
        }

        return all;
    }

    /// <summary>lseek(2): <see cref="NextNames"/> begins anew.</summary>
    internal static void Rewind(SafeFileHandle directory, string subject)
    {
        if (lseek(directory, 0, 0) < 0)
        {
            throw new LinuxException("lseek", subject, Marshal.GetLastPInvokeError());
        }
    }

    /// <summary>getdents64(2): the next names, a buffer of them, so that a directory may be larger than memory; none at its end.</summary>
    internal static List<(byte[] Name, bool IsDirectory)> NextNames(SafeFileHandle directory, string subject)
    {
        List<(byte[], bool)> found = [];
        byte[] buffer = ArrayPool<byte>.Shared.Rent(32 * 1024);
        try
        {
            nint length;
            do
            {
                fixed (byte* bytes = buffer)
                {
                    length = getdents64(directory, bytes, buffer.Length);
                }

                // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name
                for (int at = 0; at < length; at += BinaryPrimitives.ReadUInt16LittleEndian(buffer.AsSpan(at + 16)))
                {
                    int end = Array.IndexOf(buffer, (byte)0, at + 19) + 1;
                    byte[] name = buffer[(at + 19)..end];
                    if (!name.AsSpan().SequenceEqual(".\0"u8) && !name.AsSpan().SequenceEqual("..\0"u8))
                    {
                        found.Add((name, buffer[at + 18] == DirectoryEntry));
                    }
                }
            }
            while (length > 0 && found.Count == 0);

            return length >= 0 ? found : throw new LinuxException("getdents64", subject, Marshal.GetLastPInvokeError());
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static int TryStatus(SafeFileHandle parent, ReadOnlySpan<byte> name, out FileStatus status, int flags)
    {
        byte* raw = stackalloc byte[StatxSize];
        fixed (byte* bytes = name)
        {
            bool held = false;
            parent.DangerousAddRef(ref held);
            try
            {
                int errno = Result(statx((int)parent.DangerousGetHandle(), bytes, flags, BasicStatisticsAndBirth | MountId, raw));
                status = errno == 0 ? StatusFrom(new ReadOnlySpan<byte>(raw, StatxSize)) : default;
                return errno;
            }
            finally
            {
                parent.DangerousRelease();
            }
        }
    }

    // Offsets of struct statx (statx(2)).
    private static FileStatus StatusFrom(ReadOnlySpan<byte> raw) => new(
        BinaryPrimitives.ReadUInt16LittleEndian(raw[28..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[16..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[20..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[24..]),
        BinaryPrimitives.ReadInt64LittleEndian(raw[40..]),
        BinaryPrimitives.ReadUInt64LittleEndian(raw[32..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[136..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[140..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[128..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[132..]),
        BinaryPrimitives.ReadInt64LittleEndian(raw[112..]),
        BinaryPrimitives.ReadUInt32LittleEndian(raw[120..]),
        BinaryPrimitives.ReadUInt64LittleEndian(raw[144..]));

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint readlinkat(SafeFileHandle directory, byte* name, byte* target, nint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint getdents64(SafeFileHandle directory, byte* buffer, nint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial long lseek(SafeFileHandle file, long offset, int whence);
}
