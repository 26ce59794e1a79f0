using System.Globalization;
using System.Net.Security;
using System.Text;
using System.Text.RegularExpressions;
using NativePull.Oci;

namespace NativePull.Tests.Fakes;

/// <summary>How a fake registry wants to be signed in to.</summary>
internal sealed record FakeAuth
{
    /// <summary>Basic at the registry itself; else bearer tokens from the token server.</summary>
    internal bool IsBasic { get; init; }

    /// <summary>Whom the registry, or its token server, lets in; null: anybody.</summary>
    internal string? User { get; init; }

    internal string Password { get; init; } = "";

    /// <summary>What a POST of grant_type=refresh_token must bring; null: no such way in.</summary>
    internal string? IdentityToken { get; init; }

    /// <summary>Instead of an answer to a POST (404 and 405: the way is not known); null: it is answered.</summary>
    internal int? PostStatus { get; init; }

    /// <summary>Instead of an answer to a GET; null: it is answered.</summary>
    internal int? GetStatus { get; init; }

    /// <summary>The WWW-Authenticate header; {realm} and {scope} are filled in.</summary>
    internal string Challenge { get; init; } = "Bearer realm=\"{realm}\",service=\"fake\",scope=\"{scope}\"";

    /// <summary>The token server's answer; {token} is filled in.</summary>
    internal string TokenAnswer { get; init; } = "{\"token\":\"{token}\"}";
}

/// <summary>
/// A registry on a loopback port (distribution-spec, "Pull"), with a second port where its blobs may be stored ("cdn") and a third
/// that gives tokens. Strict where real ones are: a manifest is only for those whose Accept names its type, and the storage
/// refuses a request that carries an Authorization.
/// </summary>
internal sealed partial class FakeRegistry : IAsyncDisposable
{
    private readonly Lock gate = new();
    private readonly Dictionary<string, FakeContent> blobs = [];
    private readonly Dictionary<string, (FakeContent Content, string MediaType)> manifests = [];
    private readonly List<SeenRequest> requests = [];
    private readonly HashSet<string> tokens = [];
    private readonly Dictionary<string, int> links = [];
    private int issued;
    private int atOnce;
    private FakeHttp? registry;
    private FakeHttp? cdn;
    private FakeHttp? tokenServer;

    /// <summary>TLS on all three ports; null: none.</summary>
    internal SslStreamCertificateContext? Certificate { get; init; }

    /// <summary>Null: everyone may read.</summary>
    internal FakeAuth? Auth { get; init; }

    /// <summary>Blobs are answered with 307 to the second port.</summary>
    internal bool HasStorage { get; init; }

    /// <summary>HOST:PORT to which the registry sends for its blobs; null: the second port.</summary>
    internal string? StorageAddress { get; set; }

    /// <summary>Requests that a signed link is good for; null: any number.</summary>
    internal int? LinkUses { get; init; }

    internal bool IsSilentToTls { get; init; }

    /// <summary>The registry wants a client certificate of this issuer; its storage asks for one, and serves without.</summary>
    internal string? ClientIssuer { get; init; }

    internal IReadOnlyList<string> ClientsSeenByStorage => cdn!.ClientsSeen;

    /// <summary>Of every repository.</summary>
    internal string[] Tags { get; init; } = [];

    /// <summary>The most a page has.</summary>
    internal int TagPageSize { get; init; } = 1000;

    /// <summary>Blobs sent at once, over all connections; to who asks for another <see cref="Busy"/> happens.</summary>
    internal int MostAtOnce { get; init; } = int.MaxValue;

    internal Fault Busy { get; init; } = new();

    internal Faults Faults { get; } = new();

    /// <summary>"127.0.0.1:port": what references name.</summary>
    internal string Address => registry!.Address;

    internal string Url => registry!.Url;

    internal int Port => registry!.Port;

    internal string StorageUrl => cdn!.Url.Replace(cdn.Address, StorageAddress ?? cdn.Address, StringComparison.Ordinal);

    internal int StoragePort => cdn!.Port;

    internal string TokenUrl => tokenServer!.Url;

    /// <summary>All that were made so far, of all three servers, in order.</summary>
    internal IReadOnlyList<SeenRequest> Requests
    {
        get
        {
            lock (gate)
            {
                return [.. requests];
            }
        }
    }

    internal FakeRegistry Start()
    {
        cdn = new FakeHttp("cdn", Certificate, request => Answer(request, StorageAnswer)) { ClientIssuer = HasStorage ? ClientIssuer : null, LetsEveryoneIn = true };
        tokenServer = new FakeHttp("token", Certificate, request => Answer(request, TokenAnswer));
        registry = new FakeHttp("registry", Certificate, request => Answer(request, RegistryAnswer))
        {
            IsSilentToTls = IsSilentToTls,
            ClientIssuer = ClientIssuer,
            SendBuffer = MostAtOnce < int.MaxValue ? 64 * 1024 : null, // what is sent is then about what was read
        };
        return this;
    }

    internal Descriptor AddBlob(string repository, FakeContent content, string mediaType = "application/vnd.oci.image.layer.v1.tar")
    {
        lock (gate)
        {
            blobs[$"{repository}@{content.Digest}"] = content;
        }

        return new Descriptor(mediaType, content.Digest, content.Length);
    }

    internal Descriptor AddBlob(string repository, byte[] content, string mediaType = "application/vnd.oci.image.layer.v1.tar") =>
        AddBlob(repository, FakeContent.Of(content), mediaType);

    /// <summary>Under its digest, and under a tag if one is given.</summary>
    internal Descriptor AddManifest(string repository, string? tag, byte[] content, string mediaType)
    {
        var stored = FakeContent.Of(content);
        lock (gate)
        {
            manifests[$"{repository}@{stored.Digest}"] = (stored, mediaType);
            if (tag is not null)
            {
                manifests[$"{repository}@{tag}"] = (stored, mediaType);
            }
        }

        return new Descriptor(mediaType, stored.Digest, stored.Length);
    }

    /// <summary>Bytes of a manifest that was added.</summary>
    internal long SizeOf(string repository, Digest manifest) => manifests[$"{repository}@{manifest}"].Content.Length;

    /// <summary>The same content under another name: a digest of another algorithm, or a lie.</summary>
    internal void AddManifestAs(string repository, string selector, byte[] content, string mediaType)
    {
        lock (gate)
        {
            manifests[$"{repository}@{selector}"] = (FakeContent.Of(content), mediaType);
        }
    }

    /// <summary>Every token given so far is refused from now on.</summary>
    internal void ExpireTokens()
    {
        lock (gate)
        {
            tokens.Clear();
        }
    }

    internal IReadOnlyList<SeenRequest> RequestsOf(string server) => [.. Requests.Where(request => request.Server == server)];

    public async ValueTask DisposeAsync()
    {
        if (registry is not null && cdn is not null && tokenServer is not null)
        {
            await registry.DisposeAsync();
            await cdn.DisposeAsync();
            await tokenServer.DisposeAsync();
        }
    }

    private FakeAnswer? Answer(SeenRequest request, Func<SeenRequest, Fault, FakeAnswer> due)
    {
        Fault fault = Faults.Take($"{request.Server} {request.Path}", request["Range"]) ?? new Fault();
        fault.BeforeAnswer?.Invoke();
        lock (gate)
        {
            requests.Add(request);
            FakeAnswer answer = fault switch
            {
                { RedirectTo: { } location } => Text(fault.RedirectStatus, "", ("Location", location)),
                { Status: { } status } => Text(status, fault.Body),
                _ => due(request, fault),
            };
            answer = answer with { Fault = fault };
            return answer.Status is 200 or 206 && blobs.ContainsValue(answer.Content) ? Counted(request, answer) : answer;
        }
    }

    private FakeAnswer Counted(SeenRequest request, FakeAnswer answer)
    {
        if (atOnce >= MostAtOnce)
        {
            return Text(Busy.Status ?? 200, Busy.Body) with { Fault = Busy };
        }

        request.AtOnce = ++atOnce;
        bool isOver = false;
        return answer with
        {
            Ending = () =>
            {
                lock (gate)
                {
                    atOnce -= isOver ? 0 : 1;
                    isOver = true;
                }
            },
        };
    }

    private FakeAnswer RegistryAnswer(SeenRequest request, Fault fault)
    {
        Match path = ApiPath().Match(request.Path);
        string repository = path.Groups["repository"].Value;
        if (!IsLetIn(request))
        {
            string challenge = Auth!.IsBasic
                ? "Basic realm=\"fake\""
                : Auth.Challenge.Replace("{realm}", $"{TokenUrl}/token", StringComparison.Ordinal).Replace("{scope}", repository.Length == 0 ? "" : $"repository:{repository}:pull", StringComparison.Ordinal);
            return Text(401, Error("UNAUTHORIZED", "authentication required"), ("WWW-Authenticate", challenge));
        }

        if (request.Path == "/v2/")
        {
            return Text(200, "{}");
        }

        if (request.Path.Contains("/tags/list", StringComparison.Ordinal))
        {
            return TagsAnswer(request);
        }

        string key = $"{repository}@{path.Groups["selector"].Value}";
        if (path.Groups["kind"].Value == "manifests" && manifests.TryGetValue(key, out (FakeContent Content, string MediaType) manifest))
        {
            return request["Accept"]?.Contains(manifest.MediaType, StringComparison.Ordinal) == true
                ? new FakeAnswer(200, manifest.Content)
                {
                    Headers = { ["Content-Type"] = manifest.MediaType, ["Docker-Content-Digest"] = manifest.Content.Digest.ToString() },
                }
                : Text(404, Error("MANIFEST_UNKNOWN", $"OCI index found, but Accept header does not support {manifest.MediaType}"));
        }

        if (path.Groups["kind"].Value == "blobs" && blobs.TryGetValue(key, out FakeContent? blob))
        {
            return HasStorage
                ? Text(307, "", ("Location", $"{StorageUrl}/data/{key}?{NewLink()}"))
                : Stretch(request, blob, fault);
        }

        return path.Groups["kind"].Value == "manifests"
            ? Text(404, Error("MANIFEST_UNKNOWN", "manifest unknown"))
            : Text(404, Error("BLOB_UNKNOWN", "blob unknown to registry"));
    }

    // Sorted, at most n of them and at most TagPageSize; a Link while there are more.
    private FakeAnswer TagsAnswer(SeenRequest request)
    {
        Dictionary<string, string> query = request.Path.Split('?')[^1].Split('&').Select(part => part.Split('=')).ToDictionary(part => part[0], part => part[^1]);
        int size = Math.Min(TagPageSize, int.Parse(query.GetValueOrDefault("n", "1000"), CultureInfo.InvariantCulture));
        string[] rest = [.. Tags.Order(StringComparer.Ordinal).Where(tag => string.CompareOrdinal(tag, query.GetValueOrDefault("last", "")) > 0)];
        FakeAnswer answer = Text(200, $$"""{"name":"x","tags":[{{string.Join(',', rest.Take(size).Select(tag => $"\"{tag}\""))}}]}""");
        if (rest.Length > size)
        {
            answer.Headers["Link"] = $"<{request.Path.Split('?')[0]}?last={rest[size - 1]}&n={size}>; rel=\"next\"";
        }

        return answer;
    }

    private FakeAnswer StorageAnswer(SeenRequest request, Fault fault)
    {
        if (request["Authorization"] is not null)
        {
            return Text(400, "<Error>only one way to sign in is allowed</Error>");
        }

        string link = request.Path[(request.Path.IndexOf('?', StringComparison.Ordinal) + 1)..];
        if (LinkUses is { } uses && (!links.TryGetValue(link, out int used) || (links[link] = used + 1) > uses))
        {
            return Text(403, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>");
        }

        return blobs.TryGetValue(request.Path.Split('?')[0]["/data/".Length..], out FakeContent? blob)
            ? Stretch(request, blob, fault)
            : Text(404, "<Error>NoSuchKey</Error>");
    }

    private FakeAnswer TokenAnswer(SeenRequest request, Fault fault)
    {
        bool isPost = request.Method == "POST";
        if ((isPost ? Auth?.PostStatus : Auth?.GetStatus) is { } status)
        {
            return Text(status, "no such way in");
        }

        if (Auth is null || (isPost ? !IsLetInByPost(request) : (Auth.User is not null && request["Authorization"] != Basic())))
        {
            return Text(401, "{\"details\":\"incorrect username or password\"}");
        }

        string token = string.Create(CultureInfo.InvariantCulture, $"token-{++issued}");
        tokens.Add(token);
        return Text(200, Auth.TokenAnswer.Replace("{token}", token, StringComparison.Ordinal));
    }

    private string NewLink()
    {
        string link = LinkUses is null ? "signature=secret" : string.Create(CultureInfo.InvariantCulture, $"signature=secret{links.Count}");
        links[link] = 0;
        return link;
    }

    private bool IsLetInByPost(SeenRequest request)
    {
        Dictionary<string, string> form = request.Body.Split('&').Select(field => field.Split('=')).ToDictionary(field => field[0], field => Uri.UnescapeDataString(field[1].Replace('+', ' ')));
        return form.GetValueOrDefault("grant_type") == "refresh_token"
            ? Auth!.IdentityToken is not null && form.GetValueOrDefault("refresh_token") == Auth.IdentityToken
            : form.GetValueOrDefault("username") == Auth!.User && form.GetValueOrDefault("password") == Auth.Password;
    }

    private bool IsLetIn(SeenRequest request) => Auth is null
        || (Auth.IsBasic
            ? request["Authorization"] == Basic()
            : request["Authorization"] is { } header && header.StartsWith("Bearer ", StringComparison.Ordinal) && tokens.Contains(header["Bearer ".Length..]));

    private string Basic() => "Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes($"{Auth!.User}:{Auth.Password}"));

    private static FakeAnswer Stretch(SeenRequest request, FakeContent blob, Fault fault)
    {
        Match range = Range().Match(request["Range"] ?? "");
        if (!range.Success || fault.IgnoreRange)
        {
            return new FakeAnswer(200, blob) { Headers = { ["Content-Type"] = "application/octet-stream" } };
        }

        long from = fault.RangeFrom ?? long.Parse(range.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
        long end = range.Groups[2].Length > 0 ? Math.Min(blob.Length, long.Parse(range.Groups[2].ValueSpan, CultureInfo.InvariantCulture) + 1) : blob.Length;
        return from >= blob.Length
            ? Text(416, "", ("Content-Range", $"bytes */{blob.Length}"))
            : new FakeAnswer(206, blob)
            {
                From = from,
                End = end,
                Headers = { ["Content-Range"] = fault.ContentRange ?? $"bytes {from}-{end - 1}/{blob.Length}" },
            };
    }

    private static FakeAnswer Text(int status, string body, params (string Name, string Value)[] headers)
    {
        var answer = new FakeAnswer(status, FakeContent.Of(Encoding.UTF8.GetBytes(body)));
        foreach ((string name, string value) in headers)
        {
            answer.Headers[name] = value;
        }

        return answer;
    }

    private static string Error(string code, string message) => $$"""{"errors":[{"code":"{{code}}","message":"{{message}}","detail":null}]}""";

    [GeneratedRegex(@"^/v2/(?<repository>.+)/(?<kind>manifests|blobs|tags)/(?<selector>[^/?]+)")]
    private static partial Regex ApiPath();

    [GeneratedRegex(@"^bytes=([0-9]+)-([0-9]*)$")]
    private static partial Regex Range();
}
