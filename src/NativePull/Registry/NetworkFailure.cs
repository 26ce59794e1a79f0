using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;

namespace NativePull.Registry;

/// <summary>Turns what the network library throws into our own words, so that any other IOException means this machine.</summary>
internal static class NetworkFailure
{
    internal static bool Is(Exception failure) =>
        failure is HttpRequestException or IOException or SocketException or OperationCanceledException or AuthenticationException;

    /// <param name="failure">One that <see cref="Is"/> said yes to. The caller's own cancellation has been looked for before.</param>
    /// <param name="stalled">Our guard ended it.</param>
    internal static RegistryException Of(Exception failure, Uri address, bool stalled, RegistryOptions options)
    {
        string place = RegistryAddress.Shown(address);
        if (stalled)
        {
            return new RegistryException(PullError.Stalled, $"{place}: no byte for {Seconds(options.StallTimeout)}") { IsTransient = true };
        }

        for (Exception? cause = failure; cause is not null; cause = cause.InnerException)
        {
            switch (cause)
            {
                case PullException said:
                    return said as RegistryException ?? new RegistryException(said.Reason, said.Message, said.InnerException);
                case AuthenticationException:
                    string hint = Innermost(cause).Contains("frame", StringComparison.Ordinal) ? " (what came was no TLS: a registry without it needs --plain-http)" : "";
                    return new RegistryException(PullError.TlsOther, $"{place}: no TLS connection: {Innermost(cause)}{hint}");
                case TimeoutException or OperationCanceledException:
                    return Unavailable($"{place}: no connection within {Seconds(options.ConnectTimeout)}");
                default:
                    break;
            }
        }

        if (failure is HttpRequestException { HttpRequestError: HttpRequestError.ProxyTunnelError } tunnel)
        {
            return OfProxy(tunnel, place);
        }

        if (Innermost(failure).Contains("certificate required", StringComparison.OrdinalIgnoreCase))
        {
            // an alert of TLS 1.3 comes after the handshake, with the first bytes (RFC 8446, 6.2: certificate_required)
            return new RegistryException(PullError.TlsOther, $"{place}: the server wants a client certificate");
        }

        return failure.GetBaseException() is SocketException socket
            ? OfSocket(failure, socket.SocketErrorCode, options.Proxy?.GetProxy(address), address, place)
            : Unavailable($"{place}: the connection broke: {Innermost(failure)}");
    }

    /// <summary>It says more about this machine, or its way into the network, than about a peer.</summary>
    internal static bool IsNoNetwork(SocketError error) => IsNameFailure(error)
        || error is SocketError.NetworkUnreachable or SocketError.HostUnreachable or SocketError.NetworkDown or SocketError.AddressNotAvailable;

    private static bool IsNameFailure(SocketError error) =>
        error is SocketError.HostNotFound or SocketError.TryAgain or SocketError.NoData or SocketError.NoRecovery;

    private static RegistryException OfProxy(HttpRequestException failure, string place) => new(
        failure.StatusCode is HttpStatusCode.ProxyAuthenticationRequired ? PullError.Unauthorized : failure.StatusCode is HttpStatusCode.Forbidden ? PullError.Denied : PullError.Unavailable,
        $"{place}: the proxy gives no way there: {(failure.StatusCode is { } status ? OfProxyStatus(status) : Innermost(failure))}")
    {
        Status = failure.StatusCode,
        IsTransient = failure.StatusCode is null or >= HttpStatusCode.InternalServerError,
    };

    private static string OfProxyStatus(HttpStatusCode status) =>
        $"it answered {(int)status}{(status == HttpStatusCode.ProxyAuthenticationRequired ? ProxySettings.WhatIsKnown : "")}";

    /// <param name="proxy">Whom the socket was for; null: the address itself.</param>
    private static RegistryException OfSocket(Exception failure, SocketError error, Uri? proxy, Uri address, string place)
    {
        bool isOfConnecting = failure is SocketException or HttpRequestException
        {
            HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.ProxyTunnelError or HttpRequestError.NameResolutionError,
        };
        string by = proxy is null ? "" : $" (proxy {RegistryAddress.Shown(proxy)})";
        string why = IsNameFailure(error) ? $"the name {(proxy ?? address).IdnHost} cannot be resolved{by}"
            : (isOfConnecting || IsNoNetwork(error) ? "cannot connect" : "the connection broke") + by;
        return new RegistryException(PullError.Unavailable, $"{place}: {why}: {Innermost(failure)}") { IsTransient = true, IsNoNetwork = IsNoNetwork(error) };
    }

    // The library's own words are inside the message, so the cause is not kept: it would say them twice.
    private static RegistryException Unavailable(string message) => new(PullError.Unavailable, message) { IsTransient = true };

    /// <summary>Bytes come, but so few that another connection costs less.</summary>
    internal static RegistryException TooSlow(Uri address, long bytes, RegistryOptions options) => new(
        PullError.Stalled,
        string.Create(CultureInfo.InvariantCulture, $"{RegistryAddress.Shown(address)}: {bytes} bytes in {Seconds(options.StallTimeout)}, less than {options.MinimumRate} a second"))
    {
        IsTransient = true,
    };

    private static string Innermost(Exception failure) => failure.GetBaseException().Message.TrimEnd('.');

    private static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###} s");
}
