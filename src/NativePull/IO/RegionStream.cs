using Microsoft.Win32.SafeHandles;

namespace NativePull.IO;

/// <summary>A run of bytes of an open file, read by position: any number of them share one handle.</summary>
/// <param name="file">Stays open.</param>
internal sealed class RegionStream(SafeFileHandle file, long start, long length) : ReadOnlyStream
{
    private long position;

    public override long Length => length;

    public override long Position { get => position; set => throw new NotSupportedException(); }

    public override int Read(Span<byte> buffer)
    {
        int wanted = (int)Math.Min(buffer.Length, length - position);
        int read = wanted == 0 ? 0 : RandomAccess.Read(file, buffer[..wanted], start + position);
        position += read;
        return read;
    }
}
