using System.Globalization;
using System.Text;
using System.Text.Json;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>The command <c>tags</c> before registries that are odd, or mean harm: what is printed, what is asked, and of whom.</summary>
public sealed class TagsTests
{
    /// <summary>What Link header the first page has ({p}: the list's path, {h}: the registry), and what is asked for next; null: nothing.</summary>
    public static TheoryData<string, string, string?> Links => new()
    {
        { "a path", "<{p}?last=b&n=2>; rel=\"next\"", "{p}?last=b&n=2" },
        { "a path beside the list's", "<list?last=b>; rel=\"next\"", "{p}?last=b" },
        { "a query alone", "<?last=b>; rel=\"next\"", "{p}?last=b" },
        { "the whole address", "<http://{h}{p}?last=b>; rel=\"next\"", "{p}?last=b" },
        { "another scheme and host", "<https://internal.example:8443{p}?last=b>; rel=\"next\"", "{p}?last=b" },
        { "no scheme", "<//internal.example{p}?last=b>; rel=\"next\"", "{p}?last=b" },
        { "no quotes", "<{p}?last=b>; rel=next", "{p}?last=b" },
        { "spaces and case", "< {p}?last=b > ; REL = \"Next\" ", "{p}?last=b" },
        { "single quotes", "<{p}?last=b>; rel='next'", "{p}?last=b" },
        { "several relations", "<{p}?last=b>; rel=\"last next\"", "{p}?last=b" },
        { "other parameters, with separators in quotes", "<{p}?last=b>; title=\"a, b; rel=prev\"; rel=\"next\"", "{p}?last=b" },
        { "several links", "<{p}?x=1>; rel=\"first\", <{p}?last=b>; rel=\"next\", <{p}?x=2>; rel=\"last\"", "{p}?last=b" },
        { "an escaped address", "<{p}?last=b%2Fc&n=2>; rel=\"next\"", "{p}?last=b%2Fc&n=2" },
        { "only the previous page", "<{p}?x=1>; rel=\"prev\"", null },
        { "no relation", "<{p}?x=1>", null },
        { "no brackets", "{p}?last=b; rel=\"next\"", "{p}?last=b" },
        { "a quote without end", "<{p}?last=b>; rel=\"next", "{p}?last=b" },
        { "nothing", "", null },
    };

    [Theory]
    [MemberData(nameof(Links))]
    public async Task The_next_page_is_found_in_whatever_the_header_says(string what, string link, string? next)
    {
        Assert.NotEmpty(what);
        const string path = "/v2/a/b/tags/list";
        await using FakeRegistry registry = new FakeRegistry().Start();
        string Filled(string text) => text.Replace("{p}", path, StringComparison.Ordinal).Replace("{h}", registry.Address, StringComparison.Ordinal);
        registry.Faults.On("/tags/list?n=1000", new Fault { Status = 200, Body = """{"tags":["a","b"]}""", Headers = [("Link", Filled(link))] });
        registry.Faults.On("/tags/list?", new Fault { Status = 200, Body = """{"tags":["c"]}""" });

        BinaryResult result = await Binary.RunAsync("tags", $"{registry.Address}/a/b");

        Assert.Equal(next is null ? "a\nb\n" : "a\nb\nc\n", result.Expect(0).Out);
        Assert.Equal([$"{path}?n=1000", .. next is null ? [] : new[] { Filled(next) }], registry.Requests.Select(request => request.Path));
    }

    [Theory]
    [InlineData("<{o}/v2/a/b/tags/list?last=a>; rel=\"next\"", "/v2/a/b/tags/list?last=a")]
    [InlineData("<{r}//{a}/v2/a/b/tags/list?last=a>; rel=\"next\"", "//{a}/v2/a/b/tags/list?last=a")]
    [InlineData("</.//{a}/v2/a/b/tags/list?last=a>; rel=\"next\"", "//{a}/v2/a/b/tags/list?last=a")]
    [InlineData("<{r}/\\{a}/v2/a/b/tags/list?last=a>; rel=\"next\"", "//{a}/v2/a/b/tags/list?last=a")]
    public async Task A_link_to_another_host_takes_no_token_there(string link, string asked)
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), Tags = ["a", "b"] }.Start();
        await using FakeRegistry other = new FakeRegistry { Tags = ["x"] }.Start();
        registry.Faults.On("/tags/list?n=1000", new Fault { Status = 401, Headers = [("WWW-Authenticate", $"Bearer realm=\"{registry.TokenUrl}/token\",scope=\"repository:a/b:pull\"")] });
        registry.Faults.On("/tags/list?n=1000", new Fault { Headers = [("Link", Filled(link))] });

        await Binary.RunAsync("tags", $"{registry.Address}/a/b"); // what the registry says to an address that it does not know is its own affair

        Assert.Empty(other.Requests);
        Assert.Equal(Filled(asked), registry.RequestsOf("registry")[^1].Path);
        string Filled(string text) => text
            .Replace("{o}", other.Url, StringComparison.Ordinal).Replace("{r}", registry.Url, StringComparison.Ordinal).Replace("{a}", other.Address, StringComparison.Ordinal);
    }

    /// <summary>What the registry answers to each request in turn (the last for ever), the exit code, what is printed, and what is said.</summary>
    public static TheoryData<string, string[], int, string, string> Answers => new()
    {
        { "no tags", [Page("null")], 0, "", "" },
        { "an empty list", [Page("[]")], 0, "", "" },
        { "not found", ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], 3, "", "answered 404" },
        { "not found after the first page", [Page("[\"a\"]", 1), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], 3, "a\n", "answered 404" },
        { "a page that leads to itself", [Page("[\"a\"]", 1)], 6, "a\n", "go in a circle" },
        { "two pages that lead to each other", [Page("[\"a\"]", 1), Page("[\"b\"]", 2), Page("[\"c\"]", 1)], 6, "a\nb\nc\n", "go in a circle" },
        { "a tag that would move the cursor", [Page("[\"a\",\"\\u001b[2Jb\"]")], 6, "", "tags[1] is \"\\u001b[2Jb\", which is no tag" },
        { "a tag of two lines", [Page("[\"a\\nlatest\"]")], 6, "", "which is no tag" },
        { "a page cut in the middle", [Page("[\"a\"]", 1), Page("[\"b\",\"c\"]").Replace("\"c\"]}", "", StringComparison.Ordinal), Page("[\"b\",\"c\"]")], 0, "a\nb\nc\n", "try 2" },
        { "503 in the middle", [Page("[\"a\"]", 1), "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", Page("[\"b\"]")], 0, "a\nb\n", "try 2" },
        { "a link that is no address", [Page("[\"a\"]").Replace("\r\n\r\n", "\r\nLink: <http://[::1>; rel=next\r\n\r\n", StringComparison.Ordinal)], 6, "a\n", "no usable address" },
        { "a link to a file", [Page("[\"a\"]").Replace("\r\n\r\n", "\r\nLink: <file:///etc/passwd>; rel=next\r\n\r\n", StringComparison.Ordinal)], 6, "a\n", "no usable address" },
        { "a page of more than is allowed", ["HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{\"tags\":[\"" + new string('a', 34_000_000)], 7, "", "more than the 33554432 bytes" },
    };

    [Theory]
    [MemberData(nameof(Answers))]
    public async Task Whatever_a_registry_answers(string what, string[] answers, int code, string printed, string said)
    {
        Assert.NotEmpty(what);
        int number = 0;
        await using RawServer server = new(async (_, stream, token) =>
            await stream.WriteAsync(Encoding.Latin1.GetBytes(answers[Math.Min(Interlocked.Increment(ref number), answers.Length) - 1]), token));

        BinaryResult result = await Binary.RunAsync("tags", $"{server.Address}/a/b");

        Assert.Equal(printed, result.Expect(code).Out);
        Assert.Contains(said, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', result.Error);
    }

    [Fact]
    public async Task Pages_without_tags_have_an_end()
    {
        int number = 0;
        await using RawServer server = new(async (_, stream, token) =>
            await stream.WriteAsync(Encoding.Latin1.GetBytes(Page("[]", Interlocked.Increment(ref number))), token));

        BinaryResult result = await Binary.RunAsync("tags", $"{server.Address}/a/b");

        Assert.Contains("more than 100 pages in a row without a tag", result.Expect(6).Error, StringComparison.Ordinal);
        Assert.Equal(101, number);
    }

    [Fact]
    public async Task A_token_that_runs_out_between_two_pages_is_renewed()
    {
        await using FakeRegistry registry = new FakeRegistry { Auth = new FakeAuth(), Tags = ["a", "b", "c", "d"], TagPageSize = 1 }.Start();
        registry.Faults.On("/tags/list?last=b", new Fault { BeforeAnswer = registry.ExpireTokens });

        BinaryResult result = await Binary.RunAsync("tags", $"{registry.Address}/a/b");

        Assert.Equal("a\nb\nc\nd\n", result.Expect(0).Out);
        Assert.Equal(2, registry.RequestsOf("token").Count);
    }

    [Fact]
    public async Task A_million_tags_go_through_little_memory()
    {
        const int pages = 1000;
        const int each = 1000;
        await using RawServer server = new(async (line, stream, token) =>
        {
            int page = line.Contains("last=", StringComparison.Ordinal) ? int.Parse(line.Split("last=p")[1].Split(' ')[0], CultureInfo.InvariantCulture) : 0;
            string tags = string.Join(',', Enumerable.Range(page * each, each).Select(number => $"\"release-{number:0000000}\""));
            await stream.WriteAsync(Encoding.Latin1.GetBytes(Page($"[{tags}]", page + 1 < pages ? page + 1 : null)), token);
        });

        BinaryResult result = (await Binary.ProgramAsync("time", "-f", "peak %M", Binary.File, "tags", $"{server.Address}/a/b")).Expect(0);

        // KiB; the tags alone are 16 MB, as they are sent, and 64 MB as objects
        Assert.InRange(int.Parse(result.Error.TrimEnd('\n').Split("peak ")[1], CultureInfo.InvariantCulture), 1000, 32 * 1024);
        Assert.Equal(pages * each, result.Out.Count(c => c == '\n'));
        Assert.EndsWith("release-0999999\n", result.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_list_without_end_is_printed_while_it_comes_and_ends_with_its_reader()
    {
        await using RawServer server = new(async (line, stream, token) =>
        {
            int page = line.Contains("last=", StringComparison.Ordinal) ? int.Parse(line.Split("last=p")[1].Split(' ')[0], CultureInfo.InvariantCulture) : 0;
            await stream.WriteAsync(Encoding.Latin1.GetBytes(Page($"[\"t{page}\"]", page + 1)), token);
        });

        BinaryResult result = await Binary.ProgramAsync("bash", "-c", $"{Binary.File} tags {server.Address}/a/b | head -n 3; echo ${{PIPESTATUS[0]}}");

        Assert.Equal("t0\nt1\nt2\n0\n", result.Expect(0).Out);
        Assert.Equal("", result.Error);
    }

    [Fact]
    public async Task A_list_that_cannot_be_written_down_is_no_success()
    {
        await using FakeRegistry registry = new FakeRegistry { Tags = ["a"] }.Start();

        BinaryResult result = await Binary.ProgramAsync("sh", "-c", $"{Binary.File} tags {registry.Address}/a/b >/dev/full");

        Assert.Contains("standard output: ", result.Expect(8).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("alpine:latest")]
    [InlineData("alpine:3")]
    [InlineData("127.0.0.1:1/a/b:latest")]
    [InlineData("127.0.0.1:1/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000")]
    [InlineData("localhost:5000")]
    public async Task A_tag_or_digest_is_a_wrong_call(string repository)
    {
        BinaryResult result = await Binary.RunAsync("tags", repository, "--json");

        Assert.Equal($"nativepull: \"{repository}\": tags takes a repository, without tag or digest\n", result.Expect(2).Error);
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.Equal(repository, json.RootElement.GetProperty("reference").GetString());
    }

    [Fact]
    public async Task With_json_a_list_that_fails_in_the_middle_is_one_document()
    {
        await using FakeRegistry registry = new FakeRegistry { Tags = ["a", "b"], TagPageSize = 1 }.Start();
        registry.Faults.On("/tags/list?last=a", new Fault { Status = 403 });

        BinaryResult result = await Binary.RunAsync("tags", $"{registry.Address}/a/b", "--json");

        Assert.Contains("\"reason\":\"denied\"", Assert.Single(result.Expect(4).Out.TrimEnd('\n').Split('\n')), StringComparison.Ordinal);
    }

    private static string Page(string tags, int? next = null)
    {
        string body = $"{{\"name\":\"a/b\",\"tags\":{tags}}}";
        string link = next is null ? "" : $"Link: </v2/a/b/tags/list?last=p{next}>; rel=\"next\"\r\n";
        return $"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {body.Length}\r\nConnection: close\r\n{link}\r\n{body}";
    }
}
