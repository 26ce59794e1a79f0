namespace NativePull.Tests.Conformance;

/// <summary>Generated stacks without what another implementation is known to read differently, so that all that is left must be the same.</summary>
internal static class AgreedStack
{
    /// <summary>Whether an entry is of the layer's own tree. Markers come first where the specification's advice to those who write layers is followed.</summary>
    internal static bool IsNoMarker(ModelEntry entry) => !entry.Name.Split('/')[^1].StartsWith(".wh.", StringComparison.Ordinal);

    /// <summary>Takes entries out, the first each time, until there is none that the model refuses or the other reads differently.</summary>
    /// <param name="disagrees">Of a layer, from 0, and one of its entries: whether the other makes another choice than the model there.</param>
    internal static List<IReadOnlyList<ModelEntry>> Without(List<IReadOnlyList<ModelEntry>> stack, Func<int, int, Choice, bool> disagrees)
    {
        while (First(stack, disagrees) is var (layer, entry))
        {
            stack[layer] = [.. stack[layer].Where((_, i) => i != entry)];
        }

        return stack;
    }

    private static (int Layer, int Entry)? First(List<IReadOnlyList<ModelEntry>> stack, Func<int, int, Choice, bool> disagrees)
    {
        LayerModel model = new();
        for (int layer = 0; layer < stack.Count; layer++)
        {
            try
            {
                model.Apply(stack[layer]);
            }
            catch (RefusedException e)
            {
                return (layer, e.Entry);
            }

            foreach ((int entry, Choice choice) in model.Choices)
            {
                if (disagrees(layer, entry, choice))
                {
                    return (layer, entry);
                }
            }
        }

        return null;
    }
}
