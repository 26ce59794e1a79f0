using NativePull.IO;

namespace NativePull.Tests.IO;

public class LookaheadStreamTests
{
    private static readonly byte[] Content = [.. Enumerable.Range(0, 300_000).Select(i => (byte)(i * 7))];

    [Fact]
    public void What_was_looked_at_is_read_all_the_same()
    {
        using LookaheadStream stream = new(new MemoryStream(Content));

        Assert.Equal(Content.AsSpan(..10), stream.Peek(10)[..10]);
        stream.Take(3);
        Assert.Equal(Content.AsSpan(3..100_003), stream.Peek(100_000)[..100_000]);
        Assert.Equal(3, stream.Taken);
        byte[] rest = new byte[Content.Length - 3];
        stream.ReadExactly(rest);

        Assert.Equal(Content[3..], rest);
        Assert.Equal(Content.Length, stream.Taken);
        Assert.Equal(0, stream.Peek(1).Length);
        Assert.Equal(0, stream.Read(new byte[1]));
    }

    [Fact]
    public void Less_than_asked_for_is_seen_at_the_end_alone()
    {
        using LookaheadStream stream = new(new Trickle(new MemoryStream(Content[..7])));

        Assert.Equal(Content.AsSpan(..5), stream.Peek(5));
        Assert.Equal(Content.AsSpan(..7), stream.Peek(10));
    }

    private sealed class Trickle(Stream inner) : ReadOnlyStream
    {
        public override int Read(Span<byte> buffer) => inner.Read(buffer[..Math.Min(1, buffer.Length)]);
    }
}
