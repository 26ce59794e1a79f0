using System.Globalization;
using System.Net;

namespace NativePull.Registry;

/// <summary>
/// NO_PROXY, as Go's programs read it (golang.org/x/net/http/httpproxy): names with what is below them, ".x" and "*.x" only what is below, "*"
/// everything, addresses, networks in CIDR; each but a network may name a port. .NET's own reading knows few of these.
/// </summary>
internal sealed class ProxyExceptions(string list)
{
    private readonly IReadOnlyList<string> entries = [.. list.Split([',', ' ', '\t', '\n', '\r', ';'], StringSplitOptions.RemoveEmptyEntries)];

    /// <param name="host">A name, or an address with or without brackets.</param>
    internal bool Match(string host, int port)
    {
        string name = host.Trim('[', ']').TrimEnd('.');
        IPAddress? address = IPAddress.TryParse(name, out IPAddress? parsed) ? Plain(parsed) : null;
        return entries.Any(entry => entry == "*" || Match(entry, name, address, port));
    }

    private static bool Match(string entry, string name, IPAddress? address, int port)
    {
        if (IPNetwork.TryParse(entry, out IPNetwork network))
        {
            return address is not null && network.BaseAddress.AddressFamily == address.AddressFamily && network.Contains(address);
        }

        (string host, int? only) = Split(entry);
        if (only is not null && only != port)
        {
            return false;
        }

        if (IPAddress.TryParse(host, out IPAddress? single))
        {
            return address is not null && Plain(single).Equals(address);
        }

        if (address is not null || host.Length == 0)
        {
            return false;
        }

        string suffix = host.StartsWith("*.", StringComparison.Ordinal) ? host[1..] : host;
        return suffix[0] == '.'
            ? name.EndsWith(suffix, StringComparison.OrdinalIgnoreCase)
            : name.Equals(suffix, StringComparison.OrdinalIgnoreCase) || name.EndsWith("." + suffix, StringComparison.OrdinalIgnoreCase);
    }

    // An IPv6 address without brackets has colons of its own.
    private static (string Host, int? Port) Split(string entry)
    {
        int colon = entry.LastIndexOf(':');
        bool hasPort = colon >= 0 && (entry.IndexOf(':', StringComparison.Ordinal) == colon || entry[colon - 1] == ']');
        return hasPort && int.TryParse(entry.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int port)
            ? (entry[..colon].Trim('[', ']').TrimEnd('.'), port)
            : (entry.Trim('[', ']').TrimEnd('.'), null);
    }

    private static IPAddress Plain(IPAddress address) => address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
}
