using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using NativePull.Native;
using NativePull.Oci;

namespace NativePull.Registry;

/// <summary>
/// Adds an entry to an auth file, or removes one: whatever else the file holds is kept, only its owner may read it, and there is always the old
/// file or the new one. Two of us at the same moment take turns, so that neither loses the other's entry.
/// </summary>
internal static class LoginFile
{
    private const string Entries = "auths";
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    // Others hold the lock for as long as one small file takes to be flushed; whoever holds it longer is none of us.
    private static readonly TimeSpan LongestTurn = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(10);

    /// <summary>Writes the entry into the first of the files that can be written.</summary>
    /// <param name="key">host or host/path.</param>
    /// <returns>Which file it was.</returns>
    /// <exception cref="PullException">Usage: there is no file to try; Machine or Permission: none can be written, or one is malformed.</exception>
    internal static string Store(IReadOnlyList<string> files, string key, Credential credential, CancellationToken token = default)
    {
        PullException? first = null;
        foreach (string file in files)
        {
            try
            {
                _ = Replace(file, key, credential, token);
                return file;
            }
            catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
            {
                first ??= new PullException(PullError.Permission, $"{file}: the auth file cannot be written", refused);
            }
        }

        throw first ?? new PullException(PullError.Usage, "where to keep credentials is not known without a home directory: give --authfile FILE");
    }

    /// <returns>Whether there was one.</returns>
    /// <exception cref="PullException">Machine or Permission: the file cannot be written, or is malformed.</exception>
    internal static bool Remove(string file, string key, CancellationToken token = default)
    {
        try
        {
            return Replace(file, key, null, token);
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            throw new PullException(PullError.Permission, $"{file}: the auth file cannot be written", refused);
        }
    }

    // Whether an entry of that key was there.
    private static bool Replace(string file, string key, Credential? credential, CancellationToken token)
    {
        // a link, as dotfile managers make them, stays one
        string target = new FileInfo(file).LinkTarget is null ? file : File.ResolveLinkTarget(file, returnFinalTarget: true)?.FullName ?? file;
        string directory = Path.GetDirectoryName(Path.GetFullPath(target))!; // a file's path has one
        if (credential is not null)
        {
            Directory.CreateDirectory(directory, OwnerOnly | UnixFileMode.UserExecute);
        }

        CheckKind(directory, target);
        using SafeFileHandle? turn = WaitForTurn(directory, token);
        using JsonDocument? before = File.Exists(target) ? Parse(file, AuthFileContent.WithoutMark(File.ReadAllBytes(target))) : null;
        using var content = new MemoryStream();
        bool found;
        using (var writer = new Utf8JsonWriter(content, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            found = Write(writer, before?.RootElement, key, DefaultSpelling(file, key), credential);
        }

        if (credential is not null || found)
        {
            content.WriteByte((byte)'\n');
            Publish(directory, target, content.ToArray());
        }

        return found;
    }

    // /dev/null is what people name for "no auth file"; a file of ours in its place would be the machine's trouble.
    private static void CheckKind(string directory, string target)
    {
        using SafeFileHandle? parent = Libc.TryOpenDirectory(directory);
        if (parent is not null && Libc.TryStatusAt(parent, Encoding.UTF8.GetBytes(Path.GetFileName(target) + '\0'), out FileStatus status) == 0 && status.Type != FileType.Regular)
        {
            throw new IOException("it is there and no file");
        }
    }

    private static JsonDocument Parse(string file, byte[] content)
    {
        try
        {
            var document = JsonDocument.Parse(content.Length == 0 ? "{}"u8.ToArray() : content);
            if (document.RootElement.ValueKind == JsonValueKind.Object
                && (!document.RootElement.TryGetProperty(Entries, out JsonElement entries) || entries.ValueKind is JsonValueKind.Object or JsonValueKind.Null))
            {
                return document;
            }

            document.Dispose();
        }
        catch (JsonException malformed)
        {
            throw new PullException(PullError.Machine, $"{file}: malformed auth file: {JsonFault.Describe(content, malformed)}");
        }

        throw new PullException(PullError.Machine, $"{file}: malformed auth file: it is no object, or its {Entries} is none");
    }

    private static bool Write(Utf8JsonWriter writer, JsonElement? before, string key, string spelling, Credential? credential)
    {
        bool found = false;
        writer.WriteStartObject();
        writer.WriteStartObject(Entries);
        if (before?.TryGetProperty(Entries, out JsonElement entries) == true && entries.ValueKind == JsonValueKind.Object)
        {
            foreach (JsonProperty entry in entries.EnumerateObject())
            {
                if (!AuthFileContent.Key(entry.Name).Equals(key, StringComparison.OrdinalIgnoreCase))
                {
                    entry.WriteTo(writer);
                }
                else if (!found)
                {
                    (found, spelling) = (true, entry.Name); // as the program that wrote it will look for it
                }
            }
        }

        if (credential is not null)
        {
            writer.WriteStartObject(spelling);
            writer.WriteString("auth", credential.Encoded);
            writer.WriteEndObject();
        }

        writer.WriteEndObject();
        foreach (JsonProperty other in before?.EnumerateObject().Where(member => member.Name != Entries) ?? [])
        {
            other.WriteTo(writer);
        }

        writer.WriteEndObject();
        return found;
    }

    private static string DefaultSpelling(string file, string key) =>
        key == "docker.io" && Path.GetFileName(file) == "config.json" ? "https://index.docker.io/v1/" : key;

    // The lock is the directory's own, for the file is replaced and a lock file would be left behind. Null: there is none to be had (NFS locks
    // only what is open for writing), or not in time; then it is done without, as docker and podman do.
    private static SafeFileHandle? WaitForTurn(string directory, CancellationToken token)
    {
        SafeFileHandle? opened = null;
        try
        {
            opened = Libc.TryOpenDirectory(directory);
            long since = Environment.TickCount64;
            while (opened is not null && !Libc.TryLock(opened, directory) && Environment.TickCount64 - since < LongestTurn.TotalMilliseconds)
            {
                token.WaitHandle.WaitOne(Poll);
                token.ThrowIfCancellationRequested();
            }

            (SafeFileHandle? turn, opened) = (opened, null);
            return turn;
        }
        catch (LinuxException)
        {
            return null;
        }
        finally
        {
            opened?.Dispose();
        }
    }

    private static void Publish(string directory, string file, byte[] content)
    {
        string staged = Path.Combine(directory, $".{Path.GetFileName(file)}.{Path.GetRandomFileName()}");
        try
        {
            using (var stream = new FileStream(staged, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = OwnerOnly }))
            {
                stream.Write(content);
                stream.Flush();
                Libc.Flush(stream.SafeFileHandle, staged);
            }

            File.Move(staged, file, overwrite: true);
        }
        catch
        {
            File.Delete(staged);
            throw;
        }
    }
}
