using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace NativePull.Native;

/// <summary>What the kernel lets this process do to files, tried on a file in memory: no path, no /proc, no trace.</summary>
internal static unsafe partial class Libc
{
    private const uint CapabilityVersion = 0x20080522; // _LINUX_CAPABILITY_VERSION_3, capget(2)
    private const int MakeNodeCapability = 27; // CAP_MKNOD, capabilities(7)
    private const uint HighestId = 0xFFFFFFFE; // 2^32 - 1 means "leave as it is" to chown(2)

    internal static uint EffectiveUser { get; } = geteuid();

    internal static uint EffectiveGroup { get; } = getegid();

    /// <summary>Whether any owner may be set: CAP_CHOWN, and a user namespace that maps every number (EINVAL tells one that does not).</summary>
    internal static bool TryAnyOwner() => Try(file => fchown(file, HighestId, HighestId) == 0, EffectiveUser == 0);

    /// <summary>Whether trusted.* attributes may be set: CAP_SYS_ADMIN in the initial user namespace (xattr(7)). Removing an absent one changes nothing and is refused alike.</summary>
    internal static bool TryTrustedXattr() => Try(file => RemoveXattr(file, "trusted.overlay.absent\0"u8) != Errno.PermissionDenied, EffectiveUser == 0);

    /// <summary>How many descriptors this process may have open (RLIMIT_NOFILE, getrlimit(2)); the runtime has made the soft limit the hard one.</summary>
    internal static long MaximumDescriptors()
    {
        const int openFiles = 7; // RLIMIT_NOFILE
        ulong* limit = stackalloc ulong[2];
        return getrlimit(openFiles, limit) == 0 ? (long)Math.Min(limit[0], int.MaxValue) : int.MaxValue;
    }

    /// <summary>capget(2): whether CAP_MKNOD is in effect. It counts in the initial user namespace alone.</summary>
    internal static bool HasMakeNode()
    {
        // struct __user_cap_header_struct; two of struct __user_cap_data_struct: effective, permitted, inheritable
        uint* header = stackalloc uint[2] { CapabilityVersion, 0 };
        uint* data = stackalloc uint[6];
        return capget(header, data) == 0 && (data[0] & (1u << MakeNodeCapability)) != 0;
    }

    /// <summary>umask(2): what this process makes is its own to use, whatever mask it was started with; group and others stay as they were.</summary>
    internal static void KeepOwnerBits() => _ = umask(umask(0x3F) & ~Permission.Owner);

    private static bool Try(Func<SafeFileHandle, bool> attempt, bool otherwise)
    {
        int descriptor;
        fixed (byte* name = "nativepull\0"u8)
        {
            descriptor = memfd_create(name, 1); // MFD_CLOEXEC
        }

        // a sandbox that has no such files: then by the user's number
        if (descriptor < 0)
        {
            return otherwise;
        }

        using SafeFileHandle file = new(descriptor, ownsHandle: true);
        return attempt(file);
    }

    /// <summary>lsetxattr(2) of a name in an open directory by way of /proc; 0 or an errno, where there is no /proc one of a path.</summary>
    internal static int SetXattrThroughProc(SafeFileHandle parent, ReadOnlySpan<byte> name, ReadOnlySpan<byte> xattr, ReadOnlySpan<byte> value)
    {
        byte[] path = [.. Encoding.ASCII.GetBytes($"/proc/self/fd/{parent.DangerousGetHandle()}/"), .. name];
        fixed (byte* bytes = path)
        fixed (byte* xattrBytes = xattr)
        fixed (byte* valueBytes = value)
        {
            return Result(lsetxattr(bytes, xattrBytes, valueBytes, value.Length, 0));
        }
    }

    [LibraryImport("libc")]
    private static partial int getrlimit(int resource, ulong* limit);

    [LibraryImport("libc")]
    private static partial uint getegid();

    [LibraryImport("libc")]
    private static partial uint umask(uint mask);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int memfd_create(byte* name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int capget(uint* header, uint* data);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int lsetxattr(byte* path, byte* name, byte* value, nint size, int flags);
}
