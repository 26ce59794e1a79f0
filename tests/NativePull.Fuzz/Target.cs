using System.Text;
using NativePull.Layers;

namespace NativePull.Fuzz;

/// <summary>
/// One input: its first byte says what the rest is. Headers are given right checksums where the input asks for it, because no mutation would
/// ever get past a checksum.
/// </summary>
internal static class Target
{
    internal const byte MendedTar = 0;
    internal const byte Tar = 1;
    internal const byte Blob = 2;

    /// <summary>Null where the input was read, else why it was refused; anything else thrown is a finding.</summary>
    internal static PullException? Run(byte[] input)
    {
        if (input.Length == 0)
        {
            return null;
        }

        byte[] content = input[1..];
        try
        {
            switch (input[0] % 3)
            {
                case MendedTar:
                    Mend(content);
                    Read(new MemoryStream(content));
                    break;
                case Tar:
                    Read(new MemoryStream(content));
                    break;
                default:
                    using (Stream plain = LayerStream.Decompress(new MemoryStream(content), "layer", new LayerLimits { RatioFrom = 1 << 20 }))
                    {
                        Read(plain);
                        Drain(plain);
                    }

                    break;
            }

            return null;
        }
        catch (PullException refused) when (refused.Reason is PullError.Malformed or PullError.LimitPassed or PullError.Unsupported)
        {
            return refused;
        }
    }

    private static void Read(Stream archive)
    {
        TarReader reader = new(archive, new TarLimits());
        byte[] buffer = new byte[4096];
        while (reader.MoveNext())
        {
            long end = 0;
            long data = 0;
            int read;
            while ((read = reader.ReadContent(buffer, out long position)) > 0)
            {
                if (position < end || position > reader.Current.Size - read)
                {
                    throw new InvalidOperationException($"content at {position} after {end} of {reader.Current.Size}");
                }

                end = position + read;
                data += read;
            }

            if (data != reader.Current.DataSize)
            {
                throw new InvalidOperationException($"{data} bytes of content, {reader.Current.DataSize} promised");
            }
        }
    }

    private static void Drain(Stream plain)
    {
        byte[] rest = new byte[65536];
        while (plain.Read(rest) > 0)
        {
        }
    }

    // Every block that is not content by the look of it: with digits where the checksum of a header is.
    private static void Mend(byte[] content)
    {
        for (int start = 0; start + 512 <= content.Length; start += 512)
        {
            Span<byte> block = content.AsSpan(start, 512);
            if (block[148] is >= (byte)'0' and <= (byte)'7')
            {
                block.Slice(148, 8).Fill((byte)' ');
                int sum = 0;
                foreach (byte b in block)
                {
                    sum += b;
                }

                Encoding.ASCII.GetBytes(Convert.ToString(sum, 8).PadLeft(6, '0') + "\0 ").CopyTo(block[148..]);
            }
        }
    }
}
