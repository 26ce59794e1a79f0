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

/// <summary>What to do with device nodes. Fifos are always made.</summary>
internal enum DevicePolicy
{
    Make,

    /// <summary>Leave them out and count them.</summary>
    Skip,
    Fail,
}

/// <summary>How layers become files.</summary>
internal sealed record ExtractOptions
{
    internal LayerFormat Format { get; init; }

    internal XattrPolicy Xattrs { get; init; } = XattrPolicy.Keep;

    internal DevicePolicy Devices { get; init; } = DevicePolicy.Make;

    /// <summary>Members of one layer; real images stay below a million.</summary>
    internal long MaximumEntries { get; init; } = 10_000_000;

    internal TarLimits Tar { get; init; } = new();

    /// <summary>Whether openat2(2) may be used; off, names are walked one handle at a time.</summary>
    internal bool KernelResolution { get; init; } = true;
}

/// <summary>What was written, and what was lost under a policy that allows it.</summary>
internal sealed class ExtractReport
{
    internal long Entries { get; set; }

    /// <summary>Content of files.</summary>
    internal long Bytes { get; set; }

    internal long XattrsLost { get; set; }

    internal long DevicesSkipped { get; set; }

    /// <summary>Owners that only root could have set.</summary>
    internal long OwnersLost { get; set; }
}
