using System.CommandLine;
using NativePull.Layers;

namespace NativePull.Cli;

/// <summary>The extraction group of options with its defaults, which follow from what the kernel lets this process do.</summary>
internal static class ExtractionSettings
{
    private static readonly Dictionary<string, Func<LayerLimits, int, LayerLimits>> Limits = new()
    {
        ["layers"] = static (limits, value) => limits with { MaximumLayers = value },
        ["ratio"] = static (limits, value) => limits with { MaximumRatio = value },
        ["name"] = static (limits, value) => limits with { Tar = limits.Tar with { MaximumName = value } },
        ["depth"] = static (limits, value) => limits with { Tar = limits.Tar with { MaximumDepth = value } },
        ["steps"] = static (limits, value) => limits with { MaximumSteps = value },
        ["lookups"] = static (limits, value) => limits with { MaximumLookups = value },
        ["pax"] = static (limits, value) => limits with { Tar = limits.Tar with { MaximumPax = value } },
        ["xattrs"] = static (limits, value) => limits with { Tar = limits.Tar with { MaximumXattrs = value } },
        ["xattr"] = static (limits, value) => limits with { Tar = limits.Tar with { MaximumXattr = value } },
        ["runs"] = static (limits, value) => limits with { Tar = limits.Tar with { MaximumSparseRuns = value } },
        ["attributes"] = static (limits, value) => limits with { MaximumAttributes = value },
        ["held"] = static (limits, value) => limits with { MaximumHeld = value },
        ["memory"] = static (limits, value) => limits with { Memory = value },
    };

    internal static ExtractOptions Of(ParseResult parsed, Options options)
    {
        Privileges privileges = Privileges.Ask();
        OwnershipPolicy ownership = parsed.GetValue(options.Ownership) ?? OwnershipPolicy.Keep;
        // for override-stat any user may make what stands in for a device
        bool makesDevices = privileges.Devices || ownership == OwnershipPolicy.OverrideStat;
        return new ExtractOptions
        {
            Privileges = privileges,
            Ownership = ownership,
            UidMap = parsed.GetValue(options.UidMap) ?? [],
            GidMap = parsed.GetValue(options.GidMap) ?? [],
            Xattrs = parsed.GetValue(options.Xattrs) ?? (privileges.AnyOwner ? XattrPolicy.Keep : XattrPolicy.Try),
            Devices = parsed.GetValue(options.Devices) ?? (makesDevices ? DevicePolicy.Make : DevicePolicy.Skip),
            Whiteouts = parsed.GetValue(options.Whiteouts) ?? (privileges.Trusted ? WhiteoutStyle.Overlay : WhiteoutStyle.OverlayUser),
            Limits = (parsed.GetValue(options.Limit) ?? []).Aggregate(
                new LayerLimits
                {
                    MaximumUnpacked = parsed.GetValue(options.MaxUnpacked),
                    MaximumEntries = parsed.GetValue(options.MaxEntries) ?? new LayerLimits().MaximumEntries,
                },
                (limits, limit) => Limits[limit.Name](limits, limit.Value)),
        };
    }

    /// <summary>NAME=N; N has 31 bits, as lengths in memory have.</summary>
    internal static (bool IsValid, (string Name, int Value) Value) ParseLimit(string text)
    {
        const long largest = 1 << 30;
        string[] parts = text.Split('=', 2);
        return parts.Length == 2 && Limits.ContainsKey(parts[0]) && Values.TryParseSize(parts[1], out long value) && value is >= 1 and <= largest
            ? (true, (parts[0], (int)value))
            : default;
    }

    internal static IEnumerable<string> LimitNames => Limits.Keys;

    /// <summary>Whether the user said anything that decides which of several extractions of a layer is meant.</summary>
    internal static bool AreGiven(ParseResult parsed, Options options) =>
        new Option[] { options.Ownership, options.UidMap, options.GidMap, options.Xattrs, options.Devices, options.Whiteouts }
            .Any(option => parsed.GetResult(option) is { Implicit: false });
}
