using System.Diagnostics;
using System.Text.Json;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.EndToEnd;

/// <summary>
/// The executable alone in an empty root: no /proc, /dev, /tmp, /etc, no environment, also as PID 1 of its own PID namespace. It pulls over TLS,
/// writes its store, extracts, and refuses a server it has no reason to trust.
/// </summary>
public sealed class EmptyRootTests
{
    public static TheoryData<string, string[]> Ways => new()
    {
        { "chroot", ["chroot"] },
        { "chroot as PID 1 of a new PID namespace", ["unshare", "--pid", "--fork", "--kill-child", "chroot"] },
        { "chroot in new mount, IPC, UTS and cgroup namespaces", ["unshare", "--mount", "--propagation", "unchanged", "--ipc", "--uts", "--cgroup", "--pid", "--fork", "--kill-child", "chroot"] },
    };

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task Pulls_over_tls_with_a_private_root_and_extracts(string what, string[] way)
    {
        SkipUnlessRoot();
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue(), Auth = new FakeAuth(), HasStorage = true }.Start();
        FakeImage image = new FakeImage(registry, "a/b")
            .Layer(("bin/tool", "one"u8.ToArray()), ("etc/only-below", "below"u8.ToArray()))
            .Layer(("bin/tool", "two"u8.ToArray()), ("etc/.wh.only-below", []))
            .Publish(withIndex: true);
        using TemporaryDirectory root = EmptyRoot();
        await File.WriteAllTextAsync(root["ca.pem"], authority.RootPem, TestContext.Current.CancellationToken);

        BinaryResult result = await RunInAsync(root, way, "pull", image.Reference(), "--ca-file", "/ca.pem", "--extract", "--rootfs", "/rootfs");

        result.Expect(0);
        Assert.Equal($"{registry.Address}/a/b@{image.Digest}\n", result.Out);
        Assert.Equal("two", await File.ReadAllTextAsync(root["rootfs/bin/tool"], TestContext.Current.CancellationToken));
        Assert.False(File.Exists(root["rootfs/etc/only-below"]), what);
        Assert.True(File.Exists(root["var/lib/nativepull/nativepull.db"]));
        Assert.Equal(["ca.pem", "nativepull", "rootfs", "var"], Directory.GetFileSystemEntries(root.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task A_server_that_no_built_in_root_vouches_for_is_refused_with_exit_9()
    {
        SkipUnlessRoot();
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue() }.Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory root = EmptyRoot();

        BinaryResult result = await RunInAsync(root, ["chroot"], "pull", image.Reference(), "--json");

        result.Expect(9);
        Assert.Contains("\"reason\":\"tls-unknown-issuer\"", result.Out, StringComparison.Ordinal);
        Assert.Empty(registry.Requests);
    }

    /// <summary>Where the certificate is put, $A being the registry.</summary>
    public static TheoryData<string> RootPlaces =>
    [
        "etc/ssl/certs/ca-certificates.crt",
        "etc/pki/tls/certs/ca-bundle.crt",
        "etc/ssl/ca-bundle.pem",
        "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "etc/ssl/cert.pem",
        "etc/ssl/certs/1234abcd.0",
        "etc/containers/certs.d/$A/ca.crt",
        "etc/docker/certs.d/$A/ca.crt",
    ];

    [Theory]
    [MemberData(nameof(RootPlaces))]
    public async Task The_machine_s_own_roots_are_found_where_distributions_keep_them(string place)
    {
        SkipUnlessRoot();
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue() }.Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory root = EmptyRoot();
        string file = root[place.Replace("$A", registry.Address, StringComparison.Ordinal)];
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        await File.WriteAllTextAsync(file, authority.RootPem, TestContext.Current.CancellationToken);

        (await RunInAsync(root, ["chroot"], "pull", image.Reference())).Expect(0);
    }

    [Fact]
    public async Task The_built_in_roots_are_looked_at_where_the_machine_has_none()
    {
        SkipUnlessRoot();
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue() }.Start();
        using TemporaryDirectory root = EmptyRoot();

        BinaryResult result = await RunInAsync(root, ["chroot"], "inspect", $"{registry.Address}/a/b", "-v");

        Assert.Contains("built-in", result.Expect(9).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task That_the_built_in_roots_stood_in_is_said()
    {
        SkipUnlessRoot();
        using FakeCertificates authority = new();
        await using FakeRegistry registry = new FakeRegistry { Certificate = authority.Issue() }.Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory root = EmptyRoot();
        // beside them, so that there is a server to be believed
        Directory.CreateDirectory(root[$"etc/docker/certs.d/{registry.Address}"]);
        await File.WriteAllTextAsync(root[$"etc/docker/certs.d/{registry.Address}/ca.crt"], authority.RootPem, TestContext.Current.CancellationToken);

        BinaryResult result = await RunInAsync(root, ["chroot"], "pull", image.Reference(), "--json", "-v");

        Assert.Contains("built-in", result.Expect(0).Error, StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.Contains("built-in", Assert.Single(json.RootElement.GetProperty("warnings").EnumerateArray()).GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_root_whose_name_services_are_modules_does_not_disturb_it()
    {
        SkipUnlessRoot();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").Layer(("f", [1])).Publish();
        using TemporaryDirectory root = EmptyRoot();
        Directory.CreateDirectory(root["etc/ssl"]);
        await File.WriteAllTextAsync(root["etc/nsswitch.conf"], "hosts: files myhostname mymachines resolve dns\npasswd: files systemd\n", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(root["etc/ssl/openssl.cnf"], "openssl_conf = x\n[x]\nproviders = p\nalg_section = a\n[p]\nmissing = m\n[m]\nactivate = 1\n[a]\ndefault_properties = fips=yes\n", TestContext.Current.CancellationToken);

        BinaryResult byName = await RunInAsync(root, ["chroot"], "pull", $"localhost:{registry.Port}/a/b:latest");
        BinaryResult unknown = await RunInAsync(root, ["chroot"], "pull", "--retries", "1", "registry.invalid/a/b:latest");

        Assert.EndsWith($"a/b@{image.Digest}\n", byName.Expect(0).Out, StringComparison.Ordinal);
        unknown.Expect(5);
    }

    [Fact]
    public async Task As_pid_1_SIGTERM_ends_it_with_143_and_leaves_a_part_to_resume()
    {
        SkipUnlessRoot();
        await using FakeRegistry registry = new FakeRegistry().Start();
        FakeImage image = new FakeImage(registry, "a/b").RandomLayer("big", 3_000_000).Publish();
        Fault stall = registry.Faults.On($"blobs/{image.Layers[0].Digest}", new Fault { StallAfter = 1_000_000 });
        using TemporaryDirectory root = EmptyRoot();
        string[] command = ["--pid", "--fork", "--kill-child", "chroot", root.Path, "/nativepull", "pull", image.Reference()];
        using Process unshare = Binary.Start(new Dictionary<string, string>(), "unshare", command);
        await stall.Reached;
        BinaryResult children = await Binary.ProgramAsync("pgrep", "-P", unshare.Id.ToString(System.Globalization.CultureInfo.InvariantCulture));

        await Binary.ProgramAsync("kill", "-TERM", children.Expect(0).Out.Trim());
        BinaryResult ended = await Binary.FinishAsync(unshare);
        stall.Release();
        BinaryResult again = await RunInAsync(root, ["chroot"], "pull", image.Reference(), "--json");

        ended.Expect(143);
        Assert.Contains("\"state\":\"resumed\"", again.Expect(0).Out, StringComparison.Ordinal);
    }

    private static void SkipUnlessRoot() => Assert.SkipUnless(Environment.IsPrivilegedProcess, "chroot needs root");

    private static TemporaryDirectory EmptyRoot()
    {
        TemporaryDirectory root = new();
        File.Copy(Binary.File, root["nativepull"]);
        return root;
    }

    private static async Task<BinaryResult> RunInAsync(TemporaryDirectory root, string[] way, params string[] arguments)
    {
        // what finds chroot needs a PATH; what runs inside gets none
        string[] before = [.. way.TakeWhile(word => word != "chroot"), "chroot", root.Path];
        string script = "exec env -i " + string.Join(' ', before.Select((word, i) => i == 0 || word == "chroot" ? $"$(command -v {word})" : $"'{word}'")) + " /nativepull \"$@\"";
        return await Binary.ProgramAsync("bash", ["-c", script, "bash", .. arguments]);
    }
}
