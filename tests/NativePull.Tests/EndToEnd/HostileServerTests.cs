using System.Globalization;
using System.Text;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>Servers that are no registry and mean harm: floods without end, silence, words for a terminal. The run ends, says so in one line, and stays small.</summary>
public sealed class HostileServerTests
{
    private const string Json = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";

    /// <param name="Head">Sent once.</param>
    /// <param name="Flood">Then this again and again, until the client goes away; "": silence.</param>
    private sealed record Row(string Head, string Flood, int Code, string Said);

    private static readonly Dictionary<string, Row> Rows = new()
    {
        ["a header without end"] = new("HTTP/1.1 200 OK\r\nX: ", new string('a', 1000), 5, "headers length exceeded"),
        ["headers without end"] = new("HTTP/1.1 200 OK\r\n", "X-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n", 5, "headers length exceeded"),
        ["interim answers without end"] = new("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 5, "headers length exceeded"),
        ["a chunk's extension without end"] = new("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", new string('a', 1000), 5, "too large"),
        ["trailers without end"] = new("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", "X-a: bbbbbbbbbbbbbbbbbb\r\n", 5, "headers length exceeded"),
        ["a manifest without end"] = new($"HTTP/1.1 200 OK\r\n{Json}Transfer-Encoding: chunked\r\n\r\n", "a\r\n          \r\n", 7, "more than the 4194304 bytes"),
        ["an error without end"] = new("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n", "a\r\naaaaaaaaaa\r\n", 4, "answered 403"),
        ["a length that never comes"] = new($"HTTP/1.1 200 OK\r\n{Json}Content-Length: 999999999999\r\n\r\n{{", "", 5, "no byte for 1 s"),
        ["half a header"] = new("HTTP/1.1 200 OK\r\nX", "", 5, "no byte for 1 s"),
        ["nonsense"] = new("\u0001\u001b]0;title\u0007 \u009b2J\r\n", "", 5, "invalid status line"),
        ["words for the terminal"] = new("HTTP/1.1 403 \u001b[31mred\r\nContent-Length: 73\r\n\r\n{\"errors\":[{\"code\":\"X\",\"message\":\"\\u001b]0;title\\u0007\\u202e\\u2028\\r\\n\"}]}", "", 4, "answered 403"),
        ["JSON of ten thousand levels"] = new($"HTTP/1.1 200 OK\r\n{Json}Content-Length: 90000\r\n\r\n{string.Concat(Enumerable.Repeat("{\"config\":", 9000))}", "", 6, "nested deeper than 64 levels (byte 640)"),
        ["a redirect to a file"] = new("HTTP/1.1 307 T\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "", 7, "only http and https are followed"),
        ["a redirect to a socket"] = new("HTTP/1.1 307 T\r\nLocation: unix:/run/docker.sock\r\nContent-Length: 0\r\n\r\n", "", 7, "only http and https are followed"),
        ["a redirect to no address"] = new("HTTP/1.1 307 T\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n", "", 5, "without a usable Location"),
        ["a realm that is a file"] = new("HTTP/1.1 401 U\r\nWWW-Authenticate: Bearer realm=\"file:///etc/passwd\"\r\nContent-Length: 0\r\n\r\n", "", 4, "a realm that is no address"),
        ["two thousand challenges"] = new($"HTTP/1.1 401 U\r\n{string.Concat(Enumerable.Repeat("WWW-Authenticate: ,,,=,\", N x=\r\n", 1500))}Content-Length: 0\r\n\r\n", "", 4, "no way to sign in"),
        ["a wait of more seconds than fit into a number"] = new($"HTTP/1.1 429 T\r\nRetry-After: {new string('9', 30)}\r\nContent-Length: 0\r\n\r\n", "", 5, "more than the 60 s"),
        ["a wait of ages"] = new("HTTP/1.1 429 T\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n", "", 5, "more than the 60 s"),
    };

    public static TheoryData<string> Attacks => [.. Rows.Keys];

    [Theory]
    [MemberData(nameof(Attacks))]
    public async Task A_server_that_means_harm_is_left_with_one_printable_line(string attack)
    {
        Row row = Rows[attack];
        byte[] flood = Encoding.Latin1.GetBytes(string.Concat(Enumerable.Repeat(row.Flood, row.Flood.Length == 0 ? 0 : 1 + (16 * 1024 / row.Flood.Length))));
        await using RawServer server = new(async (_, stream, token) =>
        {
            await stream.WriteAsync(Encoding.Latin1.GetBytes(row.Head), token);
            while (flood.Length > 0)
            {
                await stream.WriteAsync(flood, token);
            }

            await Task.Delay(Timeout.Infinite, token);
        });
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync(
            "pull", $"{server.Address}/a/b", "--store", store["s"], "--stall-timeout", "1s", "--min-rate", "0", "--retries", "1", "--progress", "none");

        Assert.Contains(row.Said, result.Expect(row.Code).Error, StringComparison.Ordinal);
        Assert.Single(result.Error.TrimEnd('\n').Split('\n'));
        Assert.DoesNotContain(result.Error.TrimEnd('\n'), c => char.IsControl(c) || char.GetUnicodeCategory(c) is UnicodeCategory.Format or UnicodeCategory.LineSeparator);
        Assert.InRange(result.Error.Length, 1, 4096);
        Assert.Equal("", result.Out);
    }

    [Theory]
    [InlineData("Basic realm=\"x\"")]
    [InlineData("Bearer realm=\"http://ADDRESS/token\"")]
    public async Task A_server_that_repeats_what_it_was_sent_puts_no_secret_into_a_message(string challenge)
    {
        const string Password = "pass-word-1";
        string encoded = Convert.ToBase64String(Encoding.UTF8.GetBytes($"me:{Password}"));
        string address = "";
        await using RawServer server = new(async (line, stream, token) =>
        {
            bool isSecond = line.Contains("/token", StringComparison.Ordinal) || !challenge.StartsWith("Bearer", StringComparison.Ordinal);
            string body = $"{{\"errors\":[{{\"code\":\"DENIED\",\"message\":\"you sent {encoded}, {Password}\"}}]}}";
            await stream.WriteAsync(Encoding.Latin1.GetBytes(
                $"HTTP/1.1 401 U\r\nWWW-Authenticate: {challenge.Replace("ADDRESS", address, StringComparison.Ordinal)}\r\nContent-Length: {(isSecond ? body.Length : 0)}\r\nConnection: close\r\n\r\n{(isSecond ? body : "")}"), token);
        });
        address = server.Address;
        using TemporaryDirectory store = new();
        using System.Diagnostics.Process pull = Binary.Start(
            null, Binary.File, ["pull", $"{server.Address}/a/b", "--store", store["s"], "--json", "-v", "--username", "me", "--password-stdin"], input: Password);

        BinaryResult result = await Binary.FinishAsync(pull);

        Assert.Contains("you sent ***", result.Expect(4).Error, StringComparison.Ordinal);
        Assert.DoesNotContain(Password, result.Out + result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(encoded, result.Out + result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Platforms_without_number_are_not_all_listed()
    {
        string entries = string.Join(',', Enumerable.Range(0, 15_000).Select(number =>
            $$$"""{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{{{number.ToString("x64", CultureInfo.InvariantCulture)}}}","size":7,"platform":{"os":"plan9","architecture":"x{{{number}}}"}}"""));
        await using FakeRegistry registry = new FakeRegistry().Start();
        registry.AddManifest("a/b", "latest", Encoding.UTF8.GetBytes($$"""{"schemaVersion":2,"manifests":[{{entries}}]}"""), "application/vnd.oci.image.index.v1+json");
        using TemporaryDirectory store = new();

        BinaryResult result = await Binary.RunAsync("pull", $"{registry.Address}/a/b", "--store", store["s"]);

        Assert.Contains("there is: plan9/x0, plan9/x1, ", result.Expect(3).Error, StringComparison.Ordinal);
        Assert.Contains(" and 14960 more", result.Error, StringComparison.Ordinal);
    }
}
