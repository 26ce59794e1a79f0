using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>What files' content and the room for it need.</summary>
internal static unsafe partial class Libc
{
    private const int SeekData = 3; // SEEK_DATA
    private const int SeekHole = 4; // SEEK_HOLE

    /// <summary>pwrite(2) until all is written at <paramref name="position"/> and after it; 0 or an errno.</summary>
    internal static int WriteAll(SafeFileHandle file, ReadOnlySpan<byte> content, long position)
    {
        fixed (byte* bytes = content)
        {
            int written = 0;
            while (written < content.Length)
            {
                nint count = pwrite(file, bytes + written, content.Length - written, position + written);
                if (count >= 0)
                {
                    written += (int)count;
                    continue;
                }

                int errno = Marshal.GetLastPInvokeError();
                if (errno != Interrupted)
                {
                    return errno;
                }
            }
        }

        return 0;
    }

    /// <summary>ftruncate(2): what was not written before the new end is a hole; 0 or an errno.</summary>
    internal static int SetLength(SafeFileHandle file, long length) => Result(ftruncate(file, length));

    /// <summary>The next run of data from <paramref name="offset"/> on (lseek(2), SEEK_DATA and SEEK_HOLE); false where only a hole follows, or nothing.</summary>
    /// <exception cref="LinuxException">It cannot be told: not the same as a hole.</exception>
    internal static bool TryNextData(SafeFileHandle file, string subject, long offset, out long start, out long end)
    {
        start = lseek(file, offset, SeekData);
        end = start < 0 ? start : lseek(file, start, SeekHole);
        if (end >= 0)
        {
            return end > start;
        }

        int errno = Marshal.GetLastPInvokeError();
        return errno == Errno.NoSuchAddress ? false : throw new LinuxException("lseek", subject, errno);
    }

    /// <summary>Bytes that this process may still write to the file system (fstatfs(2)); null where it does not say.</summary>
    internal static long? FreeBytes(SafeFileHandle file)
    {
        // struct statfs is the same on every 64-bit Linux, 120 bytes: f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_fsid, f_namelen, f_frsize, …
        ulong* status = stackalloc ulong[32];
        if (fstatfs(file, status) != 0)
        {
            return null;
        }

        // what blocks are counted in, where that is not what is best read at once (fs/fuse/inode.c, convert_fuse_statfs)
        ulong blockSize = status[9] != 0 ? status[9] : status[1];
        ulong blocks = status[2];
        ulong free = EffectiveUser == 0 ? status[3] : status[4];
        // a file system without blocks (some FUSE ones) counts nothing
        return blocks == 0 ? null : (long)UInt128.Min((UInt128)blockSize * free, long.MaxValue);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pwrite(SafeFileHandle file, byte* bytes, nint count, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ftruncate(SafeFileHandle file, long length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fstatfs(SafeFileHandle file, ulong* status);
}
