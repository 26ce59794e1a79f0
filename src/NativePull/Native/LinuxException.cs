using System.Runtime.InteropServices;

namespace NativePull.Native;

/// <summary>A Linux call that failed: which call, on what, and errno. The caller decides what that means.</summary>
internal sealed class LinuxException(string call, string subject, int errno)
    // HResult is errno, as it is for the BCL's own I/O errors on Linux: one mapping to reasons serves both
    : IOException($"{call} {subject}: {Marshal.GetPInvokeErrorMessage(errno)}", errno)
{
    internal string Call { get; } = call;

    internal int Errno { get; } = errno;
}
