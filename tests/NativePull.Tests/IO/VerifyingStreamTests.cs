using NativePull.IO;
using NativePull.Oci;

namespace NativePull.Tests.IO;

public class VerifyingStreamTests
{
    private static readonly byte[] Content = [.. Enumerable.Range(0, 100_000).Select(i => (byte)i)];

    [Fact]
    public void The_bytes_that_the_digest_names_pass()
    {
        using VerifyingStream stream = new(new MemoryStream(Content), Digest.Of(Content), "blob", PullError.DigestMismatch);
        using MemoryStream copy = new();
        stream.CopyTo(copy);

        Assert.Equal(Content, copy.ToArray());
        Assert.Equal(Content.Length, stream.Count);
        Assert.Equal(0, stream.Read(new byte[1]));
    }

    [Theory]
    [InlineData(PullError.DigestMismatch)]
    [InlineData(PullError.DiffIdMismatch)]
    public void Other_bytes_fail_at_their_end_for_the_reason_given(object reason)
    {
        using VerifyingStream stream = new(new MemoryStream(Content[1..]), Digest.Of(Content), "the blob", (PullError)reason);

        PullException thrown = Assert.Throws<PullException>(() => stream.Drain(TestContext.Current.CancellationToken));

        Assert.Equal(reason, thrown.Reason);
        Assert.Contains($"the blob: expected {Digest.Of(Content)}, got {Digest.Of(Content.AsSpan(1..))}", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_left_unread_is_verified_by_draining()
    {
        using VerifyingStream stream = new(new MemoryStream([.. Content, 1]), Digest.Of(Content), "blob", PullError.DigestMismatch);
        stream.ReadExactly(new byte[Content.Length]);

        Assert.Throws<PullException>(() => stream.Drain(TestContext.Current.CancellationToken));
    }

    [Fact]
    public void Nothing_is_verified_by_reading_no_bytes()
    {
        using VerifyingStream stream = new(new MemoryStream(Content), Digest.Of([]), "blob", PullError.DigestMismatch);

        Assert.Equal(0, stream.Read([]));
    }
}
