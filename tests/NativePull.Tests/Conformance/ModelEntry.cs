using System.Globalization;
using System.Text;

namespace NativePull.Tests.Conformance;

internal enum EntryKind
{
    File,
    Directory,
    SymbolicLink,
    HardLink,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

/// <summary>One member of a layer's archive. Whiteouts and opaque markers are files with their special names, as in the archive.</summary>
/// <param name="Name">The path's bytes as Latin-1: one character is one byte, whatever encoding the bytes may be in.</param>
internal sealed record ModelEntry(EntryKind Kind, string Name)
{
    /// <summary>Of a symbolic or a hard link; Latin-1 as <see cref="Name"/>.</summary>
    internal string Target { get; init; } = "";

    /// <summary>Of the member, where it is not the usual one.</summary>
    internal char? TypeFlag { get; init; }

    internal int Mode { get; init; } = 0x1A4;

    internal uint Uid { get; init; }

    internal uint Gid { get; init; }

    internal int Size { get; init; }

    internal int ContentSeed { get; init; }

    internal long Seconds { get; init; }

    /// <summary>0–999,999,999, added to <see cref="Seconds"/> also where those are negative.</summary>
    internal uint Nanoseconds { get; init; }

    internal IReadOnlyList<(string Name, byte[] Value)> Xattrs { get; init; } = [];

    internal uint Major { get; init; }

    internal uint Minor { get; init; }

    internal byte[] Content()
    {
        byte[] content = new byte[Size];
        new Random(ContentSeed).NextBytes(content);
        return content;
    }

    public override string ToString()
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"{Kind} '{TreeText.Show(Name)}'");
        if (TypeFlag is { } flag)
        {
            text.Append(CultureInfo.InvariantCulture, $" type {(int)flag}");
        }

        if (Target.Length > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $" -> '{TreeText.Show(Target)}'");
        }

        text.Append(CultureInfo.InvariantCulture, $" {TreeText.Octal(Mode)} {Uid}:{Gid} {Seconds}.{Nanoseconds:D9}");
        if (Kind == EntryKind.File)
        {
            text.Append(CultureInfo.InvariantCulture, $" size {Size} seed {ContentSeed}");
        }

        if (Kind is EntryKind.CharacterDevice or EntryKind.BlockDevice)
        {
            text.Append(CultureInfo.InvariantCulture, $" device {Major}:{Minor}");
        }

        return text.Append(TreeText.Xattrs(Xattrs)).ToString();
    }
}
