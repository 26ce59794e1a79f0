using System.Runtime.InteropServices;

namespace NativePull.Native;

/// <summary>A Linux call that failed: which call, on what, and errno. The caller decides what that means.</summary>
internal sealed class LinuxException(string call, string subject, int errno)
    : IOException($"{call} {subject}: {Marshal.GetPInvokeErrorMessage(errno)}")
{
    internal string Call { get; } = call;

    internal int Errno { get; } = errno;
}
