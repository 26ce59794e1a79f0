using System.Text;
using NativePull.Tests.EndToEnd;

namespace NativePull.Tests.Conformance;

/// <summary>A real registry that wants a password: Debian's docker-registry with an htpasswd file.</summary>
public sealed class WitnessSignInTests
{
    private const string User = "me";
    private const string Password = "pass:wörd $1";

    [Fact]
    public async Task A_password_from_the_authfile_or_standard_input_is_let_in_and_nothing_else_is()
    {
        using TemporaryDirectory scratch = new();
        await WitnessFixture.RunAsync("htpasswd", "-Bbc", scratch["htpasswd"], User, Password);
        string address = await StartAsync(scratch);
        try
        {
            string reference = $"{address}/small/private:1";
            await SmallImage.MakeAsync(scratch["layout"], "x");
            await WitnessFixture.SkopeoAsync("copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", $"{User}:{Password}", $"oci:{scratch["layout"]}:x", $"docker://{reference}");
            await File.WriteAllTextAsync(
                scratch["auth.json"],
                "{\"auths\":{\"" + address + "\":{\"auth\":\"" + Convert.ToBase64String(Encoding.UTF8.GetBytes($"{User}:{Password}")) + "\"}}}",
                TestContext.Current.CancellationToken);

            BinaryResult anonymous = await Binary.RunAsync("pull", reference, "--store", scratch["none"], "--json");
            BinaryResult byFile = await Binary.RunAsync("pull", reference, "--store", scratch["file"], "--authfile", scratch["auth.json"]);
            BinaryResult byInput = await PipedAsync(Password, "pull", reference, "--store", scratch["input"], "--username", User, "--password-stdin");
            BinaryResult wrong = await PipedAsync("wrong", "pull", reference, "--store", scratch["wrong"], "--username", User, "--password-stdin", "--json");

            Assert.Contains("\"reason\":\"unauthorized\"", anonymous.Expect(4).Out, StringComparison.Ordinal);
            Assert.Contains("\"reason\":\"unauthorized\"", wrong.Expect(4).Out, StringComparison.Ordinal);
            Assert.StartsWith($"{address}/small/private@sha256:", byFile.Expect(0).Out, StringComparison.Ordinal);
            Assert.Equal(byFile.Out, byInput.Expect(0).Out);
            Assert.DoesNotContain(Password, anonymous.Error + byFile.Error + byInput.Error + wrong.Error, StringComparison.Ordinal);
        }
        finally
        {
            await WitnessFixture.ScriptAsync("stop", scratch["registry"]);
        }
    }

    private static async Task<string> StartAsync(TemporaryDirectory scratch) => (await WitnessFixture.RunAsync(
        "env",
        "REGISTRY_AUTH=htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM=here",
        $"REGISTRY_AUTH_HTPASSWD_PATH={scratch["htpasswd"]}",
        WitnessFixture.RegistryScript,
        "start",
        scratch["registry"])).Trim();

    // the shell writes the password, so that it ends in a newline as people's do
    private static Task<BinaryResult> PipedAsync(string password, params string[] arguments) =>
        Binary.ProgramAsync("bash", ["-c", "printf '%s\\n' \"$1\" | env -i \"$0\" \"${@:2}\"", Binary.File, password, .. arguments]);
}
