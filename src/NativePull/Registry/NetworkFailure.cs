using System.Globalization;
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
    internal static PullException Of(Exception failure, Uri address, bool stalled, RegistryOptions options)
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
                    return said;
                case AuthenticationException:
                    return new RegistryException(PullError.TlsOther, $"{place}: no TLS connection: {Innermost(cause)}");
                case TimeoutException or OperationCanceledException:
                    return Unavailable($"{place}: no connection within {Seconds(options.ConnectTimeout)}");
                default:
                    break;
            }
        }

        return Unavailable(failure switch
        {
            HttpRequestException { HttpRequestError: HttpRequestError.NameResolutionError } => $"{place}: the name {address.IdnHost} cannot be resolved: {Innermost(failure)}",
            HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError } or SocketException => $"{place}: cannot connect: {Innermost(failure)}",
            _ => $"{place}: the connection broke: {Innermost(failure)}",
        });
    }

    // The library's own words are inside the message, so the cause is not kept: it would say them twice.
    private static RegistryException Unavailable(string message) => new(PullError.Unavailable, message) { IsTransient = true };

    private static string Innermost(Exception failure) => failure.GetBaseException().Message.TrimEnd('.');

    private static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###} s");
}
