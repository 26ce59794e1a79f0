using NativePull.Registry;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Registry;

/// <summary>From what people write about mirrors to the places that are asked.</summary>
public sealed class MirrorSettingsTests : IDisposable
{
    private readonly TemporaryDirectory directory = new();

    public static TheoryData<string, string, string> Hosts => new()
    {
        { "", "r.example", "https://r.example/v2/app Tp r.example" },
        { "server = \"https://r.example\"", "r.example", "https://r.example/v2/app Tp r.example" },
        { "server = \"https://registry-1.docker.io\"\n[host.\"https://m:5000\"]\ncapabilities=[\"pull\",\"resolve\"]", "docker.io", "https://m:5000/v2/app mTp m:5000 ns=docker.io | https://registry-1.docker.io/v2/app Tp docker.io" },
        { "[host.\"http://m\"]\n[host.\"https://n\"]", "r.example", "http://m/v2/app mp m ns=r.example | https://n/v2/app mp n ns=r.example | https://r.example/v2/app Tp r.example" },
        { "[host.\"https://m/prefix\"]", "r.example", "https://m/prefix/v2/app mp m ns=r.example | https://r.example/v2/app Tp r.example" },
        { "[host.\"https://m/v2\"]", "r.example", "https://m/v2/app mp m ns=r.example | https://r.example/v2/app Tp r.example" },
        { "[host.\"https://m/v2/proxy\"]\noverride_path = true", "r.example", "https://m/v2/proxy/app mp m ns=r.example | https://r.example/v2/app Tp r.example" },
        { "[host.\"m.example:5000\"]\ncapabilities = [\"resolve\"]", "r.example", "https://m.example:5000/v2/app mT m.example:5000 ns=r.example | https://r.example/v2/app Tp r.example" },
        { "[host.\"127.0.0.1:5000\"]", "r.example", "http://127.0.0.1:5000/v2/app mp 127.0.0.1:5000 ns=r.example | https://r.example/v2/app Tp r.example" },
        { "server = \"https://other\"\ncapabilities = [\"pull\"]", "r.example", "https://other/v2/app p other ns=r.example" },
        { "[host.\"https://m\"]\nskip_verify = true\nca = \"m.pem\"\nclient = [[\"c.pem\", \"k.pem\"]]\n[host.\"https://m\".header]\nX-A = [\"1\", \"2\"]\nX-B = \"3\"", "r.example", "https://m/v2/app mp m ns=r.example insecure ca=m.pem client=c.pem+k.pem X-A:1 X-A:2 X-B:3 | https://r.example/v2/app Tp r.example" },
        { "[host.\"https://m\"]\nca = [\"/a.pem\", \"b.pem\"]\nclient = \"/both.pem\"", "r.example", "https://m/v2/app mp m ns=r.example ca=a.pem ca=b.pem client=both.pem+both.pem | https://r.example/v2/app Tp r.example" },
    };

    [Theory]
    [MemberData(nameof(Hosts))]
    public void Hosts_toml_gives_places_in_its_order(string toml, string registry, string expected)
    {
        Write($"{registry}/hosts.toml", toml);

        Assert.Equal(expected, Shown(new MirrorSettings { HostsDirectory = directory.Path }, registry, "app"));
    }

    [Theory]
    [InlineData("h:5000", "h:5000")]
    [InlineData("h_5000_", "h:5000")]
    [InlineData("_default", "any.example")]
    [InlineData("h", "any.example")]
    public void Hosts_toml_is_found_by_the_registrys_name(string name, string registry)
    {
        Write($"{name}/hosts.toml", "[host.\"https://m\"]");

        Assert.Equal(name != "h", Shown(new MirrorSettings { HostsDirectory = directory.Path }, registry, "app").Contains("https://m/", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("host = 1")]
    [InlineData("[host]\nx = 1")]
    [InlineData("[host.\"ftp://m\"]")]
    [InlineData("[host.\"https://user:secret@m\"]")]
    [InlineData("server = 1")]
    [InlineData("capabilities = \"p\\u0001\"\n[host.\"https://m\".header]\nx = \"a\\nb\"")]
    [InlineData("ca = 1")]
    [InlineData("client = []")]
    [InlineData("capabilities = [1]")]
    public void Hosts_toml_that_makes_no_sense_is_an_error_with_file_and_line(string toml)
    {
        Write("r.example/hosts.toml", toml);

        PullException failure = Assert.Throws<PullException>(() => Shown(new MirrorSettings { HostsDirectory = directory.Path }, "r.example", "app"));

        Assert.Equal(PullError.Usage, failure.Reason);
        Assert.Contains("hosts.toml, line ", failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret@m/", failure.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string, string> Conf => new()
    {
        { "[[registry]]\nlocation = \"other\"", "r.example/a/b", "https://r.example/v2/a/b Tp r.example" },
        { "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"m:5000\"", "r.example/a/b", "https://m:5000/v2/a/b mp m:5000 | https://r.example/v2/a/b Tp r.example" },
        { "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"m/hub\"", "docker.io/library/x", "https://m/v2/hub/library/x mp m | https://registry-1.docker.io/v2/library/x Tp docker.io" },
        { "[[registry]]\nprefix = \"r.example/a\"\nlocation = \"n/z\"", "r.example/a/b", "https://n/v2/z/b Tp n" },
        { "[[registry]]\nprefix = \"r.example/a\"\nlocation = \"n/z\"", "r.example/ab/b", "https://r.example/v2/ab/b Tp r.example" },
        { "[[registry]]\nprefix = \"r.example\"\nlocation = \"one\"\n[[registry]]\nprefix = \"r.example/a/b\"\nlocation = \"two/c\"", "r.example/a/b", "https://two/v2/c Tp two" },
        { "[[registry]]\nprefix = \"*.example\"\n[[registry.mirror]]\nlocation = \"m\"", "r.example/a", "https://m/v2/a mp m | https://r.example/v2/a Tp r.example" },
        { "[[registry]]\nprefix = \"*.example\"\nlocation = \"n/z\"", "r.example/a", "https://n/v2/z/a Tp n" },
        { "[[registry]]\nprefix = \"*.example:5000\"\nlocation = \"n\"", "r.example:5000/a", "https://n/v2/a Tp n" },
        { "[[registry]]\nprefix = \"*.example:5000\"\nlocation = \"n\"", "r.example/a", "https://r.example/v2/a Tp r.example" },
        { "[[registry]]\nlocation = \"r.example/\"\n[[registry.mirror]]\nlocation = \"m/x/\"", "r.example/a", "https://m/v2/x/a mp m | https://r.example/v2/a Tp r.example" },
        { "[[registry]]\nlocation = \"r.example\"\ninsecure = true", "r.example/a", "https://r.example/v2/a Tp r.example insecure or http" },
        { "[[registry]]\nlocation = \"r.example\"\nmirror = [{location = \"m\", insecure = true}]", "r.example/a", "https://m/v2/a mp m insecure or http | https://r.example/v2/a Tp r.example" },
        { "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"all\"\n[[registry.mirror]]\nlocation = \"n\"\npull-from-mirror = \"tag-only\"", "r.example/a", "https://m/v2/a mTp m | https://n/v2/a mT n | https://r.example/v2/a Tp r.example" },
        { "[[registry]]\nlocation = \"r.example\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"all\"", "r.example/a", "https://m/v2/a mp m | https://r.example/v2/a Tp r.example" },
        { "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"enforcing\"\n[aliases]\n\"x\" = \"y/x\"", "r.example/a", "https://r.example/v2/a Tp r.example" },
    };

    [Theory]
    [MemberData(nameof(Conf))]
    public void Registries_conf_gives_places_for_what_a_name_begins_with(string toml, string name, string expected)
    {
        string[] parts = name.Split('/', 2);

        Assert.Equal(expected, Shown(new MirrorSettings { Conf = Load(toml) }, parts[0], parts[1]));
    }

    [Fact]
    public void A_blocked_name_is_refused_by_the_file()
    {
        RegistriesConf conf = Load("[[registry]]\nlocation = \"r.example/bad\"\nblocked = true");

        PullException failure = Assert.Throws<PullException>(() => Shown(new MirrorSettings { Conf = conf }, "r.example", "bad/app"));

        Assert.Equal(PullError.Unsupported, failure.Reason);
        Assert.Contains("registries.conf", failure.Message, StringComparison.Ordinal);
        Assert.NotEmpty(Shown(new MirrorSettings { Conf = conf }, "r.example", "good"));
    }

    [Theory]
    [InlineData("[registries.search]\nregistries = [\"docker.io\"]")]
    [InlineData("[[registry]]\nprefix = \"r\"")]
    [InlineData("[[registry]]\ninsecure = true")]
    [InlineData("[[registry]]\nlocation = \"r\"\nblocked = \"yes\"")]
    [InlineData("[[registry]]\nlocation = \"r\"\n[[registry.mirror]]\ninsecure = true")]
    [InlineData("[[registry]]\nlocation = \"r\"\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"some\"")]
    [InlineData("unqualified-search-registries = [1]")]
    [InlineData("[[registry]]\nlocation = \"https://r\"\nblocked = true")]
    [InlineData("[[registry]]\nprefix = \"http://r\"\nlocation = \"r\"")]
    [InlineData("[[registry]]\nlocation = \"r\"\n[[registry.mirror]]\nlocation = \"http://m\"")]
    [InlineData("[[registry]]\nprefix = \"r/a:1\"\nlocation = \"r/a\"\nblocked = true")]
    [InlineData("[[registry]]\nprefix = \"r:5000/a@sha256:0\"\nlocation = \"r/a\"")]
    public void Registries_conf_that_makes_no_sense_is_an_error_with_file_and_line(string toml)
    {
        PullException failure = Assert.Throws<PullException>(() => Load(toml));

        Assert.Equal(PullError.Usage, failure.Reason);
        Assert.Contains("registries.conf, line ", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_given_mirror_is_for_its_registry_and_comes_before_the_files()
    {
        Write("r.example/hosts.toml", "[host.\"https://m\"]");
        var settings = new MirrorSettings { Given = [("r.example", new Uri("http://given:1/")), ("other", new Uri("http://no/"))], HostsDirectory = directory.Path };

        Assert.Equal("http://given:1/v2/app mp given:1 ns=r.example | https://m/v2/app mp m ns=r.example | https://r.example/v2/app Tp r.example", Shown(settings, "r.example", "app"));
    }

    public void Dispose() => directory.Dispose();

    private void Write(string name, string content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(directory[name])!);
        File.WriteAllText(directory[name], content);
    }

    private RegistriesConf Load(string toml)
    {
        Write("registries.conf", toml);
        return RegistriesConf.Load(directory["registries.conf"]);
    }

    // m: a mirror; T: resolves tags; p: gives what a digest names; then the account
    private static string Shown(MirrorSettings settings, string registry, string repository) => string.Join(" | ", settings.PlanFor(registry, repository, false).Places.Select(one =>
    {
        Place place = one.Place;
        return $"{place.Address.Base}{place.ApiPath}{one.Repository} {(place.IsMirror ? "m" : "")}{(place.Resolves ? "T" : "")}{(place.Pulls ? "p" : "")} {place.Account}"
            + (place.Namespace is null ? "" : $" ns={place.Namespace}")
            + (place.SkipsVerification ? " insecure" : "")
            + (place.Address.Plain is null || RegistryAddress.IsLoopback(place.Address.Base.Host) ? "" : " or http")
            + string.Concat(place.CaFiles.Select(file => $" ca={Path.GetFileName(file)}"))
            + (place.Client is { } client ? $" client={Path.GetFileName(client.Certificate)}+{Path.GetFileName(client.Key)}" : "")
            + string.Concat(place.Headers.Select(header => $" {header.Name}:{header.Value}"));
    }));
}
