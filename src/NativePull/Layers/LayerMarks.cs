using NativePull.Native;

namespace NativePull.Layers;

/// <summary>How one layer in its own directory says that something of those below is hidden; in a flat root, where that is gone at once, nothing says it.</summary>
internal sealed class LayerMarks(DirectoryHandles handles, ExtractOptions options)
{
    private readonly bool overlay = options.Format == LayerFormat.Overlay;
    private readonly WhiteoutStyle style = options.Whiteouts;

    /// <summary>Hides all that lower layers have in the directory. The root is only remembered: overlayfs merges roots whatever they say.</summary>
    internal void MakeOpaque(TouchedDirectory directory)
    {
        if (directory.Parent is not null)
        {
            // the two forms of whiteout and the mark share one attribute, and nothing is left for whiteouts to hide
            DropWhiteouts(directory);
            int errno = OverlayMarks.MakeOpaque(handles.Open(directory), style);
            if (Failure.IsRefusal(errno))
            {
                throw Failure.CannotHold(
                    style == WhiteoutStyle.Overlay ? "trusted.* attributes (--whiteouts overlay-user needs none)" : "user.* attributes", "setxattr", directory.Shown, errno);
            }

            Failure.ThrowIf(errno, "setxattr", directory.Shown);
        }

        directory.IsOpaque = true;
    }

    /// <summary>Hides a name of lower layers, unless this layer has something there.</summary>
    internal void MakeWhiteout(TouchedDirectory parent, byte[] name)
    {
        if (parent.IsOpaque && parent.Parent is not null)
        {
            return;
        }

        int errno = OverlayMarks.MakeWhiteout(handles.Open(parent), name, style);
        if (errno != Errno.Exists)
        {
            Failure.ThrowIf(errno, "mknod", parent.ShownOf(name));
            parent.HasWhiteouts = true;
        }
    }

    internal bool IsWhiteout(TouchedDirectory parent, byte[] name, FileStatus status) =>
        overlay && OverlayMarks.IsWhiteout(handles.Open(parent), name, status, style);

    /// <summary>Takes the whiteouts away again: in a directory that overlayfs does not merge with another they would be seen.</summary>
    internal void DropWhiteouts(TouchedDirectory directory)
    {
        if (!directory.HasWhiteouts)
        {
            return;
        }

        // some at a time: there may be millions
        string shown = TarText.Show(directory.Shown);
        Libc.Rewind(handles.Open(directory), shown);
        while (Libc.NextNames(handles.Open(directory), shown) is { Count: > 0 } names)
        {
            foreach ((byte[] name, _) in names)
            {
                int errno = Libc.TryStatusAt(handles.Open(directory), name, out FileStatus status);
                if (errno != Errno.NoEntry)
                {
                    Failure.ThrowIf(errno, "statx", directory.ShownOf(name));
                }

                if (errno == 0 && IsWhiteout(directory, name, status))
                {
                    Failure.ThrowIf(Libc.Unlink(handles.Open(directory), name), "unlink", directory.ShownOf(name));
                }
            }
        }

        directory.HasWhiteouts = false;
    }
}
