using Microsoft.Win32.SafeHandles;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>
/// Resolution inside a root in user space: one component at a time, each opened by its parent's handle without following links; links are
/// expanded by us, ".." never passes the root. The same answers as openat2(2) with RESOLVE_IN_ROOT.
/// </summary>
internal static class PathWalker
{
    // Links in one path, as the kernel's own limit (path_resolution(7)).
    private const int MaximumLinks = 40;

    /// <summary>0 or an errno.</summary>
    internal static int OpenDirectory(SafeFileHandle root, ReadOnlySpan<byte> path, out SafeFileHandle? opened)
    {
        // handles from the root down to where we are; the root's own copy is at the bottom and never popped by ".."
        Stack<SafeFileHandle> walked = [];
        LinkedList<byte[]> pending = new(Components(path));
        int links = 0;
        opened = null;
        try
        {
            int errno = Libc.OpenAt(root, ".\0"u8, OpenFlags.ReadOnly | OpenFlags.Directory, 0, out SafeFileHandle? current);
            while (errno == 0)
            {
                walked.Push(current!);
                if (pending.First is not { } next)
                {
                    opened = walked.Pop();
                    return 0;
                }

                pending.RemoveFirst();
                errno = Step(walked, next.Value, pending, ref links, out current);
            }

            return errno;
        }
        finally
        {
            foreach (SafeFileHandle handle in walked)
            {
                handle.Dispose();
            }
        }
    }

    // One component: the handle to go on with. A link puts its target before what is pending and stays where we are.
    private static int Step(Stack<SafeFileHandle> walked, byte[] component, LinkedList<byte[]> pending, ref int links, out SafeFileHandle? next)
    {
        next = null;
        if (component.AsSpan().SequenceEqual("..\0"u8))
        {
            if (walked.Count > 1)
            {
                walked.Pop().Dispose();
            }

            next = walked.Pop();
            return 0;
        }

        SafeFileHandle parent = walked.Peek();
        int errno = Libc.OpenAt(parent, component, OpenFlags.ReadOnly | OpenFlags.Directory | OpenFlags.NoFollow, 0, out next);
        if (errno is not (Errno.NotDirectory or Errno.TooManyLinks) || Libc.ReadLink(parent, component) is not { } target)
        {
            return errno;
        }

        if (++links > MaximumLinks)
        {
            return Errno.TooManyLinks;
        }

        if (target.Length > 0 && target[0] == '/')
        {
            while (walked.Count > 1)
            {
                walked.Pop().Dispose();
            }
        }

        foreach (byte[] part in Enumerable.Reverse(Components(target)))
        {
            pending.AddFirst(part);
        }

        next = walked.Pop();
        return 0;
    }

    private static List<byte[]> Components(ReadOnlySpan<byte> path)
    {
        List<byte[]> components = [];
        foreach (Range range in path.Split((byte)'/'))
        {
            if (path[range].Length > 0 && !path[range].SequenceEqual("."u8))
            {
                components.Add([.. path[range], 0]);
            }
        }

        return components;
    }
}
