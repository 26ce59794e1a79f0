using NativePull.Store;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Store;

/// <summary>Where a tree or a store will lie, asked while others make and remove the same names.</summary>
public sealed class DestinationTests
{
    [Fact]
    public async Task A_directory_that_another_process_makes_meanwhile_is_no_link_to_nothing()
    {
        using TemporaryDirectory directory = new();
        string place = directory["s"];
        using CancellationTokenSource enough = new();
        Task other = Task.Run(() =>
        {
            while (!enough.IsCancellationRequested)
            {
                Directory.CreateDirectory(place);
                Directory.Delete(place);
            }
        }, TestContext.Current.CancellationToken);

        HashSet<string> answers = [];
        for (int i = 0; i < 20_000; i++)
        {
            answers.Add(Destination.Resolve(place));
        }

        await enough.CancelAsync();
        await other;
        Assert.Equal([place], answers);
    }

    [Fact]
    public void A_link_to_nothing_is_said_and_a_link_to_a_directory_followed()
    {
        using TemporaryDirectory directory = new();
        File.CreateSymbolicLink(directory["nothing"], directory["absent"]);
        Directory.CreateDirectory(directory["real"]);
        File.CreateSymbolicLink(directory["link"], directory["real"]);

        PullException refused = Assert.Throws<PullException>(() => Destination.Resolve(directory["nothing"]));

        Assert.Equal($"{directory["nothing"]} is a symbolic link to nothing", refused.Message);
        Assert.Equal(directory["real/below/it"], Destination.Resolve(directory["link/below/it"]));
    }
}
