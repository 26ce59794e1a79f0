namespace NativePull.Tests.EndToEnd;

/// <summary>What is being done when the power goes.</summary>
/// <param name="Options">After <c>pull REFERENCE</c>; the disk is at /disk.</param>
/// <param name="IsUpdate">The same was done before with an older image of the name.</param>
internal sealed record PowerScenario(string Name, string[] Options, bool IsUpdate = false)
{
    private static readonly string[] Outputs = ["--store", "/disk/s", "--extract", "--rootfs", "/disk/r", "--layers", "/disk/l", "--tar", "/disk/t.tar"];

    internal static IReadOnlyList<PowerScenario> All { get; } =
    [
        new("everything, the first time", Outputs),
        new("everything anew, with --replace", [.. Outputs, "--replace"], IsUpdate: true),
        new("blobs alone", ["--store", "/disk/s"]),
        new("without a store", ["--store", "none", "--rootfs", "/disk/r"]),
    ];

    internal bool KeepsStore => !Options.Contains("none");

    internal bool Makes(string output) => Options.Contains(output);
}
