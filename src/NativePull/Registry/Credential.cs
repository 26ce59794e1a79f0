using System.Text;

namespace NativePull.Registry;

/// <summary>Who we are to one registry.</summary>
internal sealed record Credential(string Username, string Password)
{
    /// <summary>What credential helpers give for a user whose secret is an identity token (docker-credential-helpers, "get").</summary>
    internal const string IdentityTokenUser = "<token>";

    /// <summary>A refresh token for the realm (distribution, "OAuth 2"), used instead of the password; null: none.</summary>
    internal string? IdentityToken { get; init; }

    /// <summary>A bearer token for the registry itself: no realm is asked; null: none.</summary>
    internal string? RegistryToken { get; init; }

    /// <summary>The parameter of "Authorization: Basic" (RFC 7617, in UTF-8).</summary>
    internal string Encoded => Convert.ToBase64String(Encoding.UTF8.GetBytes($"{Username}:{Password}"));

    /// <summary>As messages say it.</summary>
    internal string Shown => RegistryToken is not null ? "a registry token" : IdentityToken is not null ? "an identity token" : $"the credentials of user {Username}";

    internal static Credential OfUser(string username, string secret) =>
        username == IdentityTokenUser ? new Credential("", "") { IdentityToken = secret } : new Credential(username, secret);

    internal static Credential OfRegistryToken(string token) => new("", "") { RegistryToken = token };

    /// <summary>Without anything secret: this may end in a log.</summary>
    public override string ToString() => Username.Length > 0 ? $"user {Username}" : Shown;
}

/// <summary>What is known about us for one request.</summary>
/// <param name="Credential">Null: nobody.</param>
/// <param name="Trouble">Why a credential helper gave none; null where none failed.</param>
internal sealed record Account(Credential? Credential, string? Trouble)
{
    internal static Account Nobody { get; } = new(null, null);

    /// <summary>For a message about a refusal.</summary>
    internal string Sent => (Credential is null ? "no credentials were sent" : $"{Credential.Shown} {(Credential.Username.Length > 0 && Credential.IdentityToken is null ? "were" : "was")} sent")
        + (Trouble is null ? "" : $"; {Trouble}");
}
