using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// What the kernel lets this process do, from which the defaults of <see cref="ExtractOptions"/> follow. Asked of the kernel, because user 0 says
/// little: a user namespace's root sets neither foreign owners nor trusted.* attributes, a container's may lack any capability.
/// </summary>
/// <param name="AnyOwner">Files may be given to whatever number an archive has.</param>
/// <param name="Devices">Device nodes may be made.</param>
/// <param name="Trusted">trusted.* attributes may be set, as a mount without <c>userxattr</c> needs.</param>
internal sealed record Privileges(bool AnyOwner, bool Devices, bool Trusted)
{
    internal static Privileges Ask()
    {
        bool anyOwner = Libc.TryAnyOwner();
        return new Privileges(anyOwner, anyOwner && Libc.HasMakeNode(), Libc.TryTrustedXattr());
    }

    /// <summary>Lets a mask such as 0777 not keep this process out of what it makes itself.</summary>
    internal static void KeepOwnerBits() => Libc.KeepOwnerBits();
}
