using System.IO.Compression;
using NativePull.Oci;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>Archives by other programs, in every dialect they know, become the tree they were made from.</summary>
public class TarDialectTests
{
    private const string Python = """
        import sys, tarfile
        a = tarfile.open(sys.argv[1], 'w', format=getattr(tarfile, sys.argv[2]), encoding='utf-8', errors='surrogateescape')
        a.add('.')
        a.close()
        """;

    // Times before 1970 are left to GNU tar and Python's pax: bsdtar clamps or writes -86401.75 where POSIX has -86400.25, Python's GNU rounds up.
    // What a dialect cannot say is left out of the comparison: "t" fractions of seconds, "x" extended attributes.
    public static TheoryData<string, string, string, string> Dialects => new()
    {
        { "GNU tar, v7", AwkwardTree.Plain, "tar --format=v7 -cf {0} .", "tx" },
        { "GNU tar, ustar", AwkwardTree.Plain + AwkwardTree.Special, "tar --format=ustar -cf {0} .", "tx" },
        { "GNU tar, old GNU", AwkwardTree.Plain + AwkwardTree.Special + AwkwardTree.Long + AwkwardTree.Times, "tar --format=oldgnu -cf {0} .", "tx" },
        { "GNU tar, GNU", AwkwardTree.Plain + AwkwardTree.Special + AwkwardTree.Long + AwkwardTree.Times, "tar --format=gnu -cf {0} .", "tx" },
        { "GNU tar, GNU, numeric owners", AwkwardTree.Plain + AwkwardTree.Long + AwkwardTree.Times, "tar --format=gnu --numeric-owner -cf {0} .", "tx" },
        { "GNU tar, pax", AwkwardTree.Plain + AwkwardTree.Special + AwkwardTree.Long + AwkwardTree.Times, "tar --format=pax -cf {0} .", "x" },
        { "GNU tar, pax with attributes", AwkwardTree.Plain + AwkwardTree.Attributes, "tar --format=pax --xattrs --xattrs-include='*' -cf {0} .", "" },
        { "GNU tar, pax with a label", AwkwardTree.Plain, "tar --format=pax --label=name -cf {0} .", "x" },
        { "GNU tar, pax with global records", AwkwardTree.Plain, "tar --format=pax --pax-option='comment=hello,globexthdr.name=%p' -cf {0} .", "x" },
        { "GNU tar, GNU with a label", AwkwardTree.Plain, "tar --format=gnu --label=name -cf {0} .", "tx" },
        { "GNU tar, incremental", AwkwardTree.Plain, "tar --format=gnu --listed-incremental={0}.snar -cf {0} .", "tx" },
        { "GNU tar, records of one block", AwkwardTree.Plain, "tar --format=gnu -b1 -cf {0} .", "tx" },
        { "GNU tar, old GNU, sparse", AwkwardTree.Plain + AwkwardTree.Sparse, "tar --format=oldgnu -S -cf {0} .", "txs" },
        { "GNU tar, GNU, sparse", AwkwardTree.Plain + AwkwardTree.Sparse, "tar --format=gnu -S -cf {0} .", "txs" },
        { "GNU tar, GNU, sparse by reading", AwkwardTree.Plain + AwkwardTree.Sparse, "tar --format=gnu -S --hole-detection=raw -cf {0} .", "txs" },
        { "GNU tar, pax, sparse 0.0", AwkwardTree.Plain + AwkwardTree.Sparse, "tar --format=pax -S --sparse-version=0.0 -cf {0} .", "xs" },
        { "GNU tar, pax, sparse 0.1", AwkwardTree.Plain + AwkwardTree.Sparse, "tar --format=pax -S --sparse-version=0.1 -cf {0} .", "xs" },
        { "GNU tar, pax, sparse 1.0", AwkwardTree.Plain + AwkwardTree.Sparse, "tar --format=pax -S --sparse-version=1.0 -cf {0} .", "xs" },
        { "GNU tar, appended to", AwkwardTree.Plain, "tar --format=gnu -cf {0} . && tar --format=gnu -rf {0} .", "tx" },
        { "bsdtar, v7", AwkwardTree.Plain, "bsdtar --format=v7 -cf {0} .", "tx" },
        { "bsdtar, ustar", AwkwardTree.Plain + AwkwardTree.Special.Replace("70000", "255"), "bsdtar --format=ustar -cf {0} .", "tx" },
        { "bsdtar, GNU", AwkwardTree.Plain + AwkwardTree.Special.Replace("70000", "255") + AwkwardTree.Long, "bsdtar --format=gnutar -cf {0} .", "tx" },
        { "bsdtar, pax", AwkwardTree.Plain + AwkwardTree.Special + AwkwardTree.Long, "bsdtar --format=pax -cf {0} .", "" },
        { "bsdtar, pax with attributes", AwkwardTree.Plain + AwkwardTree.Attributes, "bsdtar --format=pax -cf {0} .", "" },
        { "bsdtar, pax, sparse", AwkwardTree.Plain + AwkwardTree.Sparse, "bsdtar --format=pax -cf {0} .", "s" },
        { "bsdtar, pax only where needed", AwkwardTree.Plain + AwkwardTree.Special, "bsdtar --format=paxr -cf {0} .", "tx" },
        { "Python, ustar", AwkwardTree.Plain + AwkwardTree.Special.Replace("70000", "255"), "python3 {1} {0} USTAR_FORMAT", "tx" },
        { "Python, GNU", AwkwardTree.Plain + AwkwardTree.Special + AwkwardTree.Long, "python3 {1} {0} GNU_FORMAT", "tx" },
        { "Python, pax", AwkwardTree.Plain + AwkwardTree.Special + AwkwardTree.Long + AwkwardTree.Times, "python3 {1} {0} PAX_FORMAT", "x" },
        { "busybox", AwkwardTree.Plain + AwkwardTree.Special.Replace("70000", "255"), "busybox tar -cf {0} .", "tx" },
    };

    [Theory]
    [MemberData(nameof(Dialects))]
    public async Task An_archive_becomes_the_tree_it_was_made_from(string name, string tree, string command, string lost)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners and devices need root");
        using TemporaryDirectory work = new();
        Directory.CreateDirectory(work["tree"]);
        AwkwardTree.Run(work["tree"], tree);
        await File.WriteAllTextAsync(work["pack.py"], Python, TestContext.Current.CancellationToken);
        AwkwardTree.Run(work["tree"], string.Format(System.Globalization.CultureInfo.InvariantCulture, command, work["archive"], work["pack.py"]));

        await ExtractAsync(work["archive"], work["out"]);

        TreeListing expected = TreeListing.Of(work["tree"]).Select(entry => Without(entry, lost));
        TreeListing actual = TreeListing.Of(work["out"]).Select(entry => Without(entry, lost));
        Assert.True(expected.Differences(actual) is [], $"{name}:\n{string.Join('\n', expected.Differences(actual))}");
        if (lost.Contains('s', StringComparison.Ordinal))
        {
            // sparse files come out sparse
            AwkwardTree.Run(work["out"], "for f in hole ends starts many; do [ $(stat -c %b $f) -lt 1024 ] || { stat $f; exit 1; }; done");
        }
    }

    /// <summary>As the one layer of an image, by the published executable.</summary>
    internal static async Task ExtractAsync(string archive, string directory)
    {
        byte[] blob = await File.ReadAllBytesAsync(archive, TestContext.Current.CancellationToken);
        bool isGZip = blob is [0x1F, 0x8B, ..];
        using MemoryStream plain = new();
        await using (Stream tar = isGZip ? new GZipStream(new MemoryStream(blob), CompressionMode.Decompress) : new MemoryStream(blob))
        {
            await tar.CopyToAsync(plain, TestContext.Current.CancellationToken);
        }

        using LayerRun run = new(new LayoutLayer(blob, Digest.Of(plain.GetBuffer().AsSpan(0, (int)plain.Length)), LayoutLayer.Tar + (isGZip ? "+gzip" : "")));
        (await run.RunAsync("--rootfs", directory)).Expect(0);
    }

    private static TreeEntry Without(TreeEntry entry, string lost)
    {
        if (lost.Contains('t', StringComparison.Ordinal))
        {
            entry = entry with { Modified = entry.Modified.Split('.')[0] };
        }

        return lost.Contains('x', StringComparison.Ordinal) ? entry with { Xattrs = "" } : entry;
    }
}
