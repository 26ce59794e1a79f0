using NativePull.IO;

namespace NativePull.Tests.IO;

public sealed class BoundedReadTests
{
    [Theory]
    [InlineData(0, 0)]
    [InlineData(0, 10)]
    [InlineData(10, 10)]
    [InlineData(9, 10)]
    [InlineData(16 * 1024, 1024 * 1024)]
    [InlineData(16 * 1024 + 1, 1024 * 1024)]
    [InlineData(1024 * 1024, 1024 * 1024)]
    [InlineData(300_000, long.MaxValue - 1)]
    public async Task Up_to_the_limit_everything_is_read(int size, long limit)
    {
        byte[] content = new byte[size];
        Random.Shared.NextBytes(content);

        Assert.Equal(content, BoundedRead.All(new Dripping(content), limit, "it"));
        Assert.Equal(content, await BoundedRead.AllAsync(new Dripping(content), limit, "it", TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(11, 10)]
    [InlineData(1024 * 1024 + 1, 1024 * 1024)]
    public async Task Beyond_it_nothing_is_returned(int size, long limit)
    {
        PullException failure = Assert.Throws<PullException>(() => BoundedRead.All(new Dripping(new byte[size]), limit, "the thing"));
        PullException other = await Assert.ThrowsAsync<PullException>(() => BoundedRead.AllAsync(new Dripping(new byte[size]), limit, "the thing", TestContext.Current.CancellationToken));

        Assert.Equal(PullError.LimitPassed, failure.Reason);
        Assert.Equal(PullError.LimitPassed, other.Reason);
        Assert.Contains("the thing", failure.Message, StringComparison.Ordinal);
        Assert.Contains($"{limit}", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_stream_without_end_is_left_soon_after_the_limit()
    {
        var endless = new Dripping(new byte[100 * 1024 * 1024]);

        Assert.Throws<PullException>(() => BoundedRead.All(endless, 1000, "it"));

        Assert.Equal(1001, endless.Position);
    }

    /// <summary>Gives less than is asked for, as sockets do.</summary>
    private sealed class Dripping(byte[] content) : MemoryStream(content)
    {
        public override int Read(Span<byte> buffer) => base.Read(buffer[..Math.Min(buffer.Length, 7_000)]);

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => new(Read(buffer.Span));
    }
}
