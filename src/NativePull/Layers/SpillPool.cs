using System.Globalization;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// Bytes of memory that the pools of one image share; several threads. The pages that one pool gives back are the next one's: an image may have a thousand
/// layers, and what one after the other leaves to be collected is memory, too.
/// </summary>
internal sealed class SpillMemory(long bytes)
{
    private readonly Stack<byte[]> idle = new();
    private long left = bytes;

    internal bool TryTake(int count)
    {
        if (Interlocked.Add(ref left, -count) >= 0)
        {
            return true;
        }

        Interlocked.Add(ref left, count);
        return false;
    }

    /// <returns>A page of whatever was in it; null: there is no more memory.</returns>
    internal byte[]? TryTakePage()
    {
        if (!TryTake(SpillPool.PageSize))
        {
            return null;
        }

        lock (idle)
        {
            return idle.TryPop(out byte[]? page) ? page : new byte[SpillPool.PageSize];
        }
    }

    internal void Return(byte[] page)
    {
        lock (idle)
        {
            idle.Push(page);
        }

        Interlocked.Add(ref left, SpillPool.PageSize);
    }
}

/// <summary>
/// What must be remembered of every name of an image, without memory that grows with it: pages, of which those longest unused go to a file without a
/// name when memory is used up. A tree of some hundred thousand names never touches the file. One thread.
/// </summary>
/// <param name="openFile">Called once, when memory is used up; null, or null from it: there is no place for a file, and memory is taken after all.</param>
internal sealed class SpillPool(SpillMemory memory, Func<SafeFileHandle?>? openFile) : IDisposable
{
    /// <summary>Bytes.</summary>
    internal const int PageSize = 4096;

    // What a pool may always have: an access to one page while another is in use, and some for luck.
    private const int OwnFrames = 8;

    // As errors name it.
    private const string FileName = "a file for the names that memory has no room for";

    private readonly List<Frame?> pages = [];
    private readonly List<Frame> frames = [];
    private readonly Stack<int> free = [];
    private SafeFileHandle? file;
    private bool cannotSpill = openFile is null;
    private int hand;

    /// <summary>Whether pages had to go to the file.</summary>
    internal bool HasSpilled => file is not null;

    /// <summary>A page of zeros.</summary>
    internal int Add()
    {
        Frame frame = TakeFrame();
        frame.Bytes.AsSpan().Clear();
        if (!free.TryPop(out int page))
        {
            page = pages.Count;
            pages.Add(null);
        }

        Place(frame, page);
        frame.IsDirty = true;
        return page;
    }

    /// <summary>A page's bytes, good until any other page is asked for.</summary>
    internal ReadOnlySpan<byte> Read(int page) => FrameOf(page).Bytes;

    /// <summary>The same to be changed.</summary>
    internal Span<byte> Write(int page)
    {
        Frame frame = FrameOf(page);
        frame.IsDirty = true;
        return frame.Bytes;
    }

    /// <summary>The page's bytes are needed no more.</summary>
    internal void Free(int page)
    {
        if (pages[page] is { } frame)
        {
            frame.Page = Frame.None;
            frame.IsDirty = false;
            frame.IsRecent = false;
            pages[page] = null;
        }

        free.Push(page);
    }

    public void Dispose()
    {
        file?.Dispose();
        foreach (Frame frame in frames)
        {
            if (frame.IsShared)
            {
                memory.Return(frame.Bytes);
            }
        }

        frames.Clear();
        pages.Clear();
    }

    private Frame FrameOf(int page)
    {
        Frame frame = pages[page] ?? Load(page);
        frame.IsRecent = true;
        return frame;
    }

    private Frame Load(int page)
    {
        Frame frame = TakeFrame();
        int read = 0;
        while (read < PageSize)
        {
            int more = RandomAccess.Read(file!, frame.Bytes.AsSpan(read), Offset(page) + read);
            read += more > 0
                ? more
                : throw new PullException(PullError.Machine, $"{FileName} was cut at {(Offset(page) + read).ToString(CultureInfo.InvariantCulture)} bytes");
        }

        Place(frame, page);
        return frame;
    }

    private void Place(Frame frame, int page)
    {
        frame.Page = page;
        frame.IsDirty = false;
        frame.IsRecent = true;
        pages[page] = frame;
    }

    private Frame TakeFrame()
    {
        return memory.TryTakePage() is { } shared ? NewFrame(shared, isShared: true)
            : frames.Count < OwnFrames || !CanSpill() ? NewFrame(new byte[PageSize], isShared: false)
            : Evict();
    }

    private Frame NewFrame(byte[] bytes, bool isShared)
    {
        Frame frame = new(bytes, isShared);
        frames.Add(frame);
        return frame;
    }

    private bool CanSpill()
    {
        if (file is null && !cannotSpill)
        {
            file = openFile!();
            cannotSpill = file is null;
        }

        return file is not null;
    }

    // second chance: what was used since the hand last came by stays
    private Frame Evict()
    {
        while (true)
        {
            hand = hand + 1 < frames.Count ? hand + 1 : 0;
            Frame frame = frames[hand];
            if (frame.IsRecent)
            {
                frame.IsRecent = false;
                continue;
            }

            if (frame.IsDirty)
            {
                Failure.ThrowIf(Libc.WriteAll(file!, frame.Bytes, Offset(frame.Page)), "write", FileName);
            }

            if (frame.Page != Frame.None)
            {
                pages[frame.Page] = null;
            }

            frame.Page = Frame.None;
            frame.IsDirty = false;
            return frame;
        }
    }

    private static long Offset(int page) => (long)page * PageSize;

    private sealed class Frame(byte[] bytes, bool isShared)
    {
        internal const int None = -1;

        internal byte[] Bytes { get; } = bytes;

        /// <summary>Its bytes are the image's, and go back.</summary>
        internal bool IsShared { get; } = isShared;

        internal int Page { get; set; } = None;

        internal bool IsRecent { get; set; }

        internal bool IsDirty { get; set; }
    }
}
