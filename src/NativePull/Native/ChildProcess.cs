using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>How a child ended.</summary>
internal enum ChildEnd
{
    Exited,
    OutOfTime,

    /// <summary>It wrote more than was allowed.</summary>
    TooMuchOutput,
}

/// <param name="Code">The exit code; −1 after a signal, or where it is not known because the parent ignores SIGCHLD.</param>
/// <param name="Output">What it wrote to its standard output.</param>
internal sealed record ChildResult(ChildEnd End, int Code, byte[] Output);

/// <summary>
/// Runs one other program to its end. The BCL's Process would install a handler that, in a process that is PID 1 or ignores SIGCHLD, reaps
/// children that are not ours; this one waits for its own child alone. The child has a session of its own, so that it cannot ask at the
/// terminal, and that it can be ended together with what it started.
/// </summary>
internal static unsafe partial class ChildProcess
{
    private const int CloseOnExec = 0x80000; // O_CLOEXEC
    private const int NonBlocking = 0x800; // O_NONBLOCK
    private const short SetSignalDefaults = 0x04; // POSIX_SPAWN_SETSIGDEF
    private const short SetSignalMask = 0x08; // POSIX_SPAWN_SETSIGMASK
    private const short SetSession = 0x80; // POSIX_SPAWN_SETSID
    private const int NoHang = 1; // WNOHANG
    private const int Kill = 9; // SIGKILL
    private const int Interrupted = 4; // EINTR
    private const int WouldBlock = 11; // EAGAIN
    private const int GetFlags = 3; // F_GETFL
    private const int SetFlags = 4; // F_SETFL
    private const short Readable = 1; // POLLIN
    private const int Tick = 20; // milliseconds between two looks at the child

    // reads at once from one pipe, so that a flood does not keep us from the clock
    private const int MaximumTurns = 64;

    // bytes; above glibc's sizes (posix_spawnattr_t 336, posix_spawn_file_actions_t 80, sigset_t 128)
    private const int OpaqueSize = 512;

    /// <param name="program">A path.</param>
    /// <param name="environment">NAME=value.</param>
    /// <param name="input">Less than a pipe holds (4096 bytes): it is written before anything is read.</param>
    /// <param name="limit">Bytes of output.</param>
    /// <exception cref="LinuxException">It cannot be started.</exception>
    internal static ChildResult Run(
        string program, IReadOnlyList<string> arguments, IReadOnlyList<string> environment, ReadOnlySpan<byte> input, int limit, TimeSpan time, CancellationToken token)
    {
        (SafeFileHandle childInput, SafeFileHandle toChild) = Pipe();
        (SafeFileHandle output, SafeFileHandle childOutput) = Pipe();
        (SafeFileHandle error, SafeFileHandle childError) = Pipe();
        using (output)
        using (error)
        {
            int child;
            using (toChild)
            {
                using (childInput)
                using (childOutput)
                using (childError)
                {
                    child = Spawn(program, [program, .. arguments], environment, Number(childInput), Number(childOutput), Number(childError));
                }

                fixed (byte* bytes = input)
                {
                    _ = write(toChild, bytes, input.Length); // a child that does not read answers for itself
                }
            }

            return Collect(child, output, error, limit, time, token);
        }
    }

    private static ChildResult Collect(int child, SafeFileHandle output, SafeFileHandle error, int limit, TimeSpan time, CancellationToken token)
    {
        int* polled = stackalloc int[4]; // struct pollfd twice: fd, then events and revents
        (polled[0], polled[1], polled[2], polled[3]) = (Number(output), Readable, Number(error), Readable);
        MakeNonBlocking(output);
        MakeNonBlocking(error);
        List<byte> collected = [];
        long begun = Stopwatch.GetTimestamp();
        bool gone = false;
        try
        {
            while (true)
            {
                _ = poll((byte*)polled, 2, Tick);
                gone = HasEnded(child, out int code);
                if (polled[0] >= 0 && !Drain(output, collected, limit))
                {
                    polled[0] = -1;
                }

                // what it says there may hold secrets, and is for nobody
                if (polled[2] >= 0 && !Drain(error, null, int.MaxValue))
                {
                    polled[2] = -1;
                }

                if (collected.Count > limit)
                {
                    return new ChildResult(ChildEnd.TooMuchOutput, -1, []);
                }

                if (gone)
                {
                    return new ChildResult(ChildEnd.Exited, code, [.. collected]);
                }

                token.ThrowIfCancellationRequested();
                if (Stopwatch.GetElapsedTime(begun) >= time)
                {
                    return new ChildResult(ChildEnd.OutOfTime, -1, []);
                }
            }
        }
        finally
        {
            if (!gone)
            {
                _ = kill(-child, Kill);
                while (waitpid(child, null, 0) < 0 && Marshal.GetLastPInvokeError() == Interrupted)
                {
                }
            }
        }
    }

    private static bool HasEnded(int child, out int code)
    {
        int status;
        int ended = waitpid(child, &status, NoHang);
        code = ended == child && (status & 0x7f) == 0 ? (status >> 8) & 0xff : -1;
        return ended == child || (ended < 0 && Marshal.GetLastPInvokeError() != Interrupted);
    }

    // False: nothing more will come.
    private static bool Drain(SafeFileHandle from, List<byte>? into, int limit)
    {
        const int size = 16 * 1024;
        byte* buffer = stackalloc byte[size];
        for (int turn = 0; turn < MaximumTurns && (into is null || into.Count <= limit); turn++)
        {
            nint count = read(from, buffer, size);
            if (count <= 0)
            {
                return count < 0 && Marshal.GetLastPInvokeError() is WouldBlock or Interrupted;
            }

            into?.AddRange(new ReadOnlySpan<byte>(buffer, (int)count));
        }

        return true;
    }

    private static int Spawn(string program, IReadOnlyList<string> arguments, IReadOnlyList<string> environment, int input, int output, int error)
    {
        byte* attributes = stackalloc byte[OpaqueSize];
        byte* actions = stackalloc byte[OpaqueSize];
        byte* signals = stackalloc byte[OpaqueSize];
        nint[] words = Strings(arguments);
        nint[] variables = Strings(environment);
        try
        {
            _ = posix_spawnattr_init(attributes);
            _ = posix_spawn_file_actions_init(actions);
            _ = sigemptyset(signals);
            _ = posix_spawnattr_setsigmask(attributes, signals);
            _ = sigfillset(signals); // this program ignores SIGPIPE, which a child would inherit
            _ = posix_spawnattr_setsigdefault(attributes, signals);
            _ = posix_spawnattr_setflags(attributes, SetSignalDefaults | SetSignalMask | SetSession);
            _ = posix_spawn_file_actions_adddup2(actions, input, 0);
            _ = posix_spawn_file_actions_adddup2(actions, output, 1);
            _ = posix_spawn_file_actions_adddup2(actions, error, 2);
            int child;
            int errno;
            fixed (byte* path = Encoding.UTF8.GetBytes(program + "\0"))
            fixed (nint* argv = words)
            fixed (nint* envp = variables)
            {
                errno = posix_spawn(&child, path, actions, attributes, argv, envp);
            }

            return errno == 0 ? child : throw new LinuxException("posix_spawn", program, errno);
        }
        finally
        {
            _ = posix_spawn_file_actions_destroy(actions);
            _ = posix_spawnattr_destroy(attributes);
            Array.ForEach(words, Marshal.FreeCoTaskMem);
            Array.ForEach(variables, Marshal.FreeCoTaskMem);
        }
    }

    // as execve(2) wants them: pointers, the last one null
    private static nint[] Strings(IReadOnlyList<string> texts)
    {
        nint[] strings = new nint[texts.Count + 1];
        for (int i = 0; i < texts.Count; i++)
        {
            strings[i] = Marshal.StringToCoTaskMemUTF8(texts[i]);
        }

        return strings;
    }

    private static (SafeFileHandle Read, SafeFileHandle Write) Pipe()
    {
        int* ends = stackalloc int[2];
        return pipe2(ends, CloseOnExec) == 0
            ? (new SafeFileHandle(ends[0], ownsHandle: true), new SafeFileHandle(ends[1], ownsHandle: true))
            : throw new LinuxException("pipe2", "", Marshal.GetLastPInvokeError());
    }

    private static void MakeNonBlocking(SafeFileHandle file) => _ = fcntl(file, SetFlags, fcntl(file, GetFlags, 0) | NonBlocking);

    private static int Number(SafeFileHandle file) => (int)file.DangerousGetHandle();

    [LibraryImport("libc", SetLastError = true)]
    private static partial int pipe2(int* ends, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(SafeFileHandle fd, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int poll(byte* polled, nuint count, int milliseconds);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(SafeFileHandle fd, byte* buffer, nint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(SafeFileHandle fd, byte* buffer, nint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int waitpid(int child, int* status, int options);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int child, int signal);

    [LibraryImport("libc")]
    private static partial int sigemptyset(byte* set);

    [LibraryImport("libc")]
    private static partial int sigfillset(byte* set);

    [LibraryImport("libc")]
    private static partial int posix_spawn(int* child, byte* path, byte* actions, byte* attributes, nint* argv, nint* envp);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_init(byte* attributes);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_destroy(byte* attributes);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_setflags(byte* attributes, short flags);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_setsigmask(byte* attributes, byte* set);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_setsigdefault(byte* attributes, byte* set);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_init(byte* actions);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_destroy(byte* actions);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_adddup2(byte* actions, int from, int to);
}
