using System.Text;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Store;

/// <summary>
/// One file as a result: written to a temporary beside its place under a lock and renamed when whole, or straight into a pipe, a device or stdout.
/// What a killed process left is removed by the next; disposing unpublished removes it.
/// </summary>
internal sealed class OutputFile : Stream
{
    private readonly SafeFileHandle file;
    private readonly string? temporary;
    private readonly string name;
    private readonly bool sync;
    private long written;
    private bool published;

    private OutputFile(SafeFileHandle file, string? temporary, string name, bool sync)
    {
        this.file = file;
        this.temporary = temporary;
        this.name = name;
        this.sync = sync;
    }

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => written;

    public override long Position { get => written; set => throw new NotSupportedException(); }

    /// <summary>Bytes that its file system has left for it; null where it is none that keeps them.</summary>
    internal long? FreeBytes => temporary is null ? null : Libc.FreeBytes(file);

    /// <summary>Where it is being written; null where it is nothing that lies in a directory of its own.</summary>
    internal string? Directory => temporary is null ? null : Path.GetDirectoryName(temporary);

    /// <summary>What is there already, as it comes: nothing is renamed.</summary>
    internal static OutputFile Stdout() => new(Libc.DuplicateStandard(1), null, "stdout", sync: false);

    /// <param name="path">As <see cref="Destination.OfFile"/> gives it.</param>
    /// <exception cref="PullException">Locked: another process is writing the same file.</exception>
    internal static OutputFile Begin(string path, bool sync)
    {
        if (Destination.IsStream(path))
        {
            return new OutputFile(File.OpenHandle(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite), null, path, sync: false);
        }

        string temporary = Destination.InProgressAt(path);
        SafeFileHandle file = OwnFile.TryMake(temporary) ?? throw new PullException(PullError.Locked, $"{path} is being written by another process");
        Narrow(file, path);
        return new OutputFile(file, temporary, path, sync);
    }

    /// <exception cref="IOException">The reader is gone, the disk is full: HResult is errno.</exception>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        int errno = Libc.WriteAll(file, buffer);
        if (errno != 0)
        {
            throw new LinuxException("write", name, errno);
        }

        written += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <summary>As <see cref="StagedDirectory.Prepare"/>.</summary>
    internal void Prepare()
    {
        if (temporary is not null && Libc.TypeOf(name) == FileType.Directory)
        {
            throw new PullException(PullError.Machine, $"{name} is a directory, not a file");
        }

        if (temporary is not null && sync)
        {
            Libc.Flush(file, temporary);
        }
    }

    /// <summary>What is flushed is renamed into place; over an older file of the name.</summary>
    /// <exception cref="PullException">Machine: it is in place, and what was there may come back.</exception>
    internal void Publish()
    {
        if (temporary is not null)
        {
            Libc.Rename(temporary, name);
        }

        // the temporary name is another's from here on
        published = true;
        if (temporary is null || !sync)
        {
            return;
        }

        try
        {
            Libc.FlushDirectory(Path.GetDirectoryName(name) ?? "/", file);
        }
        catch (LinuxException failure)
        {
            throw new PullException(PullError.Machine, $"{name} is the new archive, but may be absent or the old one after a power cut: {failure.Message}");
        }
    }

    public override void Flush() { }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing && !file.IsClosed)
        {
            using (file)
            {
                if (!published && temporary is not null)
                {
                    Remove(temporary);
                }
            }
        }

        base.Dispose(disposing);
    }

    // Whom the file in its place is closed to, the new one is closed to from its first byte on. It is not given to that one's owner, who may be anybody in /tmp.
    private static void Narrow(SafeFileHandle file, string path)
    {
        using SafeFileHandle? parent = Libc.TryOpenPlace(Path.GetDirectoryName(path) ?? "/");
        byte[] name = Encoding.UTF8.GetBytes(Path.GetFileName(path) + '\0');
        if (parent is null || Libc.TryStatusAt(parent, name, out FileStatus before) != 0 || before.Type != FileType.Regular)
        {
            return;
        }

        FileStatus made = Libc.Status(file, path);
        // another group was one of others before
        uint open = made.Gid == before.Gid ? before.Permissions : (before.Permissions & ~Permission.Group) | ((before.Permissions & Permission.Others) << 3);
        _ = Libc.ChangeMode(file, made.Permissions & (open | Permission.OwnerFile));
    }

    private static void Remove(string temporary)
    {
        try
        {
            File.Delete(temporary);
        }
        catch (Exception kept) when (kept is IOException or UnauthorizedAccessException)
        {
            // what led here is the failure to be told; the next call tries again, and says why it cannot
        }
    }
}
