using NativePull.Layers;

namespace NativePull.Tests.Layers;

/// <summary>Reads whole archives for tests.</summary>
internal static class TarArchive
{
    /// <summary>Every member with its content as a file would have it, holes as zeros; for small files.</summary>
    internal static List<(TarEntry Entry, byte[] Content)> Read(Stream archive, TarLimits? limits = null)
    {
        TarReader reader = new(archive, limits ?? new TarLimits());
        List<(TarEntry, byte[])> members = [];
        byte[] buffer = new byte[1000];
        while (reader.MoveNext())
        {
            // a size may be a lie
            byte[] content = new byte[Math.Min(reader.Current.Size, 64 << 20)];
            int read;
            while ((read = reader.ReadContent(buffer, out long position)) > 0)
            {
                buffer.AsSpan(0, read).CopyTo(content.AsSpan((int)position));
            }

            members.Add((reader.Current, content));
        }

        return members;
    }

    internal static List<(TarEntry Entry, byte[] Content)> Read(byte[] archive, TarLimits? limits = null) => Read(new MemoryStream(archive), limits);

    internal static TarEntry One(byte[] archive, TarLimits? limits = null) => Assert.Single(Read(archive, limits)).Entry;

    internal static PullException Refused(byte[] archive, PullError reason, TarLimits? limits = null)
    {
        PullException refused = Assert.Throws<PullException>(() => Read(archive, limits));
        Assert.Equal(reason, refused.Reason);
        return refused;
    }
}
