using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using NativePull.Oci;

namespace NativePull.Tests.Conformance;

/// <summary>A layout of one small image that umoci made, for where the real one would only take time.</summary>
internal static class SmallImage
{
    /// <summary>Makes it under a name.</summary>
    /// <param name="withIndex">The name is an index's, with this one manifest in it.</param>
    /// <returns>The digest of what the name names.</returns>
    internal static async Task<Digest> MakeAsync(string layout, string name, bool withIndex = false)
    {
        await WitnessFixture.RunAsync("umoci", "init", "--layout", layout);
        await WitnessFixture.RunAsync("umoci", "new", "--image", $"{layout}:{name}");
        await WitnessFixture.RunAsync(
            "bash", "-ec", $"d={layout}.tree; mkdir -p $d/etc; echo hello >$d/etc/greeting; ln -s greeting $d/etc/link; touch -hd @1700000000 $d/etc/* $d/etc; tar -C $d -cf $d.tar etc");
        await WitnessFixture.RunAsync("umoci", "raw", "add-layer", "--image", $"{layout}:{name}", $"{layout}.tree.tar");
        JsonObject index = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(layout, "index.json")))!.AsObject();
        JsonObject manifest = index["manifests"]!.AsArray()[0]!.AsObject();
        if (withIndex)
        {
            JsonObject annotations = manifest["annotations"]!.DeepClone().AsObject();
            manifest.Remove("annotations");
            manifest["platform"] = new JsonObject { ["os"] = "linux", ["architecture"] = Platform.OfThisMachine.Architecture };
            byte[] document = Encoding.UTF8.GetBytes(string.Create(
                CultureInfo.InvariantCulture, $$$"""{"schemaVersion": 2, "mediaType": "{{{MediaTypes.OciIndex}}}", "manifests": [ {{{manifest.ToJsonString()}}} ]}"""));
            Digest digest = Digest.Of(document);
            await File.WriteAllBytesAsync(Path.Combine(layout, "blobs/sha256", digest.Hex), document);
            manifest = new JsonObject { ["mediaType"] = MediaTypes.OciIndex, ["digest"] = digest.ToString(), ["size"] = document.Length, ["annotations"] = annotations };
            index["manifests"] = new JsonArray((JsonNode)manifest);
            await File.WriteAllTextAsync(Path.Combine(layout, "index.json"), index.ToJsonString());
        }

        return Digest.TryParse(manifest["digest"]!.GetValue<string>(), out Digest named) ? named : throw new InvalidDataException(index.ToJsonString());
    }
}
