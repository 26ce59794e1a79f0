using System.Runtime.InteropServices;
using System.Text;

namespace NativePull.Native;

/// <summary>The terminal that a person sits at: asks at standard input (termios(3)), and knows how wide standard error is.</summary>
internal static unsafe partial class Terminal
{
    private const int Echo = 0x8; // ECHO
    private const int EchoNewline = 0x40; // ECHONL: the line's end is shown
    private const int LocalFlags = 3; // index of c_lflag among the four leading 32-bit words of struct termios
    private const int WhenDrained = 2; // TCSAFLUSH
    private const int Tick = 50; // milliseconds between two looks at the caller's token
    private const int MaximumLine = 64 * 1024; // bytes
    private const int Interrupted = 4; // EINTR
    private const int WouldBlock = 11; // EAGAIN
    private const nuint GetSize = 0x5413; // TIOCGWINSZ, ioctl_tty(2)

    /// <summary>Characters in a line of the terminal that is standard error; null where it is none, or does not say.</summary>
    internal static int? Columns()
    {
        // struct winsize: rows, columns, and two numbers of no use
        ushort* size = stackalloc ushort[4];
        return ioctl(2, GetSize, size) == 0 && size[1] > 0 ? size[1] : null;
    }

    /// <summary>One line of standard input without its end; null: there is none.</summary>
    /// <param name="secret">What is typed is not shown.</param>
    internal static string? ReadLine(bool secret, CancellationToken token)
    {
        int* before = stackalloc int[64];
        int* hidden = stackalloc int[64];
        bool isTerminal = secret && tcgetattr(0, before) == 0;
        if (isTerminal)
        {
            new Span<int>(before, 64).CopyTo(new Span<int>(hidden, 64));
            hidden[LocalFlags] = (hidden[LocalFlags] & ~Echo) | EchoNewline;
            _ = tcsetattr(0, WhenDrained, hidden);
        }

        try
        {
            return ReadLine(token);
        }
        finally
        {
            if (isTerminal)
            {
                _ = tcsetattr(0, WhenDrained, before);
            }
        }
    }

    /// <summary>All of standard input, whatever it is; unlike a read of the library's, the wait for it can be ended.</summary>
    /// <param name="limit">Bytes, 0 or more.</param>
    /// <returns>Null: it has more than that.</returns>
    internal static byte[]? ReadToEnd(int limit, CancellationToken token)
    {
        byte[] content = new byte[limit + 1];
        int filled = 0;
        int* polled = stackalloc int[2];
        while (filled <= limit)
        {
            token.ThrowIfCancellationRequested();
            (polled[0], polled[1]) = (0, 1);
            if (poll((byte*)polled, 1, Tick) <= 0)
            {
                continue;
            }

            fixed (byte* free = &content[filled])
            {
                nint count = read(0, free, content.Length - filled);
                if (count == 0 || (count < 0 && Marshal.GetLastPInvokeError() is not (Interrupted or WouldBlock)))
                {
                    return content[..filled]; // also where there is no standard input at all
                }

                filled += (int)Math.Max(0, count);
            }
        }

        return null;
    }

    private static string? ReadLine(CancellationToken token)
    {
        List<byte> line = [];
        int* polled = stackalloc int[2];
        while (line.Count < MaximumLine)
        {
            (polled[0], polled[1]) = (0, 1);
            if (poll((byte*)polled, 1, Tick) <= 0)
            {
                token.ThrowIfCancellationRequested();
                continue;
            }

            byte one;
            if (read(0, &one, 1) <= 0)
            {
                return line.Count == 0 ? null : Encoding.UTF8.GetString([.. line]);
            }

            if (one == '\n')
            {
                return Encoding.UTF8.GetString([.. line]).TrimEnd('\r');
            }

            line.Add(one);
        }

        return null;
    }

    [LibraryImport("libc")]
    private static partial int ioctl(int fd, nuint request, ushort* argument);

    [LibraryImport("libc")]
    private static partial int tcgetattr(int fd, int* settings);

    [LibraryImport("libc")]
    private static partial int tcsetattr(int fd, int when, int* settings);

    [LibraryImport("libc")]
    private static partial int poll(byte* polled, nuint count, int milliseconds);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(int fd, byte* buffer, nint count);
}
