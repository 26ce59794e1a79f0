using System.CommandLine;
using System.Text.Json;
using NativePull.Oci;
using NativePull.Registry;

namespace NativePull.Cli;

/// <summary><c>tags</c>: one a line, to the end of the list, as the pages come.</summary>
internal static class TagsCommand
{
    private const int MaximumDocument = 64 * 1024 * 1024; // bytes; a document comes whole or not at all, so it is held in memory

    internal static Command Tags(Options options)
    {
        Argument<string> repository = new("REPOSITORY") { Description = "[REGISTRY/]REPOSITORY" };
        Option<string?> last = new("--last") { HelpName = "TAG", Description = "Begin behind this tag" };
        Option<int> pageSize = new("--page-size") { HelpName = "N", Description = "Tags asked for at once, 1 to 10000 (default: 1000)", DefaultValueFactory = _ => 1000 };
        pageSize.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && (!int.TryParse(result.Tokens[0].Value, out int size) || size is < 1 or > 10_000))
            {
                result.AddError($"--page-size: \"{result.Tokens[0].Value}\" is not a number from 1 to 10000");
            }
        });
        Command command = new("tags", "Print the tags of a repository") { repository, last, pageSize };
        Array.ForEach([.. options.Common, .. options.Network], command.Add);
        command.SetAction((parsed, _) => Session.RunAsync(parsed, options, [parsed.GetValue(repository)!], (session, reference) =>
            PrintAsync(session, parsed.GetValue(repository)!, reference, parsed.GetValue(pageSize), parsed.GetValue(last))));
        return command;
    }

    private static async Task PrintAsync(Session session, string text, Reference reference, int pageSize, string? last)
    {
        // typed, not completed
        if (reference.Digest is not null || text.EndsWith(":" + reference.Tag, StringComparison.Ordinal))
        {
            throw new PullException(PullError.Usage, $"\"{text}\": tags takes a repository, without tag or digest");
        }

        MemoryStream? document = session.Json ? new MemoryStream() : null;
        using Utf8JsonWriter? json = document is null ? null : Begin(document, reference.Name);
        await foreach (TagPage page in session.Registry(reference.Registry).ListTagsAsync(reference.Repository, pageSize, last, session.Token))
        {
            if (json is null)
            {
                // whoever has seen enough of a long list goes away, and need not wait for its end
                if (!Output.TryStream(page.Lines.Span))
                {
                    return;
                }
            }
            else
            {
                Add(json, page);
                if (document!.Length > MaximumDocument) // there is one where there is a writer
                {
                    throw new PullException(PullError.LimitPassed, $"{reference.Name}: more than {MaximumDocument} bytes of tags for one JSON document; without --json they are printed as they come");
                }
            }
        }

        if (json is not null)
        {
            json.WriteEndArray();
            json.WriteEndObject();
            json.Flush();
            document!.WriteByte((byte)'\n');
            Output.Result(document.GetBuffer().AsSpan(0, (int)document.Length));
        }
    }

    private static Utf8JsonWriter Begin(MemoryStream document, string name)
    {
        Utf8JsonWriter json = new(document);
        json.WriteStartObject();
        json.WriteNumber("schema", ResultJson.Schema);
        json.WriteString("name", name);
        json.WriteStartArray("tags");
        return json;
    }

    private static void Add(Utf8JsonWriter json, TagPage page)
    {
        ReadOnlySpan<byte> rest = page.Lines.Span;
        for (int end; (end = rest.IndexOf((byte)'\n')) >= 0; rest = rest[(end + 1)..])
        {
            json.WriteStringValue(rest[..end]);
        }

        json.Flush();
    }
}
