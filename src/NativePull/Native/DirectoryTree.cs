namespace NativePull.Native;

internal static class DirectoryTree
{
    internal static void Remove(string path) => throw new NotImplementedException(path);
}
