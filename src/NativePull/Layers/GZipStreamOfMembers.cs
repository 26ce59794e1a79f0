using System.Buffers.Binary;
using System.Globalization;
using NativePull.IO;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// A gzip file (RFC 1952) as what it holds: all its members, whatever fields their headers have, each with its sums compared. Zero bytes may
/// pad it, as gzip(1) allows for tapes; anything else after the last member is Malformed, as it is to Go, which writes most layers.
/// </summary>
/// <param name="input">Disposed with this stream.</param>
internal sealed class GZipStreamOfMembers(LookaheadStream input, string what) : ReadOnlyStream
{
    private readonly GZipInflater inflater = new();

    // the last bytes taken: where a sum differs, they are what it should be (RFC 1952, 2.3.1)
    private readonly byte[] last = new byte[4];
    private bool ended;
    private bool between;

    /// <exception cref="PullException">Malformed.</exception>
    public override int Read(Span<byte> buffer)
    {
        while (!ended && buffer.Length > 0)
        {
            ReadOnlySpan<byte> next = input.Peek(1);
            if (between)
            {
                Next(next);
                continue;
            }

            InflateState state = inflater.Inflate(next, buffer, out int taken, out int made);
            bool starved = next.Length == 0;
            Remember(next[..taken]);
            input.Take(taken);
            if (state == InflateState.Broken || (state == InflateState.Going && taken == 0 && made == 0))
            {
                throw Bad(starved ? "its gzip data ends inside a member" : WhyBroken());
            }

            between = state == InflateState.MemberEnd;
            if (made > 0)
            {
                return made;
            }
        }

        return 0;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inflater.Dispose();
            input.Dispose();
        }

        base.Dispose(disposing);
    }

    // After a member: another one, zeros to the end, or the end.
    private void Next(ReadOnlySpan<byte> next)
    {
        if (next.Length > 0 && next[0] != 0)
        {
            if (next[0] != 0x1f)
            {
                throw Bad("its gzip data is followed by something else");
            }

            inflater.Reset();
            between = false;
            return;
        }

        while (next.Length > 0)
        {
            if (next.ContainsAnyExcept((byte)0))
            {
                throw Bad("its gzip data is followed by something else");
            }

            input.Take(next.Length);
            next = input.Peek(1);
        }

        ended = true;
    }

    private void Remember(ReadOnlySpan<byte> taken)
    {
        int kept = Math.Max(0, last.Length - taken.Length);
        last.AsSpan(last.Length - kept).CopyTo(last);
        taken[Math.Max(0, taken.Length - last.Length)..].CopyTo(last.AsSpan(kept));
    }

    private string WhyBroken()
    {
        InflateFault fault = inflater.Fault();
        uint expected = BinaryPrimitives.ReadUInt32LittleEndian(last);
        return fault.Reason switch
        {
            "incorrect data check" => $"its gzip data has another CRC-32: expected {expected:x8}, got {fault.Sum:x8}",
            // of the length its lowest 32 bits are stored
            "incorrect length check" => string.Create(
                CultureInfo.InvariantCulture, $"its gzip data has another length: expected {expected} bytes, got {fault.Length & uint.MaxValue}"),
            "header crc mismatch" => "its gzip header has another CRC-16 than it says",
            "" => "its gzip data is broken",
            string reason => $"its gzip data is broken ({reason})",
        };
    }

    private PullException Bad(string why) => new(PullError.Malformed, $"{what}: {why}");
}
