namespace NativePull.Tests.Conformance;

/// <summary>Stacks of layers from a seed, with few names so that entries meet often; and the reduction of a stack to what a finding needs.</summary>
internal sealed class LayerStackGenerator
{
    // 1 in so many layers that the model refuses is kept, to see that it is refused
    private const int KeptRefusals = 20;

    private static readonly string[] CommonNames = ["a", "b", "c", "d"];

    private static readonly string[] OddNames =
    [
        "\xFF\xFE", "new\nline", "back\\slash", "-rf", "..x", "...", ".wh", " ", "\xC3\xA9", "%41", "wh.", ".", new('L', 255), "*", "\x01", "a:b", "a,b",
    ];

    private static readonly int[] Modes =
        [0x1A4, 0x1ED, 0, 0x1C0, 0x124, 0x9ED, 0x5ED, 0x3FF, 0xFFF, 0x180, 0x049];

    // words that overlayfs would obey
    private static readonly string[] OverlayNames =
        ["overlay.opaque", "overlay.opaque", "overlay.redirect", "overlay.metacopy", "overlay.whiteout", "overlay.overlay.opaque", "overlay.origin", "overlay", "overlay.x"];

    private static readonly string[] OddXattrs = ["\xFF", "new\nline", " ", "a:b", new('n', 250), "..", "/"];

    // user 5 may do all (struct posix_acl_xattr_header and _entry of linux/posix_acl_xattr.h)
    internal static readonly byte[] DefaultAcl =
    [
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 5, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];

    private static readonly byte[] Capability =
        [0x01, 0, 0, 0x02, 0x00, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    private readonly Random random;
    private readonly List<IReadOnlyList<ModelEntry>> stack = [];

    // paths of this stack, that hard links have something to name: of all but directories, and of links alone
    private readonly List<string> files = [];
    private readonly List<string> links = [];

    // a stack ends with what is refused
    private bool refused;

    private LayerStackGenerator(int seed) => random = new Random(seed);

    internal static List<IReadOnlyList<ModelEntry>> Generate(int seed)
    {
        LayerStackGenerator generator = new(seed);
        int layers = generator.random.Next(12) == 0 ? generator.random.Next(7, 25) : generator.random.Next(1, 7);
        while (generator.stack.Count < layers && !generator.refused)
        {
            generator.AddLayer();
        }

        return generator.stack;
    }

    private void AddLayer()
    {
        List<ModelEntry> layer = [];
        string prefix = random.Next(3) switch { 0 => "./", 1 => "", _ => random.Next(8) == 0 ? "/" : "" };
        int count = random.Next(1, 12);
        for (int i = 0; i < count; i++)
        {
            ModelEntry entry = i > 1 && random.Next(12) == 0 ? Again(layer[random.Next(i)]) : Entry();
            layer.Add(entry with { Name = prefix + Ended(entry) });
        }

        while (true)
        {
            try
            {
                LayerModel.Of([.. stack, layer]);
                break;
            }
            catch (RefusedException e)
            {
                if (!e.IsUndetermined && random.Next(KeptRefusals) == 0)
                {
                    refused = true;
                    break;
                }

                layer.RemoveAt(e.Entry);
            }
        }

        stack.Add(layer);
    }

    private ModelEntry Entry() => random.Next(100) switch
    {
        < 26 => Directory(Path()),
        < 50 => File(),
        < 60 => Link(EntryKind.SymbolicLink, LinkTarget()),
        < 69 => Link(EntryKind.HardLink, HardLinkTarget()),
        < 72 => Fifo(),
        < 75 => Attributes(new ModelEntry(EntryKind.CharacterDevice, Path()) { Major = (uint)random.Next(1, 4000), Minor = (uint)random.Next(1 << 20) }),
        < 77 => Attributes(new ModelEntry(EntryKind.BlockDevice, Path()) { Major = (uint)random.Next(0, 4000), Minor = (uint)random.Next(1 << 20) }),
        < 91 => new ModelEntry(random.Next(9) == 0 ? EntryKind.HardLink : EntryKind.File, InDirectory(MarkedDirectory(), ".wh." + Name())) { Target = "a" },
        < 97 => new ModelEntry(random.Next(9) == 0 ? EntryKind.Directory : EntryKind.File, InDirectory(MarkedDirectory(), ".wh..wh..opq")),
        < 99 => Attributes(new ModelEntry(EntryKind.Directory, random.Next(6) switch { < 2 => "./", < 4 => ".", 4 => "a/..", _ => "../" })),
        _ => new ModelEntry(EntryKind.File, InDirectory(MarkedDirectory(), random.Next(10) switch
        {
            < 3 => ".wh..wh.aufs",
            < 6 => ".wh..wh.plnk/1.2",
            6 => ".wh.",
            7 => ".wh.a/b",
            8 => "a/../..",
            _ => random.Next(2) == 0 ? ".wh.." : ".wh...",
        })),
    };

    // a slash at the end makes a directory of a file, and is all that does so of one in an old format
    private static string Ended(ModelEntry entry) => entry switch
    {
        { Kind: EntryKind.File } => entry.Name.TrimEnd('/'),
        { Kind: EntryKind.Directory, TypeFlag: '\0' or '0' } => entry.Name.TrimEnd('/') + "/",
        _ => entry.Name,
    };

    // by a name that was given before, whatever it is now
    private ModelEntry Again(ModelEntry before) => before.Kind == EntryKind.Directory || random.Next(2) == 0
        ? Attributes(before with { Name = Dotted(before.Name.TrimStart('/')) })
        : Entry() with { Name = before.Name.TrimStart('/') };

    // as the formats before and after ustar write it, too
    private ModelEntry Directory(string path)
    {
        ModelEntry directory = Attributes(new ModelEntry(EntryKind.Directory, path + (random.Next(2) == 0 ? "/" : "")));
        return directory.Name.EndsWith('/') && random.Next(4) == 0 ? directory with { TypeFlag = "\00D"[random.Next(3)] } : directory;
    }

    private ModelEntry Link(EntryKind kind, string target)
    {
        string path = Path();
        links.Add(path);
        files.Add(path);
        return Attributes(new ModelEntry(kind, path + (random.Next(20) == 0 ? "/" : "")) { Target = target });
    }

    private ModelEntry Fifo()
    {
        string path = Path();
        files.Add(path);
        return Attributes(new ModelEntry(EntryKind.Fifo, path));
    }

    private ModelEntry File()
    {
        string path = Path();
        files.Add(path);
        int size = random.Next(8) switch { 0 => 0, 1 => 512, 2 => random.Next(3000), 3 => random.Next(64) == 0 ? 300_000 : 1, _ => random.Next(1, 40) };
        char flag = random.Next(6) == 0 ? "\07"[random.Next(2)] : '0';
        return Attributes(new ModelEntry(EntryKind.File, path) { Size = size, ContentSeed = random.Next(1000), TypeFlag = flag });
    }

    private ModelEntry Attributes(ModelEntry entry)
    {
        List<(string, byte[])> xattrs = [];
        if (entry.Kind is EntryKind.File or EntryKind.Directory && random.Next(4) == 0)
        {
            xattrs.Add(("user." + CommonNames[random.Next(2)], Bytes(random.Next(20))));
            if (random.Next(3) == 0)
            {
                xattrs.Add(("trusted.x", Bytes(4)));
            }

            if (random.Next(4) == 0)
            {
                xattrs.Add(((random.Next(2) == 0 ? "trusted." : "user.") + OverlayNames[random.Next(OverlayNames.Length)], "y"u8.ToArray()));
            }

            if (entry.Kind == EntryKind.Directory && random.Next(4) == 0)
            {
                xattrs.Add(("system.posix_acl_default", DefaultAcl));
            }

            if (random.Next(6) == 0)
            {
                xattrs.Add(("user." + OddXattrs[random.Next(OddXattrs.Length)], Bytes(random.Next(300))));
            }

            if (entry.Kind == EntryKind.File && random.Next(3) == 0)
            {
                xattrs.Add(("security.capability", Capability));
            }
        }

        return entry with
        {
            Mode = Modes[random.Next(Modes.Length)],
            Uid = Owner(),
            Gid = Owner(),
            Seconds = random.Next(10) switch { 0 => -random.Next(1, 100_000), 1 => 0, 2 => 8_000_000_000L, _ => random.Next(1, 2_000_000_000) },
            Nanoseconds = random.Next(2) == 0 ? 0 : (uint)random.Next(1_000_000_000),
            Xattrs = xattrs,
        };
    }

    private byte[] Bytes(int count)
    {
        byte[] bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }

    private uint Owner() => random.Next(10) switch { 0 => 4_294_967_294, 1 => 100_000, 2 => 2_097_152, < 6 => (uint)random.Next(1, 5), _ => 0 };

    private string Name()
    {
        string name = random.Next(12) == 0 ? OddNames[random.Next(OddNames.Length)] : CommonNames[random.Next(CommonNames.Length)];
        return name == "." ? "a" : name;
    }

    private string Path()
    {
        int depth = random.Next(10) switch { < 4 => 1, < 8 => 2, 8 => 3, _ => random.Next(20) == 0 ? 40 : 4 };
        string path = links.Count > 0 && depth > 1 && random.Next(4) == 0 ? links[random.Next(links.Count)] : Name();
        while (--depth > 0)
        {
            path += (random.Next(30) == 0 ? "/./" : random.Next(30) == 0 ? "//" : "/") + Name();
        }

        return Dotted(path);
    }

    // the same place, said in another way
    private string Dotted(string path) => random.Next(40) switch
    {
        0 => $"{Name()}/../{path}",
        1 => $"../{path}",
        2 => $"{path}/x/..",
        3 => $"/{path}",
        4 => $"{Name()}/../../{path}/.",
        _ => path,
    };

    private string MarkedDirectory() => random.Next(12) switch
    {
        < 4 => "",
        < 9 => Name(),
        < 11 => $"{Name()}/{Name()}",
        _ => Path(),
    };

    private static string InDirectory(string directory, string name) => directory.Length == 0 ? name : $"{directory}/{name}";

    private string LinkTarget() => random.Next(10) switch
    {
        0 => "/" + Path(),
        1 => "../" + Name(),
        2 => "../../../" + Path(),
        3 => ".",
        4 => "/",
        5 => "./" + Name() + "/",
        6 => "nowhere",
        7 => $"{Name()}/../{(random.Next(3) == 0 ? "../" : "")}{Path()}",
        8 when links.Count > 0 => links[random.Next(links.Count)] + (random.Next(2) == 0 ? "/" + Name() : ""),
        9 when random.Next(8) == 0 => $"{Name()}/.wh.{Name()}",
        _ => Name(),
    };

    private string HardLinkTarget() => random.Next(16) switch
    {
        < 11 when files.Count > 0 => (random.Next(4) == 0 ? "./" : random.Next(8) == 0 ? "/" : "") + Dotted(files[random.Next(files.Count)]),
        11 or 12 when links.Count > 0 => $"{links[random.Next(links.Count)]}/{Name()}",
        13 when files.Count > 0 => $"{Name()}/{files[random.Next(files.Count)]}",
        _ => Path(),
    };

    /// <summary>Takes away layers, entries and attributes as long as what remains still disagrees.</summary>
    internal static List<IReadOnlyList<ModelEntry>> Shrink(List<IReadOnlyList<ModelEntry>> stack, Func<List<IReadOnlyList<ModelEntry>>, bool> disagrees)
    {
        bool smaller = true;
        while (smaller)
        {
            smaller = false;
            foreach (List<IReadOnlyList<ModelEntry>> candidate in Smaller(stack))
            {
                if (disagrees(candidate))
                {
                    stack = candidate;
                    smaller = true;
                    break;
                }
            }
        }

        return stack;
    }

    private static IEnumerable<List<IReadOnlyList<ModelEntry>>> Smaller(List<IReadOnlyList<ModelEntry>> stack)
    {
        for (int layer = 0; layer < stack.Count; layer++)
        {
            if (stack.Count > 1)
            {
                yield return [.. stack[..layer], .. stack[(layer + 1)..]];
            }
        }

        for (int layer = 0; layer < stack.Count; layer++)
        {
            for (int entry = 0; entry < stack[layer].Count; entry++)
            {
                yield return [.. stack[..layer], [.. stack[layer].Where((_, i) => i != entry)], .. stack[(layer + 1)..]];
            }
        }

        for (int layer = 0; layer < stack.Count; layer++)
        {
            for (int entry = 0; entry < stack[layer].Count; entry++)
            {
                foreach (ModelEntry plainer in Plainer(stack[layer][entry]))
                {
                    yield return [.. stack[..layer], [.. stack[layer].Select((other, i) => i == entry ? plainer : other)], .. stack[(layer + 1)..]];
                }
            }
        }
    }

    private static IEnumerable<ModelEntry> Plainer(ModelEntry entry)
    {
        if (entry.Xattrs.Count > 0)
        {
            yield return entry with { Xattrs = [] };
        }

        ModelEntry plain = new(entry.Kind, entry.Name);
        int mode = entry.Kind == EntryKind.Directory ? 0x1ED : plain.Mode;
        if (entry.Uid != 0 || entry.Gid != 0)
        {
            yield return entry with { Uid = 0, Gid = 0 };
        }

        if (entry.Mode != mode)
        {
            yield return entry with { Mode = mode };
        }

        if (entry.Seconds != 1 || entry.Nanoseconds != 0)
        {
            yield return entry with { Seconds = 1, Nanoseconds = 0 };
        }

        if (entry.Size > 0)
        {
            yield return entry with { Size = 0 };
        }

        if (entry.TypeFlag is not null)
        {
            yield return entry with { TypeFlag = null };
        }

        if (entry.Name.StartsWith("./", StringComparison.Ordinal) && entry.Name.Length > 2)
        {
            yield return entry with { Name = entry.Name[2..] };
        }
    }
}
