using System.CommandLine;
using System.Globalization;
using System.Text;
using NativePull.Layers;
using NativePull.Oci;
using NativePull.Pull;
using NativePull.Store;

namespace NativePull.Cli;

/// <summary>What <c>inspect</c> prints.</summary>
internal enum InspectView
{
    Summary,
    Raw,
    Config,
    Digest,
}

/// <summary>The commands that look: <c>layers</c>, <c>inspect</c>, <c>list</c>.</summary>
internal static class StoreCommands
{
    internal static Task<int> LayersAsync(ParseResult parsed, Options options, string text, bool overlay) =>
        Session.RunAsync(parsed, options, [text], async (session, reference) =>
        {
            ResolvedImage image = await FromStoreAsync(session, reference)
                ?? throw new PullException(PullError.NotInStore, $"{reference}: not in the store for platform {session.Platform}");
            LayerStore layers = new(session.Layout, session.StoreOptions);
            string variant = VariantOf(parsed, options, reference, image, layers);
            List<string> paths = [];
            foreach (PlannedLayer layer in image.Layers)
            {
                paths.Add(layers.TryFind(layer.ChainId, variant, out string? path)
                    ? path
                    : throw new PullException(
                        PullError.NotInStore,
                        $"{reference}: layer {layer.DiffId} is not extracted{(variant.Length == 0 ? "" : $" as \"{variant}\"")} (nativepull pull --extract does it)"));
            }

            if (overlay)
            {
                string lower = OverlayOptions.Lower(paths, Environment.OSVersion.Version);
                Output.Result(ExtractOptions.IsForUserXattr(variant) ? "userxattr," + lower : lower);
            }
            else
            {
                paths.ForEach(Output.Result);
            }
        });

    // The variant asked for, or what a pull would now make; where the user named nothing and that is absent, the only one there is.
    private static string VariantOf(ParseResult parsed, Options options, Reference reference, ResolvedImage image, LayerStore layers)
    {
        string variant = OverlayExtraction.VariantOf(ExtractionSettings.Of(parsed, options));
        IReadOnlyList<string> there = image.Layers.Count == 0 ? [] : layers.Variants(image.Layers[^1].ChainId);
        if (ExtractionSettings.AreGiven(parsed, options) || there.Count == 0 || there.Contains(variant))
        {
            return variant;
        }

        return there.Count == 1
            ? there[0]
            : throw new PullException(PullError.Usage, $"{reference}: extracted in several ways ({string.Join(", ", there)}); give the extraction options of the one meant");
    }

    internal static Task<int> InspectAsync(ParseResult parsed, Options options, string text, InspectView view, bool remote) =>
        Session.RunAsync(parsed, options, [text], async (session, reference) =>
        {
            ResolvedImage image = (remote ? null : await FromStoreAsync(session, reference)) ?? await FromRegistryAsync(session, reference);
            switch (view)
            {
                case InspectView.Raw:
                    Output.Result((image.Index ?? image.Manifest).Content.AsSpan());
                    break;
                case InspectView.Config:
                    Output.Result(image.Config.Content.AsSpan());
                    break;
                case InspectView.Digest:
                    Output.Result(image.Digest.ToString());
                    break;
                default:
                    ImageDocument document = ImageDocument.Of(image, null);
                    Output.Result(session.Json ? ResultJson.Of(document) : Summary(document));
                    break;
            }
        });

    internal static Task<int> ListAsync(ParseResult parsed, Options options) =>
        Session.RunAsync(parsed, options, async session =>
        {
            using Catalog? catalog = Catalog.OpenReadOnly(session.Layout, session.StoreOptions);
            ImageResolver resolver = new(null, new BlobStore(session.Layout, session.StoreOptions), session.Reporter);
            foreach (PulledImage image in catalog?.List() ?? [])
            {
                Reference reference = Reference.TryParse(image.Reference, out Reference? recorded, out string? problem)
                    ? recorded
                    : throw new PullException(PullError.StoreDamaged, $"the catalog names \"{image.Reference}\": {problem}");
                ResolvedImage resolved = await resolver.ResolveAsync(reference, image.Manifest.Digest, image.Platform, true, session.Token);
                ImageDocument document = ImageDocument.Of(resolved with { Digest = image.Digest }, image.PulledAt);
                Output.Result(session.Json
                    ? ResultJson.Of(document)
                    : $"{document.Reference}  {Output.Printable(document.Platform)}  {document.Digest}  {Values.Size(document.Size)}");
            }
        });

    private static async Task<ResolvedImage?> FromStoreAsync(Session session, Reference reference)
    {
        StoreLayout layout = session.Layout;
        using Catalog? catalog = Catalog.OpenReadOnly(layout, session.StoreOptions);
        PulledImage? image = catalog?.Find(reference, session.Platform);
        if (image is null)
        {
            return null;
        }

        ImageResolver resolver = new(null, new BlobStore(layout, session.StoreOptions), session.Reporter);
        return await resolver.ResolveAsync(reference, image.Digest, session.Platform, session.PlatformIsExplicit, session.Token);
    }

    private static Task<ResolvedImage> FromRegistryAsync(Session session, Reference reference) =>
        new ImageResolver(session.Registry(reference.Registry), null, session.Reporter)
            .ResolveAsync(reference, null, session.Platform, session.PlatformIsExplicit, session.Token);

    private static string Summary(ImageDocument image)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"reference  {image.Reference}\n");
        text.Append(CultureInfo.InvariantCulture, $"digest     {image.Digest}\n");
        text.Append(CultureInfo.InvariantCulture, $"manifest   {image.Manifest}\n");
        text.Append(CultureInfo.InvariantCulture, $"platform   {Output.Printable(image.Platform)}\n");
        text.Append(CultureInfo.InvariantCulture, $"config     {image.Config}\n");
        text.Append(CultureInfo.InvariantCulture, $"size       {Values.Size(image.Size)}\n");
        text.Append(CultureInfo.InvariantCulture, $"created    {Output.Printable(image.Created ?? "unknown")}\n");
        foreach (LayerDocument layer in image.Layers)
        {
            text.Append(CultureInfo.InvariantCulture, $"layer      {layer.Digest}  {Values.Size(layer.Size)}\n");
        }

        return text.ToString().TrimEnd('\n');
    }
}
