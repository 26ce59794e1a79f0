using System.Buffers.Binary;

namespace NativePull.Layers;

/// <summary>
/// The numbers in an ACL, which are as much an image's as the owners of its files: where those are mapped, so are these, or other people of this machine would have rights.
/// </summary>
internal static class AccessList
{
    // struct posix_acl_xattr_header and _entry of linux/posix_acl_xattr.h: a version, then a tag, permissions and a number each
    private const uint Version = 2;
    private const int HeaderLength = 4;
    private const int EntryLength = 8;
    private const int NumberAt = 4;

    // linux/posix_acl.h; the number of any other tag means nothing
    private const int NamedUser = 2;
    private const int NamedGroup = 8;

    internal static bool Is(ReadOnlySpan<byte> attribute) => attribute.StartsWith("system.posix_acl_"u8);

    /// <summary>The value with other numbers; as it is where it is no ACL, which the kernel will say.</summary>
    internal static byte[] Map(byte[] value, Func<uint, uint> user, Func<uint, uint> group)
    {
        if (value.Length < HeaderLength || (value.Length - HeaderLength) % EntryLength != 0 || BinaryPrimitives.ReadUInt32LittleEndian(value) != Version)
        {
            return value;
        }

        byte[] mapped = [.. value];
        for (int at = HeaderLength; at < mapped.Length; at += EntryLength)
        {
            Span<byte> number = mapped.AsSpan(at + NumberAt, sizeof(uint));
            Func<uint, uint>? map = BinaryPrimitives.ReadUInt16LittleEndian(mapped.AsSpan(at)) switch { NamedUser => user, NamedGroup => group, _ => null };
            if (map is not null)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(number, map(BinaryPrimitives.ReadUInt32LittleEndian(number)));
            }
        }

        return mapped;
    }
}
