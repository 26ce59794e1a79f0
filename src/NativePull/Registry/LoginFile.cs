using System.Text.Encodings.Web;
using System.Text.Json;

namespace NativePull.Registry;

/// <summary>
/// Adds an entry to an auth file, or removes one: whatever else the file holds is kept, only its owner may read it, and there is always the old
/// file or the new one.
/// </summary>
internal static class LoginFile
{
    private const string Entries = "auths";
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    /// <summary>Writes the entry into the first of the files that can be written.</summary>
    /// <param name="key">host or host/path.</param>
    /// <returns>Which file it was.</returns>
    /// <exception cref="PullException">Usage: there is no file to try; Machine or Permission: none can be written, or one is malformed.</exception>
    internal static string Store(IReadOnlyList<string> files, string key, Credential credential)
    {
        PullException? first = null;
        foreach (string file in files)
        {
            try
            {
                _ = Replace(file, key, credential);
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
    internal static bool Remove(string file, string key)
    {
        try
        {
            return Replace(file, key, null);
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            throw new PullException(PullError.Permission, $"{file}: the auth file cannot be written", refused);
        }
    }

    // Whether an entry of that key was there.
    private static bool Replace(string file, string key, Credential? credential)
    {
        // a link, as dotfile managers make them, stays one
        string target = new FileInfo(file).LinkTarget is null ? file : File.ResolveLinkTarget(file, returnFinalTarget: true)?.FullName ?? file;
        using JsonDocument? before = File.Exists(target) ? Parse(file, File.ReadAllBytes(target)) : null;
        using var content = new MemoryStream();
        bool found;
        using (var writer = new Utf8JsonWriter(content, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            found = Write(writer, before?.RootElement, key, DefaultSpelling(file, key), credential);
        }

        if (credential is not null || found)
        {
            content.WriteByte((byte)'\n');
            Publish(target, content.ToArray());
        }

        return found;
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
        catch (JsonException)
        {
            // its message may quote the content
        }

        throw new PullException(PullError.Machine, $"{file}: malformed auth file (not the JSON expected)");
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

    private static void Publish(string file, byte[] content)
    {
        string directory = Path.GetDirectoryName(Path.GetFullPath(file))!;
        Directory.CreateDirectory(directory, OwnerOnly | UnixFileMode.UserExecute);
        string staged = Path.Combine(directory, $".{Path.GetFileName(file)}.{Path.GetRandomFileName()}");
        try
        {
            using (var stream = new FileStream(staged, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = OwnerOnly }))
            {
                stream.Write(content);
                stream.Flush(flushToDisk: true);
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
