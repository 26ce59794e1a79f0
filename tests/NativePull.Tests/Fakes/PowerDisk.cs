using System.Buffers.Binary;
using System.Net.Sockets;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Fakes;

/// <summary>
/// A disk with a volatile cache, for a virtual machine: a server of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md) that remembers every write
/// and every flush in their order. Afterwards it can make what the disk would hold had the power gone at any moment: all that was written before the
/// last flush, and of what came after it whatever the disk happened to have put down, whole or to a block's border.
/// </summary>
internal sealed class PowerDisk : IAsyncDisposable
{
    private const int Block = 4096; // what a disk writes as a whole or not at all; btrfs needs that for its superblock
    private const ulong OptionMagic = 0x49484156454F5054; // "IHAVEOPT"
    private const ulong OptionReplyMagic = 0x3e889045565a9;
    private const uint RequestMagic = 0x25609513;
    private const uint ReplyMagic = 0x67446698;
    private const ushort Features = 1 | 4 | 8; // NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_FUA
    private const int ForceUnitAccess = 1; // NBD_CMD_FLAG_FUA

    private readonly Lock gate = new();
    private readonly List<Step> log = [];
    private readonly TemporaryDirectory directory = new();
    private readonly Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly CancellationTokenSource stopping = new();
    private readonly FileStream content;
    private readonly Task serving;

    /// <param name="image">What it holds at first; copied.</param>
    internal PowerDisk(string image)
    {
        Copy(image, Base);
        Copy(image, directory["content"]);
        content = new FileStream(directory["content"], FileMode.Open, FileAccess.ReadWrite, FileShare.None, 0);
        listener.Bind(new UnixDomainSocketEndPoint(directory["socket"]));
        listener.Listen();
        serving = ServeAllAsync();
    }

    private sealed record Step(long Offset, byte[]? Bytes, bool IsFlush, bool IsForced);

    /// <summary>For qemu.</summary>
    internal string Address => $"nbd+unix:///?socket={directory["socket"]}";

    /// <summary>Writes and flushes so far.</summary>
    internal int Steps
    {
        get
        {
            lock (gate)
            {
                return log.Count;
            }
        }
    }

    /// <summary>A number of steps after which to cut: any, or one beside a flush, where what was meant to be in order shows.</summary>
    internal int AnyMoment(Random chance)
    {
        lock (gate)
        {
            int[] flushes = [.. Enumerable.Range(0, log.Count).Where(step => log[step].IsFlush)];
            return flushes.Length == 0 || chance.Next(3) == 0
                ? chance.Next(log.Count + 1)
                : Math.Clamp(flushes[chance.Next(flushes.Length)] + chance.Next(-3, 4), 0, log.Count);
        }
    }

    private string Base => directory["base"];

    /// <summary>Makes what the disk holds after a power cut.</summary>
    /// <param name="steps">How many writes and flushes had been answered; the next may be on its way.</param>
    /// <param name="chance">Decides for each write since the last flush whether it is there.</param>
    internal void WriteAfterCut(int steps, Random chance, string image)
    {
        Step[] seen;
        lock (gate)
        {
            seen = [.. log.Take(steps)];
        }

        int flushed = Array.FindLastIndex(seen, step => step.IsFlush);
        double kept = chance.Next(4) switch { 0 => 0, 1 => 1, _ => chance.NextDouble() };
        Copy(Base, image);
        using FileStream disk = new(image, FileMode.Open, FileAccess.Write);
        for (int i = 0; i < seen.Length; i++)
        {
            if (seen[i].Bytes is { } bytes && (i < flushed || seen[i].IsForced || chance.NextDouble() < kept))
            {
                disk.Position = seen[i].Offset;
                disk.Write(bytes);
            }
        }

        lock (gate)
        {
            // the write that the cut interrupts: some of its blocks
            if (steps < log.Count && log[steps].Bytes is { } torn && chance.Next(2) == 0)
            {
                disk.Position = log[steps].Offset;
                disk.Write(torn, 0, chance.Next((torn.Length / Block) + 1) * Block);
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await stopping.CancelAsync();
        listener.Dispose();
        await serving;
        await content.DisposeAsync();
        stopping.Dispose();
        directory.Dispose();
    }

    /// <summary>A copy that leaves holes where there are some. It is a new file: a loop device may not have let go of one of the name yet.</summary>
    internal static void Copy(string from, string to)
    {
        File.Delete(to);
        using FileStream source = File.OpenRead(from);
        using FileStream target = File.Create(to);
        target.SetLength(source.Length);
        byte[] buffer = new byte[64 * 1024];
        for (int read; (read = source.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false)) > 0;)
        {
            if (buffer.AsSpan(0, read).ContainsAnyExcept((byte)0))
            {
                target.Position = source.Position - read;
                target.Write(buffer, 0, read);
            }
        }
    }

    // One machine at a time; another may come when its power was cut.
    private async Task ServeAllAsync()
    {
        while (!stopping.IsCancellationRequested)
        {
            try
            {
                using Socket client = await listener.AcceptAsync(stopping.Token);
                await using NetworkStream stream = new(client);
                if (await AgreeAsync(stream))
                {
                    await ServeAsync(stream);
                }
            }
            catch (Exception gone) when (gone is SocketException or IOException or OperationCanceledException or ObjectDisposedException)
            {
                // the machine's power was cut, or the test is over
            }
        }
    }

    // "Fixed newstyle negotiation"
    private async Task<bool> AgreeAsync(NetworkStream stream)
    {
        byte[] greeting = new byte[18];
        "NBDMAGIC"u8.CopyTo(greeting);
        BinaryPrimitives.WriteUInt64BigEndian(greeting.AsSpan(8), OptionMagic);
        greeting[17] = 3; // NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES
        await stream.WriteAsync(greeting, stopping.Token);
        await stream.ReadExactlyAsync(new byte[4], stopping.Token);
        byte[] option = new byte[16];
        while (true)
        {
            await stream.ReadExactlyAsync(option, stopping.Token);
            uint number = BinaryPrimitives.ReadUInt32BigEndian(option.AsSpan(8));
            await stream.ReadExactlyAsync(new byte[BinaryPrimitives.ReadUInt32BigEndian(option.AsSpan(12))], stopping.Token);
            if (number is not (6 or 7)) // NBD_OPT_INFO, NBD_OPT_GO
            {
                await AnswerAsync(number, number == 2 ? 1 : 0x80000001, []); // NBD_OPT_ABORT: NBD_REP_ACK; NBD_REP_ERR_UNSUP
                if (number == 2)
                {
                    return false;
                }

                continue;
            }

            byte[] export = new byte[12]; // NBD_INFO_EXPORT, size, flags
            BinaryPrimitives.WriteInt64BigEndian(export.AsSpan(2), content.Length);
            BinaryPrimitives.WriteUInt16BigEndian(export.AsSpan(10), Features);
            await AnswerAsync(number, 3, export);
            await AnswerAsync(number, 1, []);
            if (number == 7)
            {
                return true;
            }
        }

        async Task AnswerAsync(uint number, uint type, byte[] data)
        {
            byte[] reply = new byte[20];
            BinaryPrimitives.WriteUInt64BigEndian(reply, OptionReplyMagic);
            BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(8), number);
            BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(12), type);
            BinaryPrimitives.WriteInt32BigEndian(reply.AsSpan(16), data.Length);
            await stream.WriteAsync(reply, stopping.Token);
            await stream.WriteAsync(data, stopping.Token);
        }
    }

    // One request after the other, so that the log's order is the disk's.
    private async Task ServeAsync(NetworkStream stream)
    {
        byte[] request = new byte[28];
        while (true)
        {
            await stream.ReadExactlyAsync(request, stopping.Token);
            if (BinaryPrimitives.ReadUInt32BigEndian(request) != RequestMagic)
            {
                throw new InvalidDataException("not a request");
            }

            int flags = BinaryPrimitives.ReadUInt16BigEndian(request.AsSpan(4));
            long offset = BinaryPrimitives.ReadInt64BigEndian(request.AsSpan(16));
            byte[] data = new byte[BinaryPrimitives.ReadUInt32BigEndian(request.AsSpan(24))];
            int error = 0;
            bool answersData = false;
            switch (BinaryPrimitives.ReadUInt16BigEndian(request.AsSpan(6)))
            {
                case 0: // NBD_CMD_READ
                    content.Position = offset;
                    content.ReadExactly(data);
                    answersData = true;
                    break;
                case 1: // NBD_CMD_WRITE
                    await stream.ReadExactlyAsync(data, stopping.Token);
                    content.Position = offset;
                    content.Write(data);
                    Add(new Step(offset, data, IsFlush: false, (flags & ForceUnitAccess) != 0));
                    break;
                case 2: // NBD_CMD_DISC
                    return;
                case 3: // NBD_CMD_FLUSH
                    Add(new Step(0, null, IsFlush: true, IsForced: false));
                    break;
                default:
                    error = 22; // NBD_EINVAL
                    break;
            }

            byte[] reply = new byte[16];
            BinaryPrimitives.WriteUInt32BigEndian(reply, ReplyMagic);
            BinaryPrimitives.WriteInt32BigEndian(reply.AsSpan(4), error);
            request.AsSpan(8, 8).CopyTo(reply.AsSpan(8));
            await stream.WriteAsync(reply, stopping.Token);
            if (answersData)
            {
                await stream.WriteAsync(data, stopping.Token);
            }
        }
    }

    private void Add(Step step)
    {
        lock (gate)
        {
            log.Add(step);
        }
    }
}
