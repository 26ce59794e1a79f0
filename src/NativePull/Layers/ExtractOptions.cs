using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using NativePull.Native;

namespace NativePull.Layers;

/// <summary>What the tree is for; the two differ only in how removal is written.</summary>
internal enum LayerFormat
{
    /// <summary>One layer alone, as overlayfs wants a lower directory (Documentation/filesystems/overlayfs.rst).</summary>
    Overlay,

    /// <summary>One layer onto the result of those below it.</summary>
    Flat,
}

/// <summary>What to do where the file system refuses an extended attribute.</summary>
internal enum XattrPolicy
{
    /// <summary>Fail.</summary>
    Keep,

    /// <summary>Count it and go on.</summary>
    Try,

    /// <summary>Write none.</summary>
    Drop,
}

/// <summary>What to do with device nodes. Fifos are always made. Under <see cref="OwnershipPolicy.OverrideStat"/> an empty file stands in for either.</summary>
internal enum DevicePolicy
{
    Make,

    /// <summary>Leave them out and count them.</summary>
    Skip,
    Fail,
}

/// <summary>Whose files are.</summary>
internal enum OwnershipPolicy
{
    /// <summary>The archive's numbers; those that this process cannot set are counted.</summary>
    Keep,

    /// <summary>Everything belongs to this process.</summary>
    Squash,

    /// <summary>The archive's numbers through <see cref="ExtractOptions.UidMap"/> and <see cref="ExtractOptions.GidMap"/>.</summary>
    Map,

    /// <summary>Everything belongs to this process; the archive's owner and mode go into the attribute <c>user.containers.override_stat</c>.</summary>
    OverrideStat,
}

/// <summary>How an overlay layer writes removal (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories", "userxattr").</summary>
internal enum WhiteoutStyle
{
    /// <summary>Device 0:0 and <c>trusted.overlay.*</c>, for mounts by root.</summary>
    Overlay,

    /// <summary><c>user.overlay.*</c>, for mounts with <c>userxattr</c> in a user namespace.</summary>
    OverlayUser,
}

/// <summary>A run of owner numbers (user_namespaces(7), "uid_map"): <paramref name="Count"/> of them from <paramref name="Container"/> become those from <paramref name="Host"/>.</summary>
internal readonly record struct IdRange(uint Container, uint Host, uint Count);

/// <summary>
/// What an image may ask of this machine before it is refused as LimitPassed. Memory is bounded by <see cref="Tar"/>, time and room by the rest.
/// </summary>
internal sealed record LayerLimits
{
    /// <summary>
    /// Layers of one image. overlayfs stacks 500 (OVL_MAX_STACK of fs/overlayfs), Docker 127; a manifest has room for some 30,000, and each may be the same
    /// large blob again.
    /// </summary>
    internal int MaximumLayers { get; init; } = 1_000;

    /// <summary>
    /// Members of all layers, and directories that are made because a member lies in them; real images stay below a million, and an inode each is what
    /// a file system runs out of.
    /// </summary>
    internal long MaximumEntries { get; init; } = 10_000_000;

    /// <summary>
    /// Components of the links of its own layer that are followed on the way to each name, all layers together; real images have a few for each of some
    /// names. Each is looked up, and without a bound 200 KB could ask for billions: 40 links (path_resolution(7)) of 2,048 components for every entry.
    /// </summary>
    internal long MaximumSteps { get; init; } = 4_000_000;

    /// <summary>
    /// Names looked up in one layer below, for directories that no entry describes, hard links to what is not in their layer and roots that hide all names
    /// below: each may be asked of every layer that has its directory, so that a million of them over a thousand layers would be a thousand million. A few
    /// microseconds each.
    /// </summary>
    internal long MaximumLookups { get; init; } = 50_000_000;

    /// <summary>
    /// Bytes of files' content of all layers, holes not counted; null: what the target's file system has free, and then a file that does not fit is
    /// NoSpace, since the machine is at fault and not the image.
    /// </summary>
    internal long? MaximumUnpacked { get; init; }

    /// <summary>
    /// Bytes of a flattened archive's files, holes counted, where it goes into a pipe and <see cref="MaximumUnpacked"/> is not said: a hole of
    /// some exabytes, which costs an image nothing, would be zeros without an end.
    /// </summary>
    internal long MaximumStreamed { get; init; } = 1L << 40;

    /// <summary>
    /// Bytes out of a blob's decoder for each byte in, from <see cref="RatioFrom"/> on. Deflate cannot pass 1,032, so no gzip blob is ever refused; zstd
    /// reaches 32,768 (a block of 128 KiB in 4 bytes), which nothing but zeros does.
    /// </summary>
    internal long MaximumRatio { get; init; } = 2_000;

    /// <summary>Bytes that any blob may unpack to whatever its ratio; a greater <see cref="MaximumUnpacked"/> counts instead, as the user's own word.</summary>
    internal long RatioFrom { get; init; } = 1L << 30;

    /// <summary>
    /// Bytes of names and values of all members' extended attributes, those counted too that come with a copy of a lower file: no file system's free space
    /// says what they take, and on tmpfs it is the kernel's memory. A signature and a label for each file of a large image fit (some 300 bytes, 200,000 times).
    /// </summary>
    internal long MaximumAttributes { get; init; } = 64 << 20;

    /// <summary>
    /// Bytes of an image's headers that are kept until others are read: of hard links into the layers below, in memory, and of a flattened archive the
    /// attributes of directories.
    /// </summary>
    internal long MaximumHeld { get; init; } = 32 << 20;

    /// <summary>
    /// Bytes of memory for what is remembered of every name; what is more goes to a file without a name beside the target. A twentieth of what this
    /// process may have, and what a quarter of a million names need at most.
    /// </summary>
    internal long Memory { get; init; } = Math.Clamp(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 20, 1L << 20, 12L << 20);

    internal TarLimits Tar { get; init; } = new();

    /// <exception cref="PullException">LimitPassed.</exception>
    internal void CheckLayers(int count)
    {
        if (count > MaximumLayers)
        {
            throw new PullException(PullError.LimitPassed, string.Create(CultureInfo.InvariantCulture, $"the image has {count} layers, more than {MaximumLayers}"));
        }
    }
}

/// <summary>How layers become files.</summary>
internal sealed record ExtractOptions
{
    internal LayerFormat Format { get; init; }

    internal XattrPolicy Xattrs { get; init; } = XattrPolicy.Keep;

    internal DevicePolicy Devices { get; init; } = DevicePolicy.Make;

    internal OwnershipPolicy Ownership { get; init; } = OwnershipPolicy.Keep;

    /// <summary>For <see cref="OwnershipPolicy.Map"/>; a number in no range is an error.</summary>
    internal IReadOnlyList<IdRange> UidMap { get; init; } = [];

    /// <inheritdoc cref="UidMap"/>
    internal IReadOnlyList<IdRange> GidMap { get; init; } = [];

    internal WhiteoutStyle Whiteouts { get; init; } = WhiteoutStyle.Overlay;

    /// <summary>What this process may do; decides which refusals are a loss and which an error.</summary>
    internal Privileges Privileges { get; init; } = Privileges.Ask();

    internal LayerLimits Limits { get; init; } = new();

    /// <summary>Whether openat2(2) may be used; off, names are walked one handle at a time.</summary>
    internal bool KernelResolution { get; init; } = true;

    /// <summary>
    /// Tells trees apart that the same layers become under other policies, so that one is never taken for another: empty for the strictest
    /// (everything kept or it fails), else lower-case words joined by dashes.
    /// </summary>
    internal string Variant
    {
        get
        {
            List<string> words = [];
            if (Format == LayerFormat.Overlay && Whiteouts == WhiteoutStyle.OverlayUser)
            {
                words.Add("user");
            }

            // where owners cannot be the archive's, they are the maker's; short words, because mount(2) takes 4,096 bytes of options
            string by = Libc.EffectiveUser.ToString(CultureInfo.InvariantCulture);
            words.Add(Ownership switch
            {
                OwnershipPolicy.Squash => "squash" + by,
                OwnershipPolicy.Map => "map" + MapName(),
                OwnershipPolicy.OverrideStat => "override" + by,
                _ => Privileges.AnyOwner ? "" : "by" + by,
            });
            words.Add(Xattrs switch { XattrPolicy.Try => "try", XattrPolicy.Drop => "noxattr", _ => "" });
            words.Add(Devices == DevicePolicy.Skip ? "nodev" : "");
            return string.Join('-', words.Where(word => word.Length > 0));
        }
    }

    /// <summary>Whether layers of this <see cref="Variant"/> are for mounts with <c>userxattr</c>.</summary>
    internal static bool IsForUserXattr(string variant) => variant == "user" || variant.StartsWith("user-", StringComparison.Ordinal);

    private string MapName()
    {
        string text = string.Join(',', UidMap) + ";" + string.Join(',', GidMap);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(text)))[..8];
    }
}

/// <summary>What was written, and what was lost under a policy that allows it.</summary>
internal sealed class ExtractReport
{
    /// <summary>Directories that they imply counted too.</summary>
    internal long Entries { get; set; }

    /// <summary>Components of links that were followed.</summary>
    internal long Steps { get; set; }

    /// <summary>Names looked up in one layer below.</summary>
    internal long Lookups { get; set; }

    /// <summary>Bytes of headers that are kept in memory.</summary>
    internal long Held { get; set; }

    /// <summary>Bytes of files' content, holes not counted; of a layer that failed, of what it was about to write too.</summary>
    internal long Bytes { get; set; }

    /// <summary>Bytes of extended attributes, of names and of values.</summary>
    internal long AttributeBytes { get; set; }

    /// <summary>Entries that belong to somebody else than the archive says.</summary>
    internal long OwnersLost { get; set; }

    /// <summary>Entries without the setuid or setgid bit, because it would speak for the wrong owner or the kernel left it out, or on a file system without modes.</summary>
    internal long ModesLost { get; set; }

    internal long XattrsLost { get; set; }

    internal long DevicesSkipped { get; set; }

    /// <summary>Of several together; null where there is none.</summary>
    internal static ExtractReport? Sum(IEnumerable<ExtractReport?>? reports)
    {
        ExtractReport? sum = null;
        foreach (ExtractReport report in reports?.OfType<ExtractReport>() ?? [])
        {
            (sum ??= new ExtractReport()).Add(report);
        }

        return sum;
    }

    /// <summary>Modification times that the file system cuts or cannot hold.</summary>
    internal long TimesLost { get; set; }

    internal bool LostAnything => OwnersLost + ModesLost + XattrsLost + DevicesSkipped + TimesLost > 0;

    internal void Add(ExtractReport other)
    {
        Entries += other.Entries;
        Steps += other.Steps;
        Lookups += other.Lookups;
        Held += other.Held;
        Bytes += other.Bytes;
        AttributeBytes += other.AttributeBytes;
        OwnersLost += other.OwnersLost;
        ModesLost += other.ModesLost;
        XattrsLost += other.XattrsLost;
        DevicesSkipped += other.DevicesSkipped;
        TimesLost += other.TimesLost;
    }
}
