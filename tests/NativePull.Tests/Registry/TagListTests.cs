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
    [InlineData("""{"tags":["a","b"],"child":[],"manifest":{}}""", "a b")]
    public void A_page_is_read(string content, string expected) =>
        Assert.Equal(expected, string.Join(' ', TagPage.Tags(System.Text.Encoding.UTF8.GetBytes(content), "x")));

    [Theory]
    [InlineData("[]")]
    [InlineData("{")]
    [InlineData("""{"tags":[null]}""")]
    [InlineData("""{"tags":["a\u001b[2Jb"]}""")]
    [InlineData("""{"tags":["a\nb"]}""")]
    public void A_page_that_is_none_is_malformed(string content) =>
        Assert.Equal(PullError.Malformed, Assert.Throws<PullException>(() => TagPage.Tags(System.Text.Encoding.UTF8.GetBytes(content), "x")).Reason);

    private static RegistryHarness Ready() => new(new FakeRegistry { Tags = Tags, TagPageSize = 10 });

    private static async Task<List<string>> ListAsync(RegistryHarness it, int pageSize = 1000, string? after = null)
    {
        List<string> all = [];
        await foreach (string tag in it.Client.ListTagsAsync(RegistryHarness.Repository, pageSize, after, RegistryHarness.Token))
        {
            all.Add(tag);
        }

        return all;
    }
}
