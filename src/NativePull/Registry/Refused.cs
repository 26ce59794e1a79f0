using System.Globalization;
using System.Net.Http.Headers;

namespace NativePull.Registry;

/// <summary>An answer that is not what was asked for, as a failure: the registry's own code decides before the status.</summary>
internal static class Refused
{
    /// <summary>Reads the answer's error body.</summary>
    /// <param name="who">Who asked; told where the answer is about that.</param>
    internal static async Task<RegistryException> OfAsync(Answer answer, Stream body, Account who, TimeProvider clock, CancellationToken token) =>
        Of(answer, await ErrorBody.ReadAsync(body, answer.Secrets, token), who, clock);

    private static RegistryException Of(Answer answer, ErrorBody said, Account who, TimeProvider clock)
    {
        int status = (int)answer.Status;
        if (status == 400 && said.WantsClientCertificate)
        {
            return new RegistryException(PullError.TlsOther, $"{RegistryAddress.Shown(answer.Address)}: the server wants a client certificate that it accepts (it answered 400)") { Status = answer.Status };
        }

        // the code of distribution-spec, "Error Codes", comes with 400 and 403 as well; GitHub limits with a 403 that names a wait
        TimeSpan? wait = RetryAfter(answer.Response, clock);
        bool isRateLimit = status == 429 || said.Codes.Contains("TOOMANYREQUESTS") || (status == 403 && wait is not null);
        string reason = string.IsNullOrEmpty(answer.Response.ReasonPhrase) ? "" : " " + answer.Response.ReasonPhrase;
        string text = (said.Text.Length == 0 ? "" : ": " + said.Text)
            + (status is 401 or 403 && answer.IsOwn ? $" ({who.Sent})" : status == 407 ? ProxySettings.WhatIsKnown : "");
        string whom = $"{(status == 407 ? "the proxy before " : "")}{RegistryAddress.Shown(answer.Address)}";
        return new RegistryException(isRateLimit ? PullError.RateLimited : Reason(status, said.Codes), $"{whom} answered {status.ToString(CultureInfo.InvariantCulture)}{reason}{text}")
        {
            Status = answer.Status,
            IsTransient = isRateLimit || status is 408 or 425 || (status >= 500 && status is not (501 or 505)),
            RetryAfter = wait,
        };
    }

    private static PullError Reason(int status, IReadOnlyList<string> codes) => status switch
    {
        >= 500 => PullError.Unavailable,
        401 or 407 => PullError.Unauthorized,
        403 => PullError.Denied,
        404 or 410 => PullError.NotFound,
        _ when codes.Any(code => code is "MANIFEST_UNKNOWN" or "NAME_UNKNOWN" or "BLOB_UNKNOWN") => PullError.NotFound,
        451 => PullError.Denied,
        _ => PullError.Unavailable,
    };

    // A number that the library does not read for its length is at least as long as the longest that it does.
    private static TimeSpan? Endless(HttpResponseMessage response) =>
        response.Headers.NonValidated.TryGetValues("Retry-After", out HeaderStringValues values) && values.ToString() is { Length: > 0 } text && text.All(char.IsAsciiDigit)
            ? TimeSpan.FromSeconds(int.MaxValue)
            : null;

    // A date is compared with the server's own, for at boot our clock may be years off.
    private static TimeSpan? RetryAfter(HttpResponseMessage response, TimeProvider clock)
    {
        TimeSpan? wait = response.Headers.RetryAfter switch
        {
            { Delta: { } delta } => delta,
            { Date: { } date } => date - (response.Headers.Date ?? clock.GetUtcNow()),
            _ => Endless(response),
        };
        return wait > TimeSpan.Zero ? wait : null;
    }
}
