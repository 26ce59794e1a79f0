using System.Security.Cryptography;
using NativePull.IO;

namespace NativePull.Tests.IO;

public sealed class ReadAheadStreamTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(256 * 1024)]
    [InlineData((3 * 256 * 1024) + 17)]
    [InlineData(5_000_000)]
    public void Passes_every_byte_on_in_order(int size)
    {
        byte[] content = RandomNumberGenerator.GetBytes(size);
        using ReadAheadStream stream = new(new MemoryStream(content), TestContext.Current.CancellationToken);
        using MemoryStream got = new();

        stream.CopyTo(got);

        Assert.True(content.AsSpan().SequenceEqual(got.ToArray()));
    }

    [Fact]
    public void Gives_the_bytes_read_before_a_failure_and_then_the_failure()
    {
        using ReadAheadStream stream = new(new FailingStream(300_000), TestContext.Current.CancellationToken);
        byte[] buffer = new byte[300_000];

        stream.ReadExactly(buffer);

        Assert.Equal("the disk broke", Assert.Throws<IOException>(() => stream.ReadExactly(buffer, 0, 1)).Message);
    }

    [Fact]
    public void Drain_reaches_what_the_inner_stream_throws_at_its_end()
    {
        using ReadAheadStream stream = new(new FailingStream(2_000_000), TestContext.Current.CancellationToken);
        stream.ReadExactly(new byte[10]);

        Assert.Throws<IOException>(stream.Drain);
    }

    [Fact]
    public void Disposing_early_ends_the_reading_thread_and_disposes_the_inner_stream()
    {
        MemoryStream inner = new(new byte[10_000_000]);
        ReadAheadStream stream = new(inner, TestContext.Current.CancellationToken);
        stream.ReadExactly(new byte[10]);

        stream.Dispose();

        Assert.False(inner.CanRead);
    }

    // Zeros for a while, then a failure.
    private sealed class FailingStream(int good) : Stream
    {
        private int left = good;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count)
        {
            if (left == 0)
            {
                throw new IOException("the disk broke");
            }

            int read = Math.Min(count, left);
            left -= read;
            return read;
        }

        public override void Flush() { }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
