namespace NativePull.IO;

/// <summary>Reads all of a stream, or fails at a limit: too much is an error, never a silent cut.</summary>
internal static class BoundedRead
{
    private const int FirstBuffer = 16 * 1024; // bytes

    /// <param name="limit">Bytes; this many are still allowed.</param>
    /// <param name="what">The thing read, for the message.</param>
    /// <exception cref="PullException">LimitPassed.</exception>
    internal static async Task<byte[]> AllAsync(Stream stream, long limit, string what, CancellationToken token)
    {
        byte[] buffer = new byte[First(limit)];
        int filled = 0;
        while (true)
        {
            int read = await stream.ReadAsync(buffer.AsMemory(filled), token);
            filled += read;
            if (read == 0)
            {
                return buffer.AsSpan(0, filled).ToArray();
            }

            buffer = Room(buffer, filled, limit, what);
        }
    }

    /// <inheritdoc cref="AllAsync"/>
    internal static byte[] All(Stream stream, long limit, string what)
    {
        byte[] buffer = new byte[First(limit)];
        int filled = 0;
        while (true)
        {
            int read = stream.Read(buffer.AsSpan(filled));
            filled += read;
            if (read == 0)
            {
                return buffer.AsSpan(0, filled).ToArray();
            }

            buffer = Room(buffer, filled, limit, what);
        }
    }

    // one byte beyond the limit, so that passing it can be seen
    private static int First(long limit) => (int)Math.Min(FirstBuffer, limit + 1);

    private static byte[] Room(byte[] buffer, int filled, long limit, string what)
    {
        if (filled > limit)
        {
            throw new PullException(PullError.LimitPassed, $"{what}: more than the {limit} bytes allowed");
        }

        if (filled == buffer.Length)
        {
            Array.Resize(ref buffer, (int)Math.Min(limit + 1, Math.Min(buffer.Length * 2L, Array.MaxLength)));
        }

        return buffer;
    }
}
