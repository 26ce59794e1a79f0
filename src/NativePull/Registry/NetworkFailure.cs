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
            return new RegistryException(PullError.Stalled, $"{place}: no byte for {Seconds(options.StallTimeout)}", null) { IsTransient = true };
        }

        for (Exception? cause = failure; cause is not null; cause = cause.InnerException)
        {
            switch (cause)
            {
                case PullException said:
                    return said;
                case AuthenticationException:
                    return new RegistryException(PullError.TlsOther, $"{place}: no TLS connection: {cause.InnerException?.Message ?? cause.Message}", failure);
                case TimeoutException:
                    return Unavailable($"{place}: no connection within {Seconds(options.ConnectTimeout)}", failure);
                default:
                    break;
            }
        }

        string reason = failure switch
        {
            HttpRequestException { HttpRequestError: HttpRequestError.NameResolutionError } => $"the name {address.IdnHost} cannot be resolved",
            HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError } or SocketException => $"cannot connect: {Innermost(failure)}",
            _ => $"the connection broke: {Innermost(failure)}",
        };
        return Unavailable($"{place}: {reason}", failure);
    }

    private static RegistryException Unavailable(string message, Exception inner) => new(PullError.Unavailable, message, inner) { IsTransient = true };

    private static string Innermost(Exception failure) => failure.GetBaseException().Message;

    private static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###} s");
}
