using Microsoft.Win32.SafeHandles;
using NativePull.IO;
using NativePull.Native;

namespace NativePull.Cli;

/// <summary>Standard input as plain bytes; Console's fails where the caller left it non-blocking.</summary>
internal sealed class StandardInput : ReadOnlyStream
{
    private readonly SafeFileHandle file = Libc.DuplicateStandard(0);

    /// <exception cref="LinuxException">It cannot be read; a directory, say.</exception>
    public override int Read(Span<byte> buffer) => Libc.Read(file, buffer, "stdin");

    protected override void Dispose(bool disposing)
    {
        file.Dispose();
        base.Dispose(disposing);
    }
}
