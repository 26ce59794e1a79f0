using System.Globalization;
using NativePull.Registry;

namespace NativePull.Tests.Registry;

public sealed class TomlTests
{
    public static TheoryData<string, string> Documents => new()
    {
        { "", "{}" },
        { "# nothing\n\n  # here", "{}" },
        { "a = 1", "{a:1}" },
        { "a=-1_000 # c", "{a:-1000}" },
        { "a = true\nb=false", "{a:true,b:false}" },
        { "a = \"x # y\"", "{a:'x # y'}" },
        { @"a = ""\t\""\\\u00e4\U0001F600""", "{a:'\t\"\\ä😀'}" },
        { @"a = 'C:\x'", @"{a:'C:\x'}" },
        { "a = ''\r\nb = \"\"\r\n", "{a:'',b:''}" },
        { "a-b_2 = 1", "{a-b_2:1}" },
        { "\"a b\" = 1\n'c.d' = 2", "{a b:1,c.d:2}" },
        { "a.b . \"c\" = 1\na.d = 2", "{a:{b:{c:1},d:2}}" },
        { "a = []", "{a:[]}" },
        { "a = [1, \"x\", [true],]", "{a:[1,'x',[true]]}" },
        { "a = [ # c\n  1,\n\n  2 # d\n]", "{a:[1,2]}" },
        { "a = {}", "{a:{}}" },
        { "a = { b = 1, c.d = \"x\" }", "{a:{b:1,c:{d:'x'}}}" },
        { "[a]\nb = 1\n[c]\nd = 2", "{a:{b:1},c:{d:2}}" },
        { "[ a . b ]\nc = 1\n[a]\nd = 2", "{a:{b:{c:1},d:2}}" },
        { "[host.\"https://m.example:5000\"]\ncapabilities = [\"pull\"]\n[host.\"https://m.example:5000\".header]\nx = [\"y\"]", "{host:{https://m.example:5000:{capabilities:['pull'],header:{x:['y']}}}}" },
        { "[[r]]\na = 1\n[[r.m]]\nb = 2\n[[r.m]]\nb = 3\n[[r]]\na = 4", "{r:[{a:1,m:[{b:2},{b:3}]},{a:4}]}" },
        { "[[r]]\n[r.x]\na = 1\n[[r]]\n[r.x]\na = 2", "{r:[{x:{a:1}},{x:{a:2}}]}" },
    };

    [Theory]
    [MemberData(nameof(Documents))]
    public void A_document_is_read_as(string text, string expected) => Assert.Equal(expected, Shown(Toml.Parse("f.toml", text)));

    public static TheoryData<string, int> Errors => new()
    {
        { "a", 1 },
        { "a =", 1 },
        { "a = \n1", 1 },
        { "= 1", 1 },
        { "a = 1 b = 2", 1 },
        { "a = 1\na = 2", 2 },
        { "a = 1\na.b = 2", 2 },
        { "[a]\n[a]", 2 },
        { "a = {}\n[a]", 2 },
        { "a = [{}]\n[[a]]", 2 },
        { "a = []\n[a.b]", 2 },
        { "a = 1\n[[a]]", 2 },
        { "[[a]]\n[a]", 2 },
        { "[a", 1 },
        { "[[a]", 1 },
        { "[a]]", 1 },
        { "[]", 1 },
        { "a = \"x", 1 },
        { "a = \"x\n\"", 1 },
        { "a = 'x\n'", 1 },
        { "a = \"\\q\"", 1 },
        { "a = \"\\ud800\"", 1 },
        { "a = \"\\u12\"", 1 },
        { "\na = \"\"\"x\"\"\"", 2 },
        { "a = '''x'''", 1 },
        { "a = [1", 1 },
        { "a = [1 2]", 1 },
        { "a = [1,,2]", 1 },
        { "a = {b = 1,}", 1 },
        { "a = {\nb = 1}", 1 },
        { "a = 1.5", 1 },
        { "a = 0x1f", 1 },
        { "a = 1979-05-27", 1 },
        { "a = yes", 1 },
        { "a = 99999999999999999999", 1 },
        { "a: 1", 1 },
    };

    [Theory]
    [MemberData(nameof(Errors))]
    public void What_is_not_understood_is_an_error_with_file_and_line(string text, int line)
    {
        PullException failure = Assert.Throws<PullException>(() => Toml.Parse("f.toml", text));

        Assert.Equal(PullError.Usage, failure.Reason);
        Assert.StartsWith(string.Create(CultureInfo.InvariantCulture, $"f.toml, line {line}: "), failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void No_document_whatsoever_makes_it_crash_or_hang()
    {
        const int seed = 1;
        var random = new Random(seed);
        const string alphabet = "ab=.\"'[]{},#\n \\u0\t1";
        for (int i = 0; i < 2_000; i++)
        {
            string text = string.Concat(Enumerable.Range(0, random.Next(30)).Select(_ => alphabet[random.Next(alphabet.Length)]));
            Exception? failure = Record.Exception(() => Toml.Parse("f", text));
            Assert.True(failure is null or PullException, $"seed {seed}: {text}: {failure}");
        }

        Assert.Throws<PullException>(() => Toml.Parse("f", "a = " + new string('[', 100_000)));
    }

    private static string Shown(object value) => value switch
    {
        TomlTable table => "{" + string.Join(',', table.Members.Select(member => $"{member.Key}:{Shown(member.Value)}")) + "}",
        List<object> list => "[" + string.Join(',', list.Select(Shown)) + "]",
        string text => $"'{text}'",
        bool flag => flag ? "true" : "false",
        _ => ((long)value).ToString(CultureInfo.InvariantCulture),
    };
}
