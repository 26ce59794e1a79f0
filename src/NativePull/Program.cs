namespace NativePull;

internal static class Program
{
    private static int Main() { Console.Out.WriteLine("nativepull"); return 0; }
}
