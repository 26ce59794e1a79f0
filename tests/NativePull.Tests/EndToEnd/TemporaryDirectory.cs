namespace NativePull.Tests.EndToEnd;

/// <summary>A directory for one test, on a file system of its own where there is one, gone afterwards whatever is in it.</summary>
public sealed class TemporaryDirectory : IDisposable
{
    public TemporaryDirectory() => Path = Directory.CreateTempSubdirectory("nativepull-").FullName;

    public string Path { get; }

    public string this[string below] => System.IO.Path.Combine(Path, below);

    /// <summary>What it holds, sorted: for asserting that nothing else does.</summary>
    public string[] Names => [.. Directory.GetFileSystemEntries(Path).Select(path => System.IO.Path.GetFileName(path)).Order(StringComparer.Ordinal)];

    // names need not be UTF-8, which the BCL cannot remove
    public void Dispose() => NativePull.Native.DirectoryTree.Remove(Path);
}
