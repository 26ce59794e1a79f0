using System.Net;

namespace NativePull.Registry;

/// <summary>Where a registry's API is, from the name that references use.</summary>
/// <param name="Base">Scheme, host and port; ends in "/".</param>
/// <param name="Plain">The same without TLS, for a loopback registry that turns out not to speak it; null: never.</param>
internal sealed record RegistryAddress(Uri Base, Uri? Plain)
{
    internal const string DockerHub = "docker.io";
    internal const string DockerHubHost = "registry-1.docker.io"; // Docker Hub's API is not at the name of its references

    private const int LongestShown = 512; // characters; a repository has 255 at most, a digest 136

    internal static RegistryAddress Of(string registry, bool plainHttp)
    {
        string host = registry == DockerHub ? DockerHubHost : registry;
        var plain = new Uri($"http://{host}/");
        return plainHttp
            ? new RegistryAddress(plain, null)
            : new RegistryAddress(new Uri($"https://{host}/"), IsLoopback(plain.Host) ? plain : null);
    }

    /// <summary>localhost, 127.0.0.0/8, ::1; IPv6 with or without brackets.</summary>
    internal static bool IsLoopback(string host) => IsLocalhost(host)
        || (IPAddress.TryParse(host.Trim('[', ']'), out IPAddress? address) && IPAddress.IsLoopback(address));

    /// <summary>The name that must work without a resolver and without /etc/hosts.</summary>
    internal static bool IsLocalhost(string host) => host.Equals("localhost", StringComparison.OrdinalIgnoreCase);

    internal static bool IsSameOrigin(Uri one, Uri other) =>
        one.Scheme == other.Scheme && one.Port == other.Port && one.Host.Equals(other.Host, StringComparison.OrdinalIgnoreCase);

    /// <summary>An address as messages show it: without user information, query and fragment, which may be secrets, and not all of one that is very long.</summary>
    internal static string Shown(Uri address)
    {
        string shown = address.GetComponents(UriComponents.SchemeAndServer, UriFormat.UriEscaped) + address.AbsolutePath;
        return shown.Length > LongestShown ? shown[..LongestShown] + "…" : shown;
    }
}
