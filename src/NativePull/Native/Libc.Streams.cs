using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>
/// What gives or takes bytes one after the other: pipes, sockets, terminals, files from end to end. Whoever made them may have left them non-blocking
/// (O_NONBLOCK belongs to the open file, which processes share), so what is not ready is waited for.
/// </summary>
internal static unsafe partial class Libc
{
    private const short ReadyToRead = 1; // POLLIN, poll(2)
    private const short ReadyToWrite = 4; // POLLOUT

    /// <summary>write(2) until all is written; 0 or an errno.</summary>
    internal static int WriteAll(SafeFileHandle file, ReadOnlySpan<byte> content)
    {
        fixed (byte* bytes = content)
        {
            int written = 0;
            while (written < content.Length)
            {
                nint count = write(file, bytes + written, content.Length - written);
                if (count >= 0)
                {
                    written += (int)count;
                }
                else if (Marshal.GetLastPInvokeError() is var errno && !MayTryAgain(file, errno, ReadyToWrite))
                {
                    return errno;
                }
            }
        }

        return 0;
    }

    /// <summary>read(2) of what there is, at least a byte; 0: the end.</summary>
    /// <exception cref="LinuxException">Reading fails.</exception>
    internal static int Read(SafeFileHandle file, Span<byte> buffer, string subject)
    {
        fixed (byte* bytes = buffer)
        {
            while (true)
            {
                nint count = read(file, bytes, buffer.Length);
                if (count >= 0)
                {
                    return (int)count;
                }

                int errno = Marshal.GetLastPInvokeError();
                if (!MayTryAgain(file, errno, ReadyToRead))
                {
                    throw new LinuxException("read", subject, errno);
                }
            }
        }
    }

    private static bool MayTryAgain(SafeFileHandle file, int errno, short what)
    {
        if (errno != WouldBlock)
        {
            return errno == Interrupted;
        }

        bool held = false;
        try
        {
            file.DangerousAddRef(ref held);
            // struct pollfd: fd, then events and revents
            int* polled = stackalloc int[2];
            (polled[0], polled[1]) = ((int)file.DangerousGetHandle(), what);
            _ = poll(polled, 1, -1);
            return true;
        }
        finally
        {
            if (held)
            {
                file.DangerousRelease();
            }
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(SafeFileHandle file, byte* bytes, nint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(SafeFileHandle file, byte* bytes, nint count);

    [LibraryImport("libc")]
    private static partial int poll(int* polled, nuint count, int milliseconds);
}
