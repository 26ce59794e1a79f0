using System.Net;
using System.Net.Sockets;
using NativePull.Oci;
using NativePull.Registry;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Registry;

public sealed class RetryTests
{
    private static readonly byte[] Index = """{"schemaVersion":2,"manifests":[]}"""u8.ToArray();

    [Theory]
    [InlineData(408)]
    [InlineData(425)]
    [InlineData(429)]
    [InlineData(500)]
    [InlineData(502)]
    [InlineData(503)]
    [InlineData(504)]
    [InlineData(520)]
    public async Task What_passes_is_tried_again(int status)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = status }, times: 5);

        await it.ManifestAsync();

        Assert.Equal([0.5, 1, 2, 4, 8], it.Time.Waits.Select(wait => wait.TotalSeconds));
        Assert.Equal([2, 3, 4, 5, 6], it.Notices.Select(notice => notice.Try));
    }

    [Theory]
    [InlineData(400, PullError.Unavailable)]
    [InlineData(401, PullError.Unauthorized)]
    [InlineData(403, PullError.Denied)]
    [InlineData(404, PullError.NotFound)]
    [InlineData(405, PullError.Unavailable)]
    [InlineData(410, PullError.NotFound)]
    [InlineData(416, PullError.Unavailable)]
    [InlineData(451, PullError.Denied)]
    [InlineData(501, PullError.Unavailable)]
    [InlineData(204, PullError.Unavailable)]
    [InlineData(206, PullError.Unavailable)]
    public async Task What_does_not_pass_is_told_at_once(int status, object reason)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = status });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(reason, failure.Reason);
        Assert.Equal(status, (int)failure.Status!);
        Assert.Empty(it.Time.Waits);
        Assert.Single(it.Fake.Requests);
    }

    // A HEAD is how a known tag is asked about; the library asks three times more by itself where a connection ends without a byte.
    [Theory]
    [InlineData(null, 4 * 5, 5)]
    [InlineData(429, 5, 5)]
    [InlineData(503, 5, 1)]
    public async Task The_digest_of_a_tag_is_asked_for_as_often_as_the_manifest_unless_it_may_be_the_HEAD_that_fails(int? status, int times, int waits)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = status, NoAnswer = status is null }, times);

        Digest? found = await it.Client.FindDigestAsync(RegistryHarness.Repository, "latest", RegistryHarness.Token);

        Assert.Equal(status == 503 ? null : Digest.Of(Index), found);
        Assert.Equal(waits, it.Time.Waits.Count);
    }

    [Theory]
    [InlineData(503, PullError.Unavailable)]
    [InlineData(429, PullError.RateLimited)]
    public async Task After_six_tries_it_is_given_up(int status, object reason)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = status, Body = """{"errors":[{"code":"BUSY","message":"come back"}]}""" }, times: 100);

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(reason, failure.Reason);
        Assert.Equal(6, it.Fake.Requests.Count);
        Assert.Contains("BUSY: come back", failure.Message, StringComparison.Ordinal);
        Assert.StartsWith($"{it.Fake.Address}/team/app:latest: ", failure.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(403)]
    [InlineData(400)]
    [InlineData(429)]
    public async Task A_rate_limit_is_known_by_its_code_whatever_the_status(int status)
    {
        await using RegistryHarness it = Ready(options => options with { Retry = options.Retry with { Tries = 2 } });
        it.Fake.Faults.On("/manifests/", new Fault { Status = status, Body = """{"errors":[{"code":"toomanyrequests","message":"slow down"}]}""" }, times: 100);

        Assert.Equal(PullError.RateLimited, (await RegistryHarness.FailureAsync(() => it.ManifestAsync())).Reason);
        Assert.Equal(2, it.Fake.Requests.Count);
    }

    [Theory]
    [InlineData(429, "7", 7)]
    [InlineData(503, "60", 60)]
    [InlineData(403, "5", 5)]
    [InlineData(429, "Thu, 01 Jan 2026 00:00:30 GMT", 30)]
    [InlineData(429, "0", 0.5)]
    [InlineData(429, "Thu, 01 Jan 1970 00:00:00 GMT", 0.5)]
    [InlineData(429, "soon", 0.5)]
    public async Task Retry_After_is_obeyed_in_seconds_and_as_a_date(int status, string header, double seconds)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = status, Headers = [("Retry-After", header)] });

        await it.ManifestAsync();

        Assert.Equal(seconds, Assert.Single(it.Time.Waits).TotalSeconds);
    }

    [Theory]
    [InlineData(429, "61", PullError.RateLimited, 61)]
    [InlineData(429, "Thu, 01 Jan 2026 06:00:00 GMT", PullError.RateLimited, 21600)]
    [InlineData(503, "3600", PullError.Unavailable, 3600)]
    public async Task A_Retry_After_of_more_than_a_minute_is_told_at_once(int status, string header, object reason, double seconds)
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = status, Headers = [("Retry-After", header)] });

        RegistryException failure = await RegistryHarness.FailureAsync(() => it.ManifestAsync());

        Assert.Equal(reason, failure.Reason);
        Assert.Equal(seconds, failure.RetryAfterSeconds);
        Assert.Single(it.Fake.Requests);
        Assert.Empty(it.Time.Waits);
    }

    [Fact]
    public async Task A_date_is_compared_with_the_servers_clock_not_with_ours()
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = 429, Headers = [("Date", "Fri, 01 Jan 2100 00:00:00 GMT"), ("Retry-After", "Fri, 01 Jan 2100 00:00:09 GMT")] });

        await it.ManifestAsync();

        Assert.Equal(9, Assert.Single(it.Time.Waits).TotalSeconds);
    }

    [Fact]
    public async Task A_registry_where_nobody_listens_is_unavailable_after_six_tries()
    {
        // bound, so that no other test is given the port, but not listening
        using var nobody = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        nobody.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        string address = nobody.LocalEndPoint!.ToString()!;
        var time = new FakeTime();
        foreach (bool plain in new[] { true, false })
        {
            using var client = new RegistryClient(address, new RegistryOptions { Clock = time, StallTimeout = FakeTime.GuardFrom, PlainHttp = plain });

            RegistryException failure = await RegistryHarness.FailureAsync(() => client.GetManifestAsync("a", "b", RegistryHarness.Token));

            Assert.Equal(PullError.Unavailable, failure.Reason);
            Assert.Contains("Connection refused", failure.Message, StringComparison.Ordinal);
        }

        Assert.Equal(10, time.Waits.Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_registry_that_takes_no_connection_is_unavailable_after_the_connect_timeout(bool plain)
    {
        // a queue for one that nobody empties: the kernel leaves further connections without an answer
        using var full = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        full.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        full.Listen(0);
        using var first = new TcpClient();
        await first.ConnectAsync((IPEndPoint)full.LocalEndPoint!, RegistryHarness.Token);
        using var client = new RegistryClient(full.LocalEndPoint!.ToString()!, new RegistryOptions { ConnectTimeout = TimeSpan.FromSeconds(0.2), PlainHttp = plain, Retry = new RetryPolicy { Tries = 1 } });

        RegistryException failure = await RegistryHarness.FailureAsync(() => client.GetManifestAsync("a", "b", RegistryHarness.Token));

        Assert.Equal(PullError.Unavailable, failure.Reason);
        Assert.Contains("no connection within 0.2 s", failure.Sentence, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_name_that_does_not_resolve_is_unavailable()
    {
        var time = new FakeTime();
        using var client = new RegistryClient("registry.invalid", new RegistryOptions { Clock = time, StallTimeout = FakeTime.GuardFrom, Retry = new RetryPolicy { Tries = 2 } });

        RegistryException failure = await RegistryHarness.FailureAsync(() => client.GetManifestAsync("a", "b", RegistryHarness.Token));

        Assert.Equal(PullError.Unavailable, failure.Reason);
        Assert.Contains("registry.invalid", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task For_ever_means_for_ever_and_obeys_a_long_Retry_After()
    {
        await using RegistryHarness it = Ready(options => options with { Retry = options.Retry with { Tries = int.MaxValue } });
        it.Fake.Faults.On("/manifests/", new Fault { Status = 503, Headers = [("Retry-After", "1800")] });
        it.Fake.Faults.On("/manifests/", new Fault { Status = 500 }, times: 50);

        await it.ManifestAsync();

        Assert.Equal(1800, it.Time.Waits[0].TotalSeconds);
        Assert.Equal(51, it.Time.Waits.Count);
    }

    [Fact]
    public async Task A_trickle_is_left_for_another_connection_at_the_offset_reached()
    {
        await using RegistryHarness it = Ready(options => options with { MinimumRate = 1000 });
        Descriptor blob = it.AddBlob(200_000);
        Fault slow = it.Fake.Faults.On("/blobs/", new Fault { StallAfter = 100_000 });
        await using BlobReader reader = it.Client.OpenBlob(RegistryHarness.Repository, blob, 0);
        byte[] buffer = new byte[100_000];
        int read = 0;
        while (read < buffer.Length)
        {
            read += await reader.ReadAsync(buffer.AsMemory(read), RegistryHarness.Token);
        }

        // the next bytes take an hour and 40 minutes
        ValueTask<int> next = reader.ReadAsync(new byte[10], RegistryHarness.Token);
        it.Time.Advance(TimeSpan.FromHours(100));
        slow.Release();
        Assert.Equal(10, await next);
        await RegistryHarness.ReadAsync(reader);

        Assert.Equal([null, "bytes=100010-"], it.Fake.Requests.Select(request => request["Range"]));
        Assert.Contains("less than 1000 a second", Assert.Single(it.Notices).Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_name_that_resolves_only_later_is_waited_for()
    {
        var time = new FakeTime();
        var notices = new RegistryHarness.NoticeList();
        using var client = new RegistryClient(
            "registry.invalid",
            new RegistryOptions { Clock = time, StallTimeout = FakeTime.GuardFrom, WaitNetwork = TimeSpan.FromSeconds(60), Retry = new RetryPolicy { Tries = 2, Jitter = () => 1 } },
            notices);

        await RegistryHarness.FailureAsync(() => client.GetManifestAsync("a", "b", RegistryHarness.Token));

        // 120 polls, then the tries as ever
        Assert.Equal(121, time.Waits.Count(wait => wait == TimeSpan.FromSeconds(0.5)));
        Assert.Contains("waiting for a network for up to 60 s", notices[0].Reason, StringComparison.Ordinal);
        Assert.Equal(2, notices.Count);
    }

    [Fact]
    public async Task A_registry_that_hangs_up_without_an_answer_is_unavailable()
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { NoAnswer = true }, times: 100);

        Assert.Equal(PullError.Unavailable, (await RegistryHarness.FailureAsync(() => it.ManifestAsync())).Reason);
    }

    [Fact]
    public async Task Cancelling_ends_a_wait()
    {
        await using RegistryHarness it = Ready(options => options with { Retry = options.Retry with { FirstWait = FakeTime.GuardFrom, MaximumWait = FakeTime.GuardFrom } });
        it.Fake.Faults.On("/manifests/", new Fault { Status = 503 });
        using var stop = new CancellationTokenSource();
        it.Notices.Reported = stop.Cancel;

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => it.Client.GetManifestAsync(RegistryHarness.Repository, "latest", stop.Token));
    }

    [Theory]
    [InlineData(1, 0.5)]
    [InlineData(2, 1)]
    [InlineData(5, 8)]
    [InlineData(6, 15)]
    [InlineData(5000, 15)]
    public void Waits_double_up_to_a_limit(int failures, double most)
    {
        Assert.Equal(most, new RetryPolicy { Jitter = () => 1 }.WaitAfter(failures).TotalSeconds);
        Assert.Equal(0, new RetryPolicy { Jitter = () => 0 }.WaitAfter(failures).TotalSeconds);
        Assert.Equal(most / 2, new RetryPolicy { Jitter = () => 0.5 }.WaitAfter(failures).TotalSeconds);
    }

    public static TheoryData<string, string> Bodies => new()
    {
        { """{"errors":[{"code":"DENIED","message":"no"}]}""", "DENIED: no" },
        { """{"errors":[{"code":"A","message":"one","detail":"more"},{"code":"B"}]}""", "A: one (more); B" },
        { """{"errors":[{"code":"A","message":"one","detail":{"Tag":"x"}}]}""", """A: one ({"Tag":"x"})""" },
        { """{"errors":[{"code":"A","message":"one","detail":{}}]}""", "A: one" },
        { """{"errors":[{"code":"A","message":"one","detail":"one"}]}""", "A: one" },
        { """{"errors":[7,null]}""", "" },
        { """{"details":"incorrect username or password"}""", "incorrect username or password" },
        { """{"error":"invalid_grant","error_description":"expired"}""", "invalid_grant: expired" },
        { """{"message":"rate exceeded"}""", "rate exceeded" },
        { "[1,2]", "" },
        { "null", "" },
        { "", "" },
        { "plain words\r\nin two lines", "plain words  in two lines" },
        { "\u001b[31mred\u0007", "[31mred" },
        { "<html><body>502</body></html>", "" },
        { new string('x', 1000), new string('x', 400) + "…" },
    };

    [Theory]
    [MemberData(nameof(Bodies))]
    public void The_registrys_own_words_are_kept_in_one_safe_line(string body, string expected) =>
        Assert.Equal(expected, ErrorBody.Parse(System.Text.Encoding.UTF8.GetBytes(body)).Text);

    [Fact]
    public async Task An_error_body_without_end_is_not_read_to_its_end()
    {
        await using RegistryHarness it = Ready();
        it.Fake.Faults.On("/manifests/", new Fault { Status = 404, Body = "{", ExtraBytes = 64 * 1024 * 1024 });

        Assert.Equal(PullError.NotFound, (await RegistryHarness.FailureAsync(() => it.ManifestAsync())).Reason);
        Assert.True(it.Fake.Requests[0].BytesSent < 32 * 1024 * 1024);
    }

    private static RegistryHarness Ready(Func<RegistryOptions, RegistryOptions>? change = null)
    {
        var it = new RegistryHarness(null, change);
        it.Fake.AddManifest(RegistryHarness.Repository, "latest", Index, MediaTypes.OciIndex);
        return it;
    }
}
