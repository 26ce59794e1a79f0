using System.Text;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

public sealed class TagListTests
{
    private static readonly string[] Tags = [.. Enumerable.Range(0, 25).Select(number => $"v{number:00}")];

    [Theory]
    [InlineData(1000, null, 25, 3)]
    [InlineData(7, null, 25, 4)]
    [InlineData(1000, "v19", 5, 1)]
    [InlineData(1000, "v24", 0, 1)]
    public async Task Every_page_is_followed_to_the_end(int pageSize, string? after, int tags, int pages)
    {
        await using RegistryHarness it = Ready();

        List<string> all = await ListAsync(it, pageSize, after);

        Assert.Equal(Tags[^tags..], all);
        Assert.Equal(pages, it.Fake.Requests.Count);
    }

    public static TheoryData<string, string> Links => new()
    {
        { "relative to the list", "<list?n=10&last=v09>; rel=\"next\"" },
        { "absolute", "<http://{host}/v2/team/app/tags/list?n=10&last=v09>; rel=\"next\"" },
        { "another name of the same registry", "<https://internal.example/v2/team/app/tags/list?n=10&last=v09>; rel=next" },
        { "among others, in any case", "</first>; rel=\"first\", </v2/team/app/tags/list?x=a,b&last=v09>; title=\"a\"; REL = \"prefetch NEXT\"" },
    };

    [Theory]
    [MemberData(nameof(Links))]
    public async Task A_next_page_may_be_named_in_many_ways_and_is_asked_of_the_same_host(string what, string link)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/tags/list?n=1000", new Fault { Headers = [("Link", link.Replace("{host}", it.Fake.Address, StringComparison.Ordinal))] });

        Assert.True((await ListAsync(it)).Count == Tags.Length, what);
    }

    [Fact]
    public async Task Pages_that_go_in_a_circle_are_refused()
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("last=v09", new Fault { Headers = [("Link", "</v2/team/app/tags/list?n=1000>; rel=\"next\"")] });

        PullException failure = await Assert.ThrowsAsync<PullException>(() => ListAsync(it));

        Assert.Equal(PullError.Malformed, failure.Reason);
        Assert.Contains("circle", failure.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"tags":null}""", "")]
    [InlineData("{}", "")]
    [InlineData("""{"tags":["a","b"],"child":[],"manifest":{"sha256:1":{"tag":["c"],"tags":["d"]}}}""", "a b")]
    [InlineData("""{"TAGS":["a"],"tags":["b"]}""", "b")]
    [InlineData("""{"tags":["\u0061\/","\"x\\"]}""", "a/ \"x\\")]
    public void A_page_is_read(string content, string expected)
    {
        var page = TagPage.Read(Encoding.UTF8.GetBytes(content), "x");

        Assert.Equal(expected, Encoding.UTF8.GetString(page.Lines.Span).TrimEnd('\n').Replace('\n', ' '));
        Assert.Equal(expected.Split(' ', StringSplitOptions.RemoveEmptyEntries).Length, page.Count);
    }

    public static TheoryData<string, string> NoPages => new()
    {
        { "[]", "x: tag list: malformed JSON: unexpected list (byte 0)" },
        { "{", "x: tag list: malformed JSON: it ends too early, after 1 bytes" },
        { "null", "x: tag list: malformed JSON: unexpected null (byte 0)" },
        { """{"tags":[]}x""", "x: tag list: malformed JSON: unexpected 'x' (byte 11)" },
        { """{"tags":{}}""", "x: tag list: malformed JSON: unexpected object at tags (byte 8)" },
        { """{"tags":["a",null]}""", "x: tag list: malformed JSON: unexpected null at tags[1] (byte 13)" },
        { """{"tags":["a\u001b[2Jb"]}""", "x: tag list: tags[0] is \"a\\u001b[2Jb\", which is no tag" },
        { """{"tags":["a","a\nb"]}""", "x: tag list: tags[1] is \"a\\nb\", which is no tag" },
        { """{"tags":[""]}""", "x: tag list: tags[0] is \"\", which is no tag" },
        { """{"tags":["a b"]}""", "x: tag list: tags[0] is \"a b\", which is no tag" },
        { """{"tags":["ä"]}""", "x: tag list: tags[0] is \"ä\", which is no tag" },
        { """{"tags":["\ud800"]}""", "x: tag list: tags[0] is \"\\ud800\", which is no tag" },
        { $$"""{"tags":["{{new string('a', 257)}}"]}""", $"x: tag list: tags[0] is \"{new string('a', 60)}…\", which is no tag" },
    };

    [Theory]
    [MemberData(nameof(NoPages))]
    public void A_page_that_is_none_is_malformed(string content, string line)
    {
        PullException failure = Assert.Throws<PullException>(() => TagPage.Read(Encoding.UTF8.GetBytes(content), "x"));

        Assert.Equal((PullError.Malformed, line), (failure.Reason, failure.Sentence));
    }

    [Fact]
    public void A_list_whose_pages_do_not_repeat_ends_at_a_limit()
    {
        TagListEnd end = new("x");
        for (int i = 0; i < 100_000; i++)
        {
            end.Check($"/{i}", Numbered(i));
        }

        PullException failure = Assert.Throws<PullException>(() => end.Check("/last", Numbered(-1)));

        Assert.Equal(PullError.LimitPassed, failure.Reason);
        Assert.Contains("100000 pages", failure.Message, StringComparison.Ordinal);
    }

    private static TagPage Numbered(int number) => new(Encoding.UTF8.GetBytes($"t{number}\n"), 1);

    private static RegistryHarness Ready() => new(new FakeRegistry { Tags = Tags, TagPageSize = 10 });

    private static async Task<List<string>> ListAsync(RegistryHarness it, int pageSize = 1000, string? after = null)
    {
        List<string> all = [];
        await foreach (TagPage page in it.Client.ListTagsAsync(RegistryHarness.Repository, pageSize, after, RegistryHarness.Token))
        {
            all.AddRange(Encoding.UTF8.GetString(page.Lines.Span).Split('\n', StringSplitOptions.RemoveEmptyEntries));
        }

        return all;
    }
}
