using System.Text;
using System.Text.Json;
using NativePull.IO;

namespace NativePull.Registry;

/// <summary>
/// What a registry says about a failure: its error list (distribution-spec, "Error Codes"), or one of the shapes that token
/// servers and proxies use instead. For people, but for the codes.
/// </summary>
/// <param name="Codes">The list's codes, upper case; empty where there is no list.</param>
/// <param name="Text">One line, printable, of bounded length; empty where nothing sensible was said.</param>
internal sealed record ErrorBody(IReadOnlyList<string> Codes, string Text)
{
    private const int MaximumBody = 64 * 1024; // bytes
    private const int MaximumText = 400; // characters
    private const int MaximumDetail = 160; // characters
    private const int ShortestSecret = 4; // characters; a shorter one would make stars of words

    // Docker Hub's token server says "details"; OAuth 2 (RFC 6749, 5.2) the first two; proxies "message"
    private static readonly string[] OtherMembers = ["error", "error_description", "message", "details"];

    private static readonly ErrorBody Nothing = new([], "");

    // nginx lets everybody finish the handshake and answers its 495 and 496 as a 400 with a page; ASCII, in its words since version 0.8
    private static readonly byte[][] AboutClientCertificates = ["No required SSL certificate was sent"u8.ToArray(), "The SSL certificate error"u8.ToArray()];

    /// <summary>A server that asked for a client certificate in vain, or does not take the one it was shown.</summary>
    internal bool WantsClientCertificate { get; private init; }

    /// <param name="secrets">What must not be in the text, should the server repeat it.</param>
    internal static async Task<ErrorBody> ReadAsync(Stream body, IReadOnlyList<string> secrets, CancellationToken token)
    {
        try
        {
            byte[] content = await BoundedRead.AllAsync(body, MaximumBody, "error", token);
            foreach (string secret in secrets.Where(secret => secret.Length >= ShortestSecret))
            {
                Mask(content, Encoding.UTF8.GetBytes(secret));
            }

            return Parse(content);
        }
        catch (PullException)
        {
            return Nothing; // the status was the answer; its explanation is longer than the limit, or broke off
        }
    }

    internal static ErrorBody Parse(byte[] body)
    {
        try
        {
            using var document = JsonDocument.Parse(body);
            return Read(document.RootElement);
        }
        catch (Exception noJson) when (noJson is JsonException or InvalidOperationException)
        {
            // the latter: text in it that is no Unicode
            string text = Encoding.UTF8.GetString(body).Trim();
            // a web page says nothing to a terminal
            return text.StartsWith('<')
                ? Nothing with { WantsClientCertificate = AboutClientCertificates.Any(words => body.AsSpan().IndexOf(words) >= 0) }
                : new ErrorBody([], OneLine(text, MaximumText));
        }
    }

    private static void Mask(Span<byte> content, ReadOnlySpan<byte> secret)
    {
        for (int at; (at = content.IndexOf(secret)) >= 0; content = content[(at + secret.Length)..])
        {
            content.Slice(at, secret.Length).Fill((byte)'*');
        }
    }

    private static ErrorBody Read(JsonElement root)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            return Nothing;
        }

        if (!root.TryGetProperty("errors", out JsonElement errors) || errors.ValueKind != JsonValueKind.Array)
        {
            string said = string.Join(": ", OtherMembers.Select(name => Member(root, name)).Where(text => text.Length > 0));
            return new ErrorBody([], OneLine(said, MaximumText));
        }

        var codes = new List<string>();
        var texts = new List<string>();
        foreach (JsonElement error in errors.EnumerateArray().Where(error => error.ValueKind == JsonValueKind.Object))
        {
            string code = OneLine(Member(error, "code"), MaximumDetail);
            codes.Add(code.ToUpperInvariant());
            string detail = OneLine(Detail(error), MaximumDetail);
            string message = OneLine(Member(error, "message"), MaximumDetail);
            texts.Add(string.Join(": ", new[] { code, message }.Where(text => text.Length > 0)) + (detail.Length == 0 || detail == message ? "" : $" ({detail})"));
        }

        return new ErrorBody(codes, OneLine(string.Join("; ", texts), MaximumText));
    }

    private static string Member(JsonElement of, string name) =>
        of.TryGetProperty(name, out JsonElement member) && member.ValueKind == JsonValueKind.String ? member.GetString()! : "";

    private static string Detail(JsonElement error) => !error.TryGetProperty("detail", out JsonElement detail) ? ""
        : detail.ValueKind switch
        {
            JsonValueKind.String => detail.GetString()!,
            JsonValueKind.Object or JsonValueKind.Array when detail.GetRawText() is var raw && raw is not ("{}" or "[]") => raw,
            _ => "",
        };

    // A stranger's text goes to a terminal: no control characters, no flood.
    private static string OneLine(string text, int most)
    {
        var line = new StringBuilder();
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (line.Length >= most)
            {
                return line.Append('…').ToString();
            }

            line.Append(Rune.IsControl(rune) || Rune.IsWhiteSpace(rune) ? " " : rune.ToString());
        }

        return line.ToString().Trim();
    }
}
