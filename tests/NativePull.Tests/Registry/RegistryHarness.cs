using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

/// <summary>A client of a fake registry on a clock that does not wait, and the shortest ways to ask it.</summary>
internal sealed class RegistryHarness : IAsyncDisposable
{
    internal const string Repository = "team/app";

    private readonly Lazy<RegistryClient> client;

    internal RegistryHarness(FakeRegistry? fake = null, Func<RegistryOptions, RegistryOptions>? change = null)
    {
        Fake = (fake ?? new FakeRegistry()).Start();
        client = new Lazy<RegistryClient>(() => new RegistryClient(Fake.Address, (change ?? (options => options))(Options), Notices));
    }

    internal FakeRegistry Fake { get; }

    internal FakeTime Time { get; } = new();

    internal NoticeList Notices { get; } = new();

    internal RegistryClient Client => client.Value;

    /// <summary>Waits are as long as they can be, so that they can be compared.</summary>
    internal RegistryOptions Options => new()
    {
        Clock = Time,
        StallTimeout = FakeTime.GuardFrom,
        Retry = new RetryPolicy { Jitter = () => 1 },
        PlainHttp = Fake.Certificate is null,
        UserAgent = "nativepull/test",
    };

    internal static CancellationToken Token => TestContext.Current.CancellationToken;

    internal Descriptor AddBlob(long length = 200_000) => Fake.AddBlob(Repository, FakeContent.Generated(7, length));

    internal async Task<byte[]> ReadBlobAsync(Descriptor blob, long offset = 0)
    {
        await using BlobReader reader = Client.OpenBlob(Repository, blob, offset);
        return await ReadAsync(reader);
    }

    internal static async Task<byte[]> ReadAsync(BlobReader reader)
    {
        var all = new MemoryStream();
        byte[] buffer = new byte[10_000];
        int read;
        while ((read = await reader.ReadAsync(buffer, Token)) > 0)
        {
            all.Write(buffer, 0, read);
        }

        return all.ToArray();
    }

    internal Task<FetchedManifest> ManifestAsync(string selector = "latest") => Client.GetManifestAsync(Repository, selector, Token);

    internal static Task<RegistryException> FailureAsync(Func<Task> act) => Assert.ThrowsAsync<RegistryException>(act);

    public async ValueTask DisposeAsync()
    {
        if (client.IsValueCreated)
        {
            client.Value.Dispose();
        }

        await Fake.DisposeAsync();
    }

    /// <summary>Reported at once, on the caller's thread.</summary>
    internal sealed class NoticeList : List<RetryNotice>, IProgress<RetryNotice>
    {
        internal Action? Reported { get; set; }

        public void Report(RetryNotice value)
        {
            Add(value);
            Reported?.Invoke();
        }
    }
}
