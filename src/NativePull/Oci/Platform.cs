using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace NativePull.Oci;

/// <summary>os/architecture/variant as image-spec names them (image-index.md, "platform"; Go's GOOS and GOARCH).</summary>
internal sealed record Platform(string Os, string Architecture, string? Variant)
{
    private const int MostListed = 40; // platforms; Docker's own multi-platform images have ten
    private const int LongestListed = 64; // characters of one

    /// <summary>This machine's architecture; the OS is linux, for that is what images are made for.</summary>
    internal static Platform OfThisMachine { get; } = RuntimeInformation.OSArchitecture switch
    {
        System.Runtime.InteropServices.Architecture.X64 => new("linux", "amd64", AmdLevel()),
        System.Runtime.InteropServices.Architecture.Arm64 => new("linux", "arm64", "v8"),
        System.Runtime.InteropServices.Architecture.Arm => new("linux", "arm", "v7"),
        System.Runtime.InteropServices.Architecture.X86 => new("linux", "386", null),
        var other => new("linux", other.ToString().ToLowerInvariant(), null),
    };

    /// <summary>OS/ARCH[/VARIANT], with the usual spellings of an architecture (x86_64, aarch64, armhf…) brought to image-spec's.</summary>
    internal static bool TryParse(string text, [NotNullWhen(true)] out Platform? platform)
    {
        string[] parts = text.Split('/');
        platform = null;
        if (parts.Length is < 2 or > 3 || parts.Any(part => part.Length == 0 || part.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('_' or '.' or '-'))))
        {
            return false;
        }

        (string architecture, string? variant) = parts[1].ToLowerInvariant() switch
        {
            "x86_64" or "x86-64" => ("amd64", null),
            "aarch64" => ("arm64", null),
            "armhf" => ("arm", "v7"),
            "armel" => ("arm", "v6"),
            "i386" or "i686" => ("386", null),
            var other => (other, (string?)null),
        };
        if (parts.Length == 3)
        {
            variant = char.IsAsciiDigit(parts[2][0]) ? "v" + parts[2] : parts[2].ToLowerInvariant(); // "7" is what Docker users write for v7
        }

        platform = new Platform(parts[0].ToLowerInvariant(), architecture, variant);
        return true;
    }

    /// <summary>
    /// The position in <paramref name="candidates"/> of what runs best here: same OS and architecture, the highest variant that is not above
    /// this one's, an absent variant after a matching one. −1 where nothing fits; never another OS or architecture.
    /// </summary>
    internal int PickFrom(IReadOnlyList<Platform?> candidates)
    {
        int best = -1;
        int bestRank = -1;
        for (int i = 0; i < candidates.Count; i++)
        {
            int rank = candidates[i] is { } candidate ? Rank(candidate) : -1;
            if (rank > bestRank)
            {
                best = i;
                bestRank = rank;
            }
        }

        return best;
    }

    /// <summary>What there is, for a sentence that says that nothing of it fits: each once, and not all of a long list.</summary>
    internal static string ListOf(IEnumerable<Platform> offered)
    {
        List<Platform> all = [.. offered.Distinct()];
        string first = string.Join(", ", all.Take(MostListed).Select(platform => Shortened(platform.ToString())));
        return all.Count == 0 ? "no image with a platform"
            : all.Count > MostListed ? string.Create(CultureInfo.InvariantCulture, $"{first} and {all.Count - MostListed} more")
            : first;
    }

    public override string ToString() => Variant is null ? $"{Os}/{Architecture}" : $"{Os}/{Architecture}/{Variant}";

    private static string Shortened(string text) => text.Length > LongestListed ? text[..LongestListed] + "…" : text;

    // −1: does not run here. Otherwise higher is better: the variant's own number, an exact but unnumbered variant above all.
    private int Rank(Platform candidate)
    {
        if (candidate.Os != Os || candidate.Architecture != Architecture)
        {
            return -1;
        }

        if (candidate.Variant == Variant)
        {
            return 1000;
        }

        int wanted = Level(Variant);
        int offered = Level(candidate.Variant);
        if (wanted < 0 || offered < 0)
        {
            return -1;
        }

        return offered <= wanted ? offered : -1;
    }

    // What a variant stands for; an absent one is the architecture's baseline (arm64: v8, arm: v7 as Docker reads it, amd64: v1).
    private int Level(string? variant)
    {
        if (variant is null or "")
        {
            return Architecture switch { "arm64" => 8, "arm" => 7, "amd64" => 1, _ => 0 };
        }

        return variant.Length >= 2 && variant[0] == 'v' && int.TryParse(variant.AsSpan(1), out int level) ? level : -1;
    }

    // The x86-64 psABI micro-architecture levels. The processor itself is asked: the compiler answers Avx2.IsSupported and its like with "no" once
    // and for all where the executable is to be small. That the kernel saves the wide registers is believed of one that saves any.
    private static string AmdLevel()
    {
        if (!X86Base.IsSupported)
        {
            return "v1";
        }

        int highest = X86Base.CpuId(0, 0).Eax;
        int highestExtended = X86Base.CpuId(unchecked((int)0x80000000), 0).Eax;
        int basic = X86Base.CpuId(1, 0).Ecx;
        int structured = highest >= 7 ? X86Base.CpuId(7, 0).Ebx : 0;
        int extended = (uint)highestExtended >= 0x80000001 ? X86Base.CpuId(unchecked((int)0x80000001), 0).Ecx : 0;
        // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
        bool second = Has(basic, 0, 9, 13, 19, 20, 23) && Has(extended, 0);
        // FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
        bool third = second && Has(basic, 12, 22, 27, 28, 29) && Has(structured, 3, 5, 8) && Has(extended, 5);
        // AVX512 F, DQ, CD, BW, VL
        return third && Has(structured, 16, 17, 28, 30, 31) ? "v4" : third ? "v3" : second ? "v2" : "v1";
    }

    private static bool Has(int register, params ReadOnlySpan<int> bits)
    {
        foreach (int bit in bits)
        {
            if ((register >> bit & 1) == 0)
            {
                return false;
            }
        }

        return true;
    }
}
