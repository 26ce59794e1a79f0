using System.CommandLine;
using NativePull.Oci;

namespace NativePull.Cli;

/// <summary><c>tags</c>: one a line, to the end of the list, as the pages come.</summary>
internal static class TagsCommand
{
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
            PrintAsync(session, reference, parsed.GetValue(pageSize), parsed.GetValue(last))));
        return command;
    }

    private static async Task PrintAsync(Session session, Reference reference, int pageSize, string? last)
    {
        if (reference.Digest is not null || reference.Tag != "latest")
        {
            throw new PullException(PullError.Usage, $"{reference}: tags takes a repository, without tag or digest");
        }

        List<string> all = [];
        await foreach (string tag in session.Registry(reference.Registry).ListTagsAsync(reference.Repository, pageSize, last, session.Token))
        {
            if (session.Json)
            {
                all.Add(tag);
            }
            else
            {
                Output.Result(tag);
            }
        }

        if (session.Json)
        {
            Output.Result(ResultJson.Of(new TagListDocument(ResultJson.Schema, reference.Name, all)));
        }
    }
}
