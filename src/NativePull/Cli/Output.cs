using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Cli;

/// <summary>
/// Standard output for results, standard error for everything else, as plain bytes. What a reader does to them (closing, filling its disk)
/// never changes the outcome.
/// </summary>
internal static class Output
{
    private const int BrokenPipe = 32; // EPIPE, errno-base.h

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    // Not Console's streams, which share one lock: a write to standard error that its reader holds up would hold up the result too.
    private static readonly SafeFileHandle StandardOutput = new(1, ownsHandle: false);
    private static readonly SafeFileHandle StandardError = new(2, ownsHandle: false);

    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false);

    internal static void Result(string line) => Result(Utf8.GetBytes(line + "\n"));

    internal static void Result(ReadOnlySpan<byte> bytes) => Write(StandardOutput, bytes);

    /// <summary>A piece of a long result.</summary>
    /// <returns>False: whoever read it went away.</returns>
    /// <exception cref="PullException">NoSpace or Machine: it cannot be written, so that the result would be a part of itself.</exception>
    internal static bool TryStream(ReadOnlySpan<byte> bytes)
    {
        int errno = Libc.WriteAll(StandardOutput, bytes);
        if (errno is not (0 or BrokenPipe))
        {
            PullException explained = ExitCode.Explain(new LinuxException("write", "standard output", errno), null);
            throw new PullException(explained.Reason, explained.Message);
        }

        return errno == 0;
    }

    /// <summary>One line on standard error. A pipe that is full and never read must not keep the program from ending.</summary>
    /// <param name="patience">How long it is waited for then; null: a second.</param>
    internal static void Error(string line, TimeSpan? patience = null)
    {
        byte[] bytes = Utf8.GetBytes($"nativepull: {Printable(line)}\n");
        try
        {
            Thread writer = new(() => Write(StandardError, bytes)) { IsBackground = true, Name = "error" };
            writer.Start();
            writer.Join(patience ?? Patience);
        }
        catch (OutOfMemoryException)
        {
            // too little memory for a thread: then without one, for it is what there is to tell
            Write(StandardError, bytes);
        }
    }

    /// <summary>Something worth telling that is neither result nor failure.</summary>
    internal static void Note(string line) => Error(line);

    internal static void Raw(ReadOnlySpan<byte> bytesForError) => Write(StandardError, bytesForError);

    internal static byte[] Encode(string text) => Utf8.GetBytes(text);

    /// <summary>
    /// As one line that a terminal only shows: registries, proxies and archives have their words in what is told, and none of them may move
    /// the cursor, set a title, or turn the reading direction round.
    /// </summary>
    internal static string Printable(string text)
    {
        if (!text.Any(IsUnsafe))
        {
            return text;
        }

        return string.Create(text.Length, text, (line, from) =>
        {
            for (int i = 0; i < line.Length; i++)
            {
                line[i] = !IsUnsafe(from[i]) ? from[i] : from[i] is '\n' or '\r' or '\t' ? ' ' : '?';
            }
        });
    }

    private static bool IsUnsafe(char c) =>
        char.IsControl(c) || char.GetUnicodeCategory(c) is UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator;

    // A reader that went away or has no room: its loss, and not a reason to fail the pull.
    private static void Write(SafeFileHandle stream, ReadOnlySpan<byte> bytes) => _ = Libc.WriteAll(stream, bytes);
}
