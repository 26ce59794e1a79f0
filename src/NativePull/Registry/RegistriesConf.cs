namespace NativePull.Registry;

/// <summary>containers' registries.conf, version 2 (containers-registries.conf(5)): other places for what a name begins with.</summary>
internal sealed class RegistriesConf
{
    private readonly string file;
    private readonly List<Entry> entries = [];

    private RegistriesConf(string file) => this.file = file;

    /// <summary>Registries that names without one may mean; null where the file says nothing about it.</summary>
    internal IReadOnlyList<string>? SearchRegistries { get; private set; }

    /// <exception cref="PullException">Usage: it cannot be read or understood.</exception>
    internal static RegistriesConf Load(string file)
    {
        string text;
        try
        {
            text = File.ReadAllText(file);
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
        {
            throw new PullException(PullError.Usage, $"{file}: cannot be read", unreadable);
        }

        var conf = new RegistriesConf(file);
        conf.Read(Toml.Parse(file, text));
        return conf;
    }

    /// <returns>The mirrors, and last the registry itself or what stands in for it; null where nothing is said about the name.</returns>
    /// <exception cref="PullException">Unsupported: it is blocked; Usage: it would be asked for at no place.</exception>
    internal IReadOnlyList<(Place Place, string Repository)>? PlacesFor(string registry, string repository)
    {
        string name = $"{registry}/{repository}";
        Entry? entry = entries.Where(candidate => candidate.Matches(name, registry)).MaxBy(candidate => candidate.Prefix.Length);
        if (entry is null)
        {
            return null;
        }

        if (entry.IsBlocked)
        {
            throw new PullException(PullError.Unsupported, $"{name}: blocked by {file} (prefix {entry.Prefix})");
        }

        var places = new List<(Place, string)>(entry.Mirrors.Select(mirror => Locate(mirror.Location, mirror.IsInsecure, entry, name) is var (place, at)
            ? (place with { IsMirror = true, Resolves = mirror.Resolves, Pulls = mirror.Pulls }, at)
            : default));
        places.Add(entry.Location.Length == 0 ? Locate(registry, entry.IsInsecure, entry with { Prefix = registry }, name) : Locate(entry.Location, entry.IsInsecure, entry, name));
        return places;
    }

    // The part of the name that the prefix matched is replaced by the location.
    private (Place Place, string Repository) Locate(string location, bool insecure, Entry entry, string name)
    {
        string prefix = entry.Prefix.StartsWith("*.", StringComparison.Ordinal) ? name[..name.IndexOf('/', StringComparison.Ordinal)] : entry.Prefix;
        string full = location + name[prefix.Length..];
        int slash = full.IndexOf('/', StringComparison.Ordinal);
        if (slash <= 0 || slash == full.Length - 1 || location.Contains("://", StringComparison.Ordinal)
            || !Uri.TryCreate($"https://{full[..slash]}/", UriKind.Absolute, out Uri? secure) || secure.UserInfo.Length > 0)
        {
            throw new PullException(PullError.Usage, $"{file}: \"{location}\" is no location for {name} (HOST[:PORT][/PATH], without a scheme or user)");
        }

        string host = full[..slash];
        RegistryAddress address = insecure ? new RegistryAddress(secure, new Uri($"http://{host}/")) : RegistryAddress.Of(host, plainHttp: false);
        return (new Place(address, host) { SkipsVerification = insecure }, full[(slash + 1)..]);
    }

    private void Read(TomlTable root)
    {
        if (root["registries"] is TomlTable)
        {
            throw Toml.Error(file, root.Line, "this is version 1 of the format, with [registries.search]; only version 2, with [[registry]], is understood");
        }

        SearchRegistries = root["unqualified-search-registries"] is List<object> search ? [.. search.Select(one => String(one, root, "unqualified-search-registries"))] : null;
        foreach (object value in root["registry"] as List<object> ?? [])
        {
            entries.Add(ToEntry(value as TomlTable ?? throw Toml.Error(file, root.Line, "registry is no array of tables")));
        }
    }

    private Entry ToEntry(TomlTable table)
    {
        string location = Location(table, "location");
        string prefix = Location(table, "prefix");
        prefix = prefix.Length == 0 ? location : prefix;
        if (prefix.Length == 0 || (location.Length == 0 && !prefix.StartsWith("*.", StringComparison.Ordinal)))
        {
            throw Toml.Error(file, table.Line, "a registry has neither prefix nor location, or a prefix without a location");
        }

        bool digestsOnly = Flag(table, "mirror-by-digest-only");
        List<Mirror> mirrors = [];
        foreach (object value in table["mirror"] as List<object> ?? [])
        {
            TomlTable mirror = value as TomlTable ?? throw Toml.Error(file, table.Line, "mirror is no array of tables");
            string which = Text(mirror, "pull-from-mirror");
            if (which is not ("" or "all" or "digest-only" or "tag-only"))
            {
                throw Toml.Error(file, mirror.Line, $"pull-from-mirror is \"{which}\", not all, digest-only or tag-only");
            }

            mirrors.Add(new Mirror(
                Location(mirror, "location") is { Length: > 0 } at ? at : throw Toml.Error(file, mirror.Line, "a mirror has no location"),
                Flag(mirror, "insecure"),
                Resolves: !digestsOnly && which is "all" or "tag-only",
                Pulls: which != "tag-only"));
        }

        if (prefix.Contains('@', StringComparison.Ordinal) || (prefix.Contains('/', StringComparison.Ordinal) && prefix.LastIndexOf(':') > prefix.LastIndexOf('/')))
        {
            throw Toml.Error(file, table.Line, $"the prefix \"{prefix}\" has a tag or digest, which is not understood: it can only be for a whole repository");
        }

        return new Entry(prefix, location, Flag(table, "insecure"), Flag(table, "blocked"), mirrors);
    }

    // Left in, a scheme would make an entry that silently never matches, a blocked one too.
    private string Location(TomlTable table, string key) => Text(table, key) is var text && text.Contains("://", StringComparison.Ordinal)
        ? throw Toml.Error(file, table.Line, $"{key} is \"{text}\", which must be without a scheme")
        : text.TrimEnd('/');

    private string Text(TomlTable table, string key) => table[key] is { } value ? String(value, table, key) : "";

    private bool Flag(TomlTable table, string key) => table[key] switch
    {
        null => false,
        bool flag => flag,
        _ => throw Toml.Error(file, table.Line, $"{key} is not true or false"),
    };

    private string String(object value, TomlTable table, string key) => value as string ?? throw Toml.Error(file, table.Line, $"{key} is no string");

    /// <param name="Prefix">host, host/path or *.domain.</param>
    private sealed record Entry(string Prefix, string Location, bool IsInsecure, bool IsBlocked, IReadOnlyList<Mirror> Mirrors)
    {
        // only whole parts of a name match
        internal bool Matches(string name, string registry) => Prefix.StartsWith("*.", StringComparison.Ordinal)
            ? (Prefix.Contains(':', StringComparison.Ordinal) ? registry : registry.Split(':')[0]).EndsWith(Prefix[1..], StringComparison.OrdinalIgnoreCase)
            : name.StartsWith(Prefix, StringComparison.OrdinalIgnoreCase) && (name.Length == Prefix.Length || name[Prefix.Length] == '/');
    }

    private sealed record Mirror(string Location, bool IsInsecure, bool Resolves, bool Pulls);
}
