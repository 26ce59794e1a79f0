using System.Runtime.CompilerServices;
using NativePull.Fuzz;

namespace NativePull.Tests.Fuzz;

/// <summary>The inputs that the coverage-guided fuzzer kept because each reached something new.</summary>
public class CorpusTests
{
    [Fact]
    public void Every_kept_input_is_read_or_refused()
    {
        string[] inputs = Directory.GetFiles(Corpus());
        Assert.NotEmpty(inputs);
        foreach (string input in inputs)
        {
            try
            {
                _ = Target.Run(File.ReadAllBytes(input));
            }
            catch (Exception other)
            {
                throw new InvalidOperationException(input, other);
            }
        }
    }

    private static string Corpus([CallerFilePath] string here = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../NativePull.Fuzz/corpus"));
}
