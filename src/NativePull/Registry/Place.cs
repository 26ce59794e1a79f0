namespace NativePull.Registry;

/// <summary>Where the content of a registry is asked for: at the registry itself, or at a mirror of it.</summary>
/// <param name="Address">Of the host.</param>
/// <param name="Account">The name under which credentials for it are kept.</param>
internal sealed record Place(RegistryAddress Address, string Account)
{
    /// <summary>What stands where the registry has "v2/".</summary>
    internal string ApiPath { get; init; } = "v2/";

    internal bool IsMirror { get; init; }

    /// <summary>It may say what a tag points to; a mirror only where somebody says so.</summary>
    internal bool Resolves { get; init; } = true;

    /// <summary>It may give what a digest names, for that is verified.</summary>
    internal bool Pulls { get; init; } = true;

    /// <summary>Told to mirrors that serve several registries (containerd, "ns"); null: not told.</summary>
    internal string? Namespace { get; init; }

    internal bool SkipsVerification { get; init; }

    internal IReadOnlyList<string> CaFiles { get; init; } = [];

    internal (string Certificate, string Key)? Client { get; init; }

    /// <summary>Sent with each request to this host, and to no other; may hold secrets.</summary>
    internal IReadOnlyList<(string Name, string Value)> Headers { get; init; } = [];

    /// <summary>As messages show it.</summary>
    internal string Shown => Address.Base.GetLeftPart(UriPartial.Authority);

    /// <summary>From an address in a setting: its path, if any, comes before "/v2", unless it is that already.</summary>
    /// <param name="overridePath">The path is all of it.</param>
    internal static Place At(Uri address, bool overridePath = false)
    {
        string path = address.AbsolutePath.Trim('/');
        path = overridePath || path == "v2" || path.EndsWith("/v2", StringComparison.Ordinal) ? path : path.Length == 0 ? "v2" : path + "/v2";
        return new Place(new RegistryAddress(new Uri(address.GetLeftPart(UriPartial.Authority) + "/"), null), address.Authority)
        {
            ApiPath = path.Length == 0 ? "" : path + "/",
        };
    }

    public override string ToString() => Shown;
}

/// <summary>Places to ask about one repository, in order, each with the name the repository has there.</summary>
internal sealed record PlacePlan(IReadOnlyList<(Place Place, string Repository)> Places);

/// <summary>What people say about mirrors; read by Cli, followed by <see cref="MirrorSettings.PlanFor"/>.</summary>
internal sealed class MirrorSettings
{
    /// <summary>--mirror: registry, as references name it → address.</summary>
    internal IReadOnlyList<(string Registry, Uri Address)> Given { get; init; } = [];

    /// <summary>containerd's directory with HOST/hosts.toml; null: none.</summary>
    internal string? HostsDirectory { get; init; }

    /// <summary>containers' registries.conf; null: none.</summary>
    internal RegistriesConf? Conf { get; init; }

    /// <exception cref="PullException">Usage: a file of settings cannot be used; Unsupported: the registry is blocked.</exception>
    internal PlacePlan PlanFor(string registry, string repository, bool plainHttp)
    {
        var own = new Place(RegistryAddress.Of(registry, plainHttp), registry);
        var places = new List<(Place, string)>(Given.Where(mirror => mirror.Registry == registry)
            .Select(mirror => (Place.At(mirror.Address) with { IsMirror = true, Resolves = false, Namespace = registry }, repository)));
        if (HostsDirectory is not null && HostsToml.Read(HostsDirectory, registry, own) is { } hosts)
        {
            places.AddRange(hosts.Select(place => (place, repository)));
            return new PlacePlan(places);
        }

        if (Conf?.PlacesFor(registry, repository) is { } configured)
        {
            places.AddRange(configured);
            return new PlacePlan(places);
        }

        places.Add((own, repository));
        return new PlacePlan(places);
    }
}
