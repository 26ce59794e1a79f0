namespace NativePull.Registry;

/// <summary>containerd's hosts.toml (containerd, docs/hosts.md): where a registry's content is to be asked for, in the order of the file.</summary>
internal static class HostsToml
{
    private const string FileName = "hosts.toml";

    /// <returns>The mirrors, and last the registry itself; null where nothing is said about it.</returns>
    /// <exception cref="PullException">Usage: a file cannot be read or understood.</exception>
    internal static IReadOnlyList<Place>? Read(string directory, string registry, Place own)
    {
        // where a colon cannot be in a name, containerd writes host_port_
        int colon = registry.EndsWith(']') ? -1 : registry.LastIndexOf(':');
        string[] names = [registry, .. colon < 0 ? Array.Empty<string>() : [$"{registry[..colon]}_{registry[(colon + 1)..]}_"], "_default"];
        string? file = names.Select(name => Path.Combine(directory, name, FileName)).FirstOrDefault(File.Exists);
        if (file is null)
        {
            return Directory.Exists(directory) ? null : throw new PullException(PullError.Usage, $"{directory}: no such directory of hosts.toml files");
        }

        var reader = new Reader(file, registry);
        return reader.Read(own);
    }

    private sealed class Reader(string file, string registry)
    {
        internal IReadOnlyList<Place> Read(Place own)
        {
            TomlTable root = Load();
            var places = new List<Place>();
            foreach ((string address, object value) in (Optional<TomlTable>(root, "host", "a table") ?? new TomlTable(1)).Members)
            {
                TomlTable host = value as TomlTable ?? throw Toml.Error(file, root.Line, $"host.\"{address}\" is no table");
                places.Add(With(At(address, host), host, isMirror: true));
            }

            Place server = Optional<string>(root, "server", "a string") is { Length: > 0 } named ? At(named, root) : own;
            // under another name than its own it is another host, whose credentials are its own
            places.Add(With(RegistryAddress.IsSameOrigin(server.Address.Base, own.Address.Base) ? server with { Account = own.Account, Namespace = null } : server, root, isMirror: false));
            return places;
        }

        private TomlTable Load()
        {
            try
            {
                return Toml.Parse(file, File.ReadAllText(file));
            }
            catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
            {
                throw new PullException(PullError.Usage, $"{file}: cannot be read", unreadable);
            }
        }

        private Place At(string address, TomlTable host)
        {
            string full = address.Contains("://", StringComparison.Ordinal) ? address
                : $"{(Uri.TryCreate("http://" + address, UriKind.Absolute, out Uri? plain) && RegistryAddress.IsLoopback(plain.Host) ? "http" : "https")}://{address}";
            return Uri.TryCreate(full, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https" && uri.UserInfo.Length == 0
                ? Place.At(uri, Optional<object>(host, "override_path", "true or false") is true) with { Namespace = registry }
                : throw Toml.Error(file, host.Line, $"\"{address}\" is no address of a host");
        }

        private Place With(Place place, TomlTable host, bool isMirror)
        {
            string[]? capabilities = Optional<object>(host, "capabilities", "a list") is { } stated ? [.. Strings(stated, host, "capabilities")] : null;
            return place with
            {
                IsMirror = isMirror,
                Pulls = capabilities?.Contains("pull") ?? true,
                Resolves = capabilities?.Contains("resolve") ?? !isMirror, // what a tag means is nothing that could be verified: it must be said
                SkipsVerification = Optional<object>(host, "skip_verify", "true or false") is true,
                CaFiles = Optional<object>(host, "ca", "a path") is { } ca ? [.. Strings(ca, host, "ca").Select(Near)] : [],
                Client = Optional<object>(host, "client", "a path") is { } client ? Client(client, host) : null,
                Headers = Optional<TomlTable>(host, "header", "a table") is { } headers
                    ? [.. headers.Members.SelectMany(header => Strings(header.Value, headers, header.Key).Select(value => (header.Key, Usable(value, headers))))]
                    : [],
            };
        }

        // "both.pem", ["both.pem"], ["cert.pem", "key.pem"] is two of them in containerd; [["cert.pem", "key.pem"], …]: the first pair counts
        private (string, string) Client(object value, TomlTable host) => value switch
        {
            List<object> { Count: > 0 } list when list[0] is List<object> { Count: 2 } pair && pair[0] is string certificate && pair[1] is string key =>
                (Near(certificate), Near(key.Length == 0 ? certificate : key)),
            List<object> { Count: > 0 } list when list[0] is string first => (Near(first), Near(first)),
            string both => (Near(both), Near(both)),
            _ => throw Toml.Error(file, host.Line, "client is neither a path nor a list of pairs"),
        };

        private IEnumerable<string> Strings(object value, TomlTable host, string name) => value switch
        {
            string one => [one],
            List<object> list => list.Select(element => element as string ?? throw Toml.Error(file, host.Line, $"{name} holds something that is no string")),
            _ => throw Toml.Error(file, host.Line, $"{name} is neither a string nor a list of strings"),
        };

        private string Usable(string value, TomlTable headers) =>
            value.Any(char.IsControl) ? throw Toml.Error(file, headers.Line, "a header has a control character in it") : value;

        private string Near(string path) => Path.GetFullPath(path, Path.GetDirectoryName(Path.GetFullPath(file))!);

        private T? Optional<T>(TomlTable table, string key, string kind)
            where T : class => table[key] switch
            {
                null => null,
                T value => value,
                _ => throw Toml.Error(file, table.Line, $"{key} is not {kind}"),
            };
    }
}
