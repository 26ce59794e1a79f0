using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>One table of what a registry, its storage or its token server does wrong: what it is asked for, what it sends, what the shell is told, what is left.</summary>
public sealed class FaultTests
{
    private const long Size = 1_000_000;
    private const long Half = 400_000;

    private static readonly (string, string)[] Now = [("Retry-After", "0")];

    /// <param name="Place">Whose answer it is: of the blob at the registry ("registry"), of the blob at the storage ("cdn"), of the token, of the manifest.</param>
    /// <param name="Requests">For the blob, at registry and storage together; each redirect is two.</param>
    /// <param name="Sent">Bytes of the blob that were sent.</param>
    /// <param name="Left">"blob", "nothing", or how many bytes of a part.</param>
    private sealed record Row(string Place, Fault Fault, int Times, int Requests, long Sent, int Code, string Left, string Reason = "");

    private static readonly Dictionary<string, Row> Rows = new()
    {
        ["nothing"] = new("cdn", new Fault(), 1, 2, Size, 0, "blob"),
        ["cut"] = new("cdn", new Fault { CutAfter = Half }, 1, 4, Size, 0, "blob"),
        ["cut at the first byte"] = new("cdn", new Fault { CutAfter = 0 }, 1, 4, Size, 0, "blob"),
        ["cut at the last byte"] = new("cdn", new Fault { CutAfter = Size - 1 }, 1, 4, Size, 0, "blob"),
        ["silence"] = new("cdn", new Fault { StallAfter = Half }, 1, 4, Size, 0, "blob"),
        ["silence, again and again"] = new("cdn", new Fault { StallAfter = 0 }, 9, 6, 0, 5, "nothing", "stalled"),
        ["silence before the headers"] = new("cdn", new Fault { StallAfter = -1 }, 1, 4, Size, 0, "blob"),
        ["shorter than promised"] = new("cdn", new Fault { Chunked = true, MissingBytes = 1 }, 1, 4, Size, 0, "blob"),
        ["range ignored"] = new("cdn", new Fault { OnlyRanges = true, IgnoreRange = true }, 9, 2, Size, 0, "blob"),
        ["503 in the middle of the way"] = new("registry", new Fault { Status = 503, Headers = Now }, 1, 3, Size, 0, "blob"),
        ["503 for ever"] = new("registry", new Fault { Status = 503, Headers = Now }, 9, 3, 0, 5, "nothing", "unavailable"),
        ["429 with a date"] = new("registry", new Fault { Status = 429, Headers = [("Retry-After", "Thu, 01 Jan 2026 00:00:01 GMT")] }, 1, 3, Size, 0, "blob"),
        ["429 with a long wait"] = new("registry", new Fault { Status = 429, Headers = [("Retry-After", "Thu, 01 Jan 2026 01:00:00 GMT")] }, 1, 1, 0, 5, "nothing", "rate-limited\",\"message"),
        ["a link that ran out"] = new("cdn", new Fault { Status = 403 }, 1, 4, Size, 0, "blob"),
        ["storage that refuses"] = new("cdn", new Fault { Status = 403 }, 9, 4, 0, 4, "nothing", "denied"),
        ["a blob that is not there"] = new("registry", new Fault { Status = 404 }, 9, 1, 0, 3, "nothing", "not-found"),
        ["a token that ran out under way"] = new("registry", new Fault { Status = 401, Headers = [("WWW-Authenticate", "Bearer realm=\"{realm}\",scope=\"x\"")] }, 1, 3, Size, 0, "blob"),
        ["redirects in a ring"] = new("registry", new Fault { RedirectTo = "?again" }, 99, 11, 0, 5, "nothing", "unavailable"),
        ["a redirect to ftp"] = new("registry", new Fault { RedirectTo = "ftp://127.0.0.1/" }, 1, 1, 0, 7, "nothing", "unsupported"),
        ["a wrong byte"] = new("cdn", new Fault { WrongByteAt = Half }, 1, 2, Size, 6, "nothing", "digest-mismatch"),
        ["another length"] = new("cdn", new Fault { ContentLength = Size + 1, ExtraBytes = 1 }, 1, 2, -1, 6, "nothing", "size-mismatch"),
        ["a longer body"] = new("cdn", new Fault { Chunked = true, ExtraBytes = 1 }, 1, 2, Size + 1, 6, $"{Size}", "size-mismatch"),
        ["cut again and again, with progress"] = new("cdn", new Fault { CutAfter = 100_000 }, 9, 20, Size, 0, "blob"),
        ["cut again and again, without"] = new("cdn", new Fault { CutAfter = 0 }, 9, 6, 0, 5, "nothing", "unavailable"),
    };

    public static TheoryData<string> Faults => [.. Rows.Keys];

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task What_is_asked_sent_told_and_left(string fault)
    {
        Row row = Rows[fault];
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), HasStorage = true }.Start();
        FakeContent content = FakeContent.Generated(5, Size);
        FakeImage image = new FakeImage(registry, "a/b").Layer(content).Publish();
        string hex = content.Digest.Hex;
        Fault given = row.Fault with { Headers = [.. row.Fault.Headers.Select(header => (header.Name, header.Value.Replace("{realm}", $"{registry.TokenUrl}/token", StringComparison.Ordinal)))] };
        // the path differs by server, the digest is in both
        registry.Faults.On(row.Place == "cdn" ? $"cdn /data/a/b@sha256:{hex}" : $"registry /v2/a/b/blobs/sha256:{hex}", given, row.Times);
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", image.Reference(), "--store", store["s"], "--json", "--retries", "3", "--stall-timeout", "1s");

        Assert.Contains(row.Reason.Length == 0 ? "\"digest\"" : $"\"reason\":\"{row.Reason}", result.Expect(row.Code).Out, StringComparison.Ordinal);
        SeenRequest[] asked = [.. registry.Requests.Where(request => request.Path.Contains(hex, StringComparison.Ordinal))];
        Assert.True(asked.Length == row.Requests, string.Join('\n', asked.AsEnumerable()));
        if (row.Sent >= 0)
        {
            Assert.Equal(row.Sent, asked.Where(request => request.Status is 200 or 206).Sum(request => request.BytesSent));
        }

        string part = store[$"s/parts/sha256-{hex}"];
        string left = File.Exists(store[$"s/blobs/sha256/{hex}"]) ? "blob" : File.Exists(part) ? $"{new FileInfo(part).Length}" : "nothing";
        Assert.Equal(row.Left, left);
    }

    [Fact]
    public async Task Two_references_of_one_call_that_share_a_blob_fetch_it_once()
    {
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeContent shared = FakeContent.Generated(5, Size);
        FakeImage one = new FakeImage(registry, "a/b").Layer(shared).RandomLayer("f", 1000).Publish("one");
        FakeImage two = new FakeImage(registry, "a/b").Layer(shared).RandomLayer("g", 1000).Publish("two");
        using TemporaryDirectory store = new();

        (await Binary.RunAsync("pull", one.Reference("one"), two.Reference("two"), "--store", store["s"])).Expect(0);

        Assert.Single(registry.Requests, request => request.Path.Contains(shared.Digest.Hex, StringComparison.Ordinal));
    }
}
