namespace NativePull.Tests.Fakes;

/// <summary>What a server does wrong, or merely differently, with one answer. Members combine.</summary>
internal sealed record Fault
{
    /// <summary>Only requests with a Range are met.</summary>
    internal bool OnlyRanges { get; init; }

    /// <summary>Only requests for a stretch that ends before the blob does are met: those of lanes.</summary>
    internal bool OnlyStretches { get; init; }

    /// <summary>Instead of the status due; its body is <see cref="Body"/>.</summary>
    internal int? Status { get; init; }

    internal string Body { get; init; } = "";

    /// <summary>What happens meanwhile.</summary>
    internal Action? BeforeAnswer { get; init; }

    /// <summary>Set, or replaced.</summary>
    internal (string Name, string Value)[] Headers { get; init; } = [];

    /// <summary>The Location of a redirect instead of the answer due.</summary>
    internal string? RedirectTo { get; init; }

    internal int RedirectStatus { get; init; } = 307;

    /// <summary>The connection is closed instead of an answer.</summary>
    internal bool NoAnswer { get; init; }

    /// <summary>The connection is closed after so many bytes of the body.</summary>
    internal long? CutAfter { get; init; }

    /// <summary>With a reset instead of an orderly end; with <see cref="CutAfter"/> or <see cref="NoAnswer"/>.</summary>
    internal bool Reset { get; init; }

    /// <summary>After so many bytes of the body (−1: before the headers) nothing comes until <see cref="Release"/> is called.</summary>
    internal long? StallAfter { get; init; }

    /// <summary>200 with everything, whatever range was asked for.</summary>
    internal bool IgnoreRange { get; init; }

    /// <summary>Instead of the Content-Range due; "" for none.</summary>
    internal string? ContentRange { get; init; }

    /// <summary>206 with bytes from here, instead of from where the range begins.</summary>
    internal long? RangeFrom { get; init; }

    /// <summary>Instead of the Content-Length due.</summary>
    internal long? ContentLength { get; init; }

    /// <summary>No Content-Length: chunks.</summary>
    internal bool Chunked { get; init; }

    /// <summary>In chunks and whole by its own account, but this many bytes short of the content.</summary>
    internal int MissingBytes { get; init; }

    /// <summary>Bytes sent after the content's own.</summary>
    internal int ExtraBytes { get; init; }

    /// <summary>The offset in the content of one byte that is sent wrong.</summary>
    internal long? WrongByteAt { get; init; }

    private readonly TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource released = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Ends when the server has stalled; fails after two minutes, for a client that died on the way never gets there.</summary>
    internal Task Reached => reached.Task.WaitAsync(TimeSpan.FromMinutes(2));

    internal void Release() => released.TrySetResult();

    internal async Task StallAsync(CancellationToken token)
    {
        reached.TrySetResult();
        await released.Task.WaitAsync(token);
    }
}

/// <summary>Which faults are still to come. The first that fits a request is used, once or as often as it was added for.</summary>
internal sealed class Faults
{
    private readonly List<(string Place, Fault Fault, int Left)> coming = [];

    /// <param name="place">Part of "server path?query": "registry /v2/a/b/blobs/sha256:…", "cdn /…", "token /token?…".</param>
    internal Fault On(string place, Fault fault, int times = 1)
    {
        lock (coming)
        {
            coming.Add((place, fault, times));
        }

        return fault;
    }

    /// <summary>Each was met as often as it was added for.</summary>
    internal bool AreMet
    {
        get
        {
            lock (coming)
            {
                return coming.TrueForAll(entry => entry.Left == 0);
            }
        }
    }

    internal Fault? Take(string place, string? range)
    {
        lock (coming)
        {
            int index = coming.FindIndex(entry => entry.Left > 0 && (range is not null || !entry.Fault.OnlyRanges) && (range?.EndsWith('-') == false || !entry.Fault.OnlyStretches) && place.Contains(entry.Place, StringComparison.Ordinal));
            if (index < 0)
            {
                return null;
            }

            coming[index] = coming[index] with { Left = coming[index].Left - 1 };
            return coming[index].Fault;
        }
    }
}
