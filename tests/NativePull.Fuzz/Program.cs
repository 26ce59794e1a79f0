using NativePull;
using NativePull.Fuzz;
using SharpFuzz;

// NativePull.Fuzz              reads inputs as afl-fuzz gives them (scripts/fuzz.sh)
// NativePull.Fuzz FILE...      reads each file once, so that a finding can be looked at
// NativePull.Fuzz --seeds DIR  writes the inputs to start from
if (args is ["--seeds", var directory])
{
    Seeds.Write(directory);
    return;
}

foreach (string file in args)
{
    Console.WriteLine($"{file}: {Target.Run(File.ReadAllBytes(file))?.Message ?? "read"}");
}

if (args.Length == 0)
{
    Fuzzer.Run(stream =>
    {
        using MemoryStream input = new();
        stream.CopyTo(input);
        PullException? refused = Target.Run(input.ToArray());
        GC.KeepAlive(refused);
    });
}
