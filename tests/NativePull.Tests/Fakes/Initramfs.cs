using System.Globalization;
using System.Text;

namespace NativePull.Tests.Fakes;

/// <summary>
/// The archive that a kernel unpacks as its first root (Documentation/driver-api/early-userspace/buffer-format.rst: "newc" cpio). Beside what is put
/// in, a kernel's own has /dev with the console's node, and /root.
/// </summary>
internal sealed class Initramfs
{
    private const uint Directory = 0x41ED; // S_IFDIR, 0755
    private const uint Program = 0x81ED; // S_IFREG, 0755

    private readonly List<byte> archive = [];
    private readonly HashSet<string> directories = [];
    private int entries;

    /// <summary>A file that may be executed; the directories on the way to it are made.</summary>
    internal Initramfs File(string path, ReadOnlySpan<byte> content)
    {
        for (int slash = path.IndexOf('/', StringComparison.Ordinal); slash > 0; slash = path.IndexOf('/', slash + 1))
        {
            EmptyDirectory(path[..slash]);
        }

        Entry(path, Program, content);
        return this;
    }

    internal Initramfs File(string path, string text) => File(path, Encoding.UTF8.GetBytes(text));

    internal Initramfs EmptyDirectory(string path)
    {
        if (directories.Add(path))
        {
            Entry(path, Directory, default);
        }

        return this;
    }

    /// <summary>A directory of the machine with all files in it, below the same name.</summary>
    internal Initramfs Tree(string path, string from)
    {
        foreach (string file in System.IO.Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            File($"{path}/{Path.GetRelativePath(from, file)}", System.IO.File.ReadAllBytes(file));
        }

        return this;
    }

    internal void WriteTo(string file)
    {
        Entry("TRAILER!!!", 0, default);
        System.IO.File.WriteAllBytes(file, archive.ToArray());
    }

    private void Entry(string path, uint mode, ReadOnlySpan<byte> content)
    {
        byte[] name = Encoding.UTF8.GetBytes(path + '\0');
        // magic; inode, mode, uid, gid, links, time, size, device (2), of a node (2), length of the name, no checksum
        uint[] fields = [(uint)++entries, mode, 0, 0, 1, 0, (uint)content.Length, 0, 0, 0, 0, (uint)name.Length, 0];
        archive.AddRange(Encoding.ASCII.GetBytes("070701" + string.Concat(fields.Select(field => field.ToString("X8", CultureInfo.InvariantCulture)))));
        archive.AddRange(name);
        Pad();
        archive.AddRange(content);
        Pad();
    }

    private void Pad()
    {
        while (archive.Count % 4 != 0)
        {
            archive.Add(0);
        }
    }
}
