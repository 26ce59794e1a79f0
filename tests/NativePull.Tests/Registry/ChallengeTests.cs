using NativePull.Registry;

namespace NativePull.Tests.Registry;

public sealed class ChallengeTests
{
    public static TheoryData<string, string> Headers => new()
    {
        // as registries send them
        { "Bearer realm=\"https://ghcr.io/token\",service=\"ghcr.io\",scope=\"repository:a/b:pull\"", "Bearer realm=https://ghcr.io/token service=ghcr.io scope=repository:a/b:pull" },
        { "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/x:pull,push\",error=\"invalid_token\"", "Bearer realm=https://auth.docker.io/token service=registry.docker.io scope=repository:library/x:pull,push error=invalid_token" },
        { "Basic realm=\"Registry Realm\"", "Basic realm=Registry Realm" },
        { "Basic", "Basic" },
        // several in one line
        { "Negotiate, Basic realm=\"x\", Bearer realm=\"y\",service=\"z\"", "Negotiate | Basic realm=x | Bearer realm=y service=z" },
        { "Basic realm=\"x\", Bearer realm=\"y\"", "Basic realm=x | Bearer realm=y" },
        { "Negotiate YII=, Basic realm=\"x\"", "Negotiate <YII=> | Basic realm=x" },
        { "NTLM TlRMTVNTUAAC", "NTLM <TlRMTVNTUAAC>" },
        { "Token abc/+.~_-==", "Token <abc/+.~_-==>" },
        // odd, but with one sensible reading
        { "bearer REALM=https://x/token?a=b,Service=y", "bearer REALM=https://x/token?a=b Service=y" },
        { "Bearer realm = \"x\" , service= \"y\"", "Bearer realm=x service=y" },
        { "Bearer realm=\"x\" service=\"y\"", "Bearer realm=x service=y" },
        { "Bearer realm=\"x\";service=\"y\"", "Bearer realm=x service=y" },
        { "Bearer realm='x',service='y'", "Bearer realm=x service=y" },
        { "Bearer ,,realm=\"x\",, ,service=\"y\",", "Bearer realm=x service=y" },
        { "Bearer realm=\"a\\\"b\\\\c\"", "Bearer realm=a\"b\\c" },
        { "Bearer realm=\"x\",realm=\"y\",Realm=\"z\"", "Bearer realm=x" },
        { "Bearer realm=\"x\",service=,scope=\"s\"", "Bearer realm=x service= scope=s" },
        { "Bearer realm=\"without an end", "Bearer realm=without an end" },
        { "Bearer realm=\"", "Bearer realm=" },
        { "Bearer\trealm=\"x\"", "Bearer realm=x" },
        // nothing to read
        { "", "" },
        { " , ,", "" },
        { "\"quoted\"", "quoted" },
        { "@@@", "" },
    };

    [Theory]
    [MemberData(nameof(Headers))]
    public void A_header_is_read_as(string header, string expected) => Assert.Equal(expected, Shown(Challenge.Parse([header])));

    [Fact]
    public void Several_headers_are_one_list() =>
        Assert.Equal("Basic realm=x | Bearer realm=y", Shown(Challenge.Parse(["Basic realm=\"x\"", "Bearer realm=\"y\""])));

    [Fact]
    public void Names_have_no_case_and_an_empty_value_is_absent()
    {
        Challenge challenge = Assert.Single(Challenge.Parse(["BEARER Realm=\"x\",scope=\"\""]));

        Assert.True(challenge.Is("bearer"));
        Assert.Equal("x", challenge["realm"]);
        Assert.Null(challenge["scope"]);
        Assert.Null(challenge["service"]);
    }

    [Fact]
    public void No_header_whatsoever_makes_it_fail_or_hang()
    {
        const int Seed = 20260101;
        var random = new Random(Seed);
        string alphabet = "Bearer realm=\"x\",;'\\ \t=~/é";
        for (int i = 0; i < 20_000; i++)
        {
            string header = string.Concat(Enumerable.Range(0, random.Next(40)).Select(_ => alphabet[random.Next(alphabet.Length)]));
            IReadOnlyList<Challenge> challenges = Challenge.Parse([header]);
            Assert.All(challenges, challenge => Assert.True(challenge.Scheme.Length > 0, $"seed {Seed}: {header}"));
        }
    }

    private static string Shown(IReadOnlyList<Challenge> challenges) => string.Join(" | ", challenges.Select(challenge =>
        challenge.Scheme + (challenge.Token68 is null ? "" : $" <{challenge.Token68}>") + string.Concat(challenge.Parameters.Select(pair => $" {pair.Key}={pair.Value}"))));
}
