using System.Globalization;
using System.Text;

namespace NativePull.Tests.Conformance;

/// <summary>What the tests with generated stacks share: how many, from which seed, where, and how a stack is shown.</summary>
internal static class DifferentialSetup
{
    private static readonly string WorkDirectory = Path.Combine(Path.GetTempPath(), $"differential-{Environment.ProcessId}");

    internal static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), CultureInfo.InvariantCulture, out int value) ? value : otherwise;

    /// <summary>Runs in an empty directory in memory, with mounts of its own, on a thread of its own.</summary>
    internal static void InWorkDirectory(string name, Action<string> work)
    {
        string directory = Path.Combine(WorkDirectory, name);
        Directory.CreateDirectory(directory);
        try
        {
            MountNamespace.Run(directory, () => work(directory));
        }
        finally
        {
            Directory.Delete(directory);
        }
    }

    internal static string Show(IReadOnlyList<IReadOnlyList<ModelEntry>> stack)
    {
        StringBuilder text = new();
        for (int layer = 0; layer < stack.Count; layer++)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"   layer {layer}");
            foreach (ModelEntry entry in stack[layer])
            {
                text.AppendLine(CultureInfo.InvariantCulture, $"      {entry}");
            }
        }

        return text.ToString();
    }
}
