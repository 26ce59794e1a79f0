using System.Globalization;
using NativePull.Layers;

namespace NativePull.Pull;

/// <summary>What an extraction could not keep, as one sentence a kind: counted, never a line a file.</summary>
internal static class Losses
{
    internal static IReadOnlyList<string> Of(ExtractReport? report, ExtractOptions options)
    {
        List<string> sentences = [];
        if (report is not null)
        {
            Add(sentences, report.OwnersLost, "owner was not set", "owners were not set", options.Ownership switch
            {
                OwnershipPolicy.Squash => "--ownership squash",
                OwnershipPolicy.OverrideStat => "a symbolic link takes no user.containers.override_stat",
                _ => "this process may not give files to them",
            });
            Add(sentences, report.ModesLost, "mode was not kept", "modes were not kept", "no setuid or setgid for another owner or without CAP_FSETID, or none on this file system");
            Add(sentences, report.XattrsLost, "extended attribute was left out", "extended attributes were left out", options.Xattrs switch
            {
                XattrPolicy.Drop => "--xattrs drop",
                XattrPolicy.Try => "--xattrs try: refused by the kernel or the file system",
                _ when options.Ownership == OwnershipPolicy.OverrideStat => "user.containers.override_stat of the image's own, or such that no file of Linux has",
                _ => "no file of Linux has such",
            });
            Add(sentences, report.DevicesSkipped, "device node was left out", "device nodes were left out", options.Devices == DevicePolicy.Skip ? "--devices skip" : "device 0:0, which is a whiteout to overlayfs");
            Add(sentences, report.TimesLost, "modification time was changed", "modification times were changed", "this file system holds no such fractions or dates");
        }

        return sentences;
    }

    private static void Add(List<string> sentences, long count, string one, string several, string why)
    {
        if (count > 0)
        {
            sentences.Add($"{count.ToString(CultureInfo.InvariantCulture)} {(count == 1 ? one : several)} ({why})");
        }
    }
}
