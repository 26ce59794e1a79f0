using System.Net;
using System.Net.Sockets;
using NativePull.Registry;

namespace NativePull.Tests.Registry;

public sealed class DialerTests
{
    [Theory]
    [InlineData("1.1.1.1 2.2.2.2", "", "1.1.1.1 2.2.2.2")]
    [InlineData("::2 ::3 1.1.1.1 2.2.2.2", "", "::2 1.1.1.1 ::3 2.2.2.2")]
    [InlineData("1.1.1.1 ::2 ::3 ::4", "", "1.1.1.1 ::2 ::3 ::4")]
    [InlineData("1.1.1.1 2.2.2.2 3.3.3.3 ::2", "", "1.1.1.1 ::2 2.2.2.2 3.3.3.3")]
    [InlineData("1.1.1.1 1.1.1.1 ::2", "", "1.1.1.1 ::2")]
    [InlineData("::2 1.1.1.1 2.2.2.2", "2.2.2.2", "2.2.2.2 ::2 1.1.1.1")]
    [InlineData("::2 1.1.1.1", "9.9.9.9", "::2 1.1.1.1")]
    public void Families_take_turns_and_what_worked_comes_first(string found, string worked, string expected) =>
        Assert.Equal(expected, string.Join(' ', Dialer.Order([.. found.Split(' ').Select(IPAddress.Parse)], worked.Length == 0 ? null : IPAddress.Parse(worked))));

    [Fact]
    public async Task The_address_that_worked_is_taken_again_though_another_has_come_up()
    {
        using TcpListener good = Listen(IPAddress.Loopback, 0);
        int port = ((IPEndPoint)good.LocalEndpoint).Port;
        Dialer dialer = To(port, "127.0.0.2", "127.0.0.1");

        await using Stream first = await dialer.ConnectAsync(new DnsEndPoint("r.test", port), RegistryHarness.Token);
        using TcpListener late = Listen(IPAddress.Parse("127.0.0.2"), port);
        await using Stream second = await dialer.ConnectAsync(new DnsEndPoint("r.test", port), RegistryHarness.Token);

        using Socket one = await good.AcceptSocketAsync(RegistryHarness.Token);
        using Socket two = await good.AcceptSocketAsync(RegistryHarness.Token);
        Assert.False(late.Pending());
    }

    [Fact]
    public async Task An_address_that_stopped_working_is_left_for_another()
    {
        using TcpListener first = Listen(IPAddress.Parse("127.0.0.2"), 0);
        int port = ((IPEndPoint)first.LocalEndpoint).Port;
        Dialer dialer = To(port, "127.0.0.2", "127.0.0.1");
        await using Stream before = await dialer.ConnectAsync(new DnsEndPoint("r.test", port), RegistryHarness.Token);
        first.Stop();
        using TcpListener other = Listen(IPAddress.Loopback, port);

        await using Stream after = await dialer.ConnectAsync(new DnsEndPoint("R.test", port), RegistryHarness.Token);

        using Socket accepted = await other.AcceptSocketAsync(RegistryHarness.Token);
        Assert.True(accepted.Connected);
    }

    [Fact]
    public async Task Whoever_comes_second_is_closed()
    {
        // the first takes no more connections for now, so that the second one wins; then it does, and must see the end
        using var full = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        full.Bind(new IPEndPoint(IPAddress.Parse("127.0.0.2"), 0));
        full.Listen(0);
        int port = ((IPEndPoint)full.LocalEndPoint!).Port;
        using var queued = new TcpClient();
        await queued.ConnectAsync((IPEndPoint)full.LocalEndPoint, RegistryHarness.Token);
        using TcpListener good = Listen(IPAddress.Loopback, port);

        await using Stream won = await To(port, "127.0.0.2", "127.0.0.1").ConnectAsync(new DnsEndPoint("r.test", port), RegistryHarness.Token);

        Assert.Equal(IPAddress.Loopback, ((IPEndPoint)((NetworkStream)won).Socket.RemoteEndPoint!).Address);
        using Socket mine = await full.AcceptAsync(RegistryHarness.Token);
        Assert.False(full.Poll(0, SelectMode.SelectRead)); // nobody else is in the queue any more
    }

    [Fact]
    public async Task All_that_fail_are_named()
    {
        using TcpListener gone = Listen(IPAddress.Loopback, 0);
        int port = ((IPEndPoint)gone.LocalEndpoint).Port;
        gone.Stop();

        SocketException failure = await Assert.ThrowsAsync<SocketException>(
            () => To(port, "127.0.0.2", "127.0.0.1").ConnectAsync(new DnsEndPoint("r.test", port), RegistryHarness.Token));

        Assert.Equal(SocketError.ConnectionRefused, failure.SocketErrorCode);
        Assert.Contains("127.0.0.2: Connection refused, 127.0.0.1: Connection refused", failure.Message, StringComparison.Ordinal);
    }

    private static Dialer To(int port, params string[] addresses) =>
        new(new RegistryOptions { Resolve = [.. addresses.Select(address => new FixedAddress("r.test", port, IPAddress.Parse(address)))] });

    private static TcpListener Listen(IPAddress address, int port)
    {
        var listener = new TcpListener(address, port);
        listener.Start();
        return listener;
    }
}
