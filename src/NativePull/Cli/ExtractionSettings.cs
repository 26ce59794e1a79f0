using System.CommandLine;
using NativePull.Layers;

namespace NativePull.Cli;

/// <summary>The extraction group of options with its defaults, which follow from what the kernel lets this process do.</summary>
internal static class ExtractionSettings
{
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
            Limits = new LayerLimits
            {
                MaximumUnpacked = parsed.GetValue(options.MaxUnpacked),
                MaximumEntries = parsed.GetValue(options.MaxEntries) ?? new LayerLimits().MaximumEntries,
            },
        };
    }

    /// <summary>Whether the user said anything that decides which of several extractions of a layer is meant.</summary>
    internal static bool AreGiven(ParseResult parsed, Options options) =>
        new Option[] { options.Ownership, options.UidMap, options.GidMap, options.Xattrs, options.Devices, options.Whiteouts }
            .Any(option => parsed.GetResult(option) is { Implicit: false });
}
