using System.Runtime.InteropServices;
using System.Text;

namespace NativePull.Native;

/// <summary>How far a call of <see cref="GZipInflater.Inflate"/> came.</summary>
internal enum InflateState
{
    /// <summary>Needs more input or more room.</summary>
    Going,

    /// <summary>The member is whole: its CRC-32, its length and a header's CRC-16 were compared.</summary>
    MemberEnd,

    /// <summary>Not deflate, or a sum differs: <see cref="GZipInflater.Fault"/> tells.</summary>
    Broken,
}

/// <summary>What an inflater says of a broken member.</summary>
/// <param name="Reason">In zlib's words.</param>
/// <param name="Sum">CRC-32 of what the member gave.</param>
/// <param name="Length">Bytes of it.</param>
internal readonly record struct InflateFault(string Reason, uint Sum, ulong Length);

/// <summary>
/// One gzip member at a time through the runtime's own zlib-ng, which GZipStream uses too. GZipStream itself cannot be used: it takes a blob cut
/// short for a whole one and garbage after the last member for nothing, and no public class tells where compressed data ended.
/// </summary>
internal sealed unsafe partial class GZipInflater : IDisposable
{
    // windowBits of zlib.h: a window of 15 bits, and 16 more to expect gzip's framing
    private const int GZipWindow = 15 + 16;
    private const int Ok = 0;
    private const int StreamEnd = 1;
    private const int BufferError = -5; // no progress was possible, no error

    private ZStream* stream;

    internal GZipInflater()
    {
        stream = (ZStream*)NativeMemory.AllocZeroed((nuint)sizeof(ZStream));
        Check(CompressionNative_InflateInit2_(stream, GZipWindow));
    }

    internal InflateState Inflate(ReadOnlySpan<byte> input, Span<byte> output, out int taken, out int made)
    {
        ObjectDisposedException.ThrowIf(stream is null, this);
        fixed (byte* from = input)
        fixed (byte* to = output)
        {
            stream->NextIn = from;
            stream->AvailableIn = (uint)input.Length;
            stream->NextOut = to;
            stream->AvailableOut = (uint)output.Length;
            int result = CompressionNative_Inflate(stream, 0);
            taken = input.Length - (int)stream->AvailableIn;
            made = output.Length - (int)stream->AvailableOut;
            stream->NextIn = stream->NextOut = null;
            return result switch
            {
                Ok or BufferError => InflateState.Going,
                StreamEnd => InflateState.MemberEnd,
                _ => InflateState.Broken,
            };
        }
    }

    /// <summary>Why the last call gave <see cref="InflateState.Broken"/>.</summary>
    internal InflateFault Fault()
    {
        ObjectDisposedException.ThrowIf(stream is null, this);
        string reason = stream->Message is null ? "" : Encoding.ASCII.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(stream->Message));
        return new InflateFault(reason, (uint)stream->State->Adler, stream->State->TotalOut);
    }

    /// <summary>Makes ready for another member.</summary>
    internal void Reset()
    {
        ObjectDisposedException.ThrowIf(stream is null, this);
        Check(CompressionNative_InflateReset2_(stream, GZipWindow));
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    ~GZipInflater() => Free();

    private void Free()
    {
        if (stream is not null)
        {
            _ = CompressionNative_InflateEnd(stream);
            NativeMemory.Free(stream);
            stream = null;
        }
    }

    private static void Check(int result)
    {
        if (result != Ok)
        {
            throw new InvalidOperationException($"zlib: {result}");
        }
    }

    // PAL_ZStream of the runtime's src/native/libs/System.IO.Compression.Native/pal_zlib.h
    [StructLayout(LayoutKind.Sequential)]
    private struct ZStream
    {
        internal byte* NextIn;
        internal byte* NextOut;
        internal byte* Message;
        internal ZLibStream* State;
        internal uint AvailableIn;
        internal uint AvailableOut;
    }

    // z_stream of zlib.h, which is what the runtime's own stands for; C's long is the machine's word
    [StructLayout(LayoutKind.Sequential)]
    private struct ZLibStream
    {
        internal byte* NextIn;
        internal uint AvailableIn;
        internal nuint TotalIn;
        internal byte* NextOut;
        internal uint AvailableOut;
        internal nuint TotalOut;
        internal byte* Message;
        internal void* State;
        internal void* Allocate;
        internal void* Free;
        internal void* Opaque;
        internal int DataType;
        internal nuint Adler;
    }

    [LibraryImport("libSystem.IO.Compression.Native")]
    private static partial int CompressionNative_InflateInit2_(ZStream* stream, int windowBits);

    [LibraryImport("libSystem.IO.Compression.Native")]
    private static partial int CompressionNative_Inflate(ZStream* stream, int flush);

    [LibraryImport("libSystem.IO.Compression.Native")]
    private static partial int CompressionNative_InflateReset2_(ZStream* stream, int windowBits);

    [LibraryImport("libSystem.IO.Compression.Native")]
    private static partial int CompressionNative_InflateEnd(ZStream* stream);
}
