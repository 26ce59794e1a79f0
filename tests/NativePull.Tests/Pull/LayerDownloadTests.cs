using NativePull.Oci;
using NativePull.Pull;
using NativePull.Tests.Fakes;
using NativePull.Tests.Registry;
using NativePull.Tests.Store;

namespace NativePull.Tests.Pull;

/// <summary>One blob on its way, as other processes on the same store see it.</summary>
public sealed class LayerDownloadTests
{
    private sealed class Nobody : IProgress<PullEvent>
    {
        public void Report(PullEvent value) { }
    }

    // Else another process that wants the blob takes the download for stuck and fails, while it waits for its server with all right.
    [Fact]
    public async Task A_download_that_waits_for_a_silent_server_shows_that_it_lives()
    {
        await using var it = new RegistryHarness();
        using StoreHarness store = StoreHarness.Make();
        Descriptor blob = it.AddBlob();
        Fault silence = it.Fake.Faults.On("/blobs/", new Fault { StallAfter = 1000 });
        ConnectionBudget budget = new(1, blob.Size, TimeProvider.System);
        LayerDownload download = new(blob, store.Blobs, new Nobody());
        Task running = new DownloadQueue(1, budget, TimeProvider.System).RunAsync(
            turn => download.RunAsync(it.Client, RegistryHarness.Repository, new TransferLimits(budget, 1, null), turn, RegistryHarness.Token), RegistryHarness.Token);
        await silence.Reached;
        string part = store.Layout.Part(blob.Digest);
        while (!File.Exists(part) || new FileInfo(part).Length < 1000)
        {
            await Task.Delay(10, RegistryHarness.Token);
        }

        var before = DateTime.UnixEpoch;
        File.SetLastWriteTimeUtc(part, before);
        for (int tenths = 0; tenths < 1200 && File.GetLastWriteTimeUtc(part) == before; tenths++)
        {
            await Task.Delay(100, RegistryHarness.Token);
        }

        Assert.NotEqual(before, File.GetLastWriteTimeUtc(part));
        silence.Release();
        await running;
        Assert.True(store.Blobs.Contains(blob));
    }
}
