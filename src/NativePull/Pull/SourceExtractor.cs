using NativePull.Layers;
using NativePull.Oci;
using NativePull.Store;

namespace NativePull.Pull;

/// <summary>
/// The conductor without a registry and without a store: an image that lies in a layout or an archive becomes files. Every byte is verified as if it
/// came from the network.
/// </summary>
/// <param name="stdin">Read where the source is "-".</param>
/// <param name="spool">
/// Gives the place for the copy of an input that cannot be read twice: stdin, or an archive that is compressed as a whole.
/// </param>
internal sealed class SourceExtractor(Stream stdin, Func<Task<string>> spool, IProgress<PullEvent> progress, TimeProvider clock)
{
    /// <exception cref="PullException">Any reason; nothing half-done is visible afterwards.</exception>
    internal async Task<PullResult> ExtractAsync(SourceName source, OutputOptions options, Platform platform, bool explicitly, CancellationToken token)
    {
        long begun = clock.GetTimestamp();
        WarningCollector events = new(progress);
        using ImageFiles files = await OpenAsync(source, options.Extract.Limits, token);
        SourceImage image = source.Kind == SourceKind.DockerArchive
            ? new DockerSource(source, files, events).Find(platform, explicitly)
            : await new OciSource(source, files, events).FindAsync(platform, explicitly, token);
        options.Extract.Limits.CheckLayers(image.Layers.Count);
        List<LayerSource> sources = [.. image.Layers.Select((layer, i) => new LayerSource(layer, image.Open[i], static () => Task.CompletedTask, events))];
        using Outputs outputs = new(options, image.Digest, sources, null);
        outputs.Check();
        using (WorkGroup work = new(token))
        {
            outputs.Start(work);
            await work.AwaitAllAsync();
        }

        await outputs.WriteArchiveAsync(token);
        outputs.Publish();
        foreach (string loss in Losses.Of(outputs.Report, options.Extract))
        {
            events.Report(new PullEvent.Warning(loss));
        }

        return new PullResult(
            source.Text,
            source.Name,
            image.Digest,
            image.Manifest,
            image.Config.Digest,
            image.Platform,
            [.. image.Layers.Select((layer, i) => new PulledLayer(layer.Blob, layer.DiffId, layer.ChainId, LayerState.Present, 0, outputs.LayerPaths?[i], outputs.LayerReports?[i]))],
            image.Config.Size + image.Layers.DistinctBy(layer => layer.Blob.Digest).Sum(layer => layer.Blob.Size),
            0,
            options.Rootfs,
            outputs.Report,
            events.Texts,
            clock.GetElapsedTime(begun));
    }

    private async Task<ImageFiles> OpenAsync(SourceName source, LayerLimits limits, CancellationToken token)
    {
        if (source.Kind == SourceKind.OciLayout)
        {
            return Destination.IsDirectory(source.Path)
                ? new DirectoryFiles(source.Path)
                : throw new PullException(PullError.NotFound, $"{source.Text}: there is no directory {source.Path}");
        }

        FileStream? archive = null;
        try
        {
            archive = await OpenArchiveAsync(source, limits, token);
            ArchiveFiles? files = null;
            await Blocking.OnOwnThread(() => files = new ArchiveFiles(archive, limits.Tar, token), token);
            return files!;
        }
        catch (PullException broken)
        {
            archive?.Dispose();
            throw new PullException(broken.Reason, source.Text, broken);
        }
        catch
        {
            archive?.Dispose();
            throw;
        }
    }

    // Plain and seekable: the file itself, or a copy.
    private async Task<FileStream> OpenArchiveAsync(SourceName source, LayerLimits limits, CancellationToken token)
    {
        if (source.Path == SourceName.Stdin)
        {
            return await SpoolAsync(stdin, source, limits, token);
        }

        bool isDirectory = Destination.IsDirectory(source.Path);
        if (isDirectory || !Destination.IsThere(source.Path))
        {
            throw new PullException(PullError.NotFound, isDirectory ? $"{source.Path} is a directory" : $"there is no file {source.Path}");
        }

        FileStream file = new(source.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1);
        bool isPlain = false;
        try
        {
            isPlain = file.CanSeek && !LayerStream.IsCompressed(file, "archive");
            return isPlain ? file : await SpoolAsync(file, source, limits, token);
        }
        finally
        {
            if (!isPlain)
            {
                await file.DisposeAsync();
            }
        }
    }

    private async Task<FileStream> SpoolAsync(Stream input, SourceName source, LayerLimits limits, CancellationToken token)
    {
        string path = await spool();
        FileStream? copy = null;
        await Blocking.OnOwnThread(() => copy = Spool(input, path, source, limits, token), token);
        return copy!;
    }

    private static FileStream Spool(Stream input, string path, SourceName source, LayerLimits limits, CancellationToken token)
    {
        FileStream copy = SpoolFile.Create(path, token);
        try
        {
            using Stream plain = LayerStream.Decompress(input, "archive", limits);
            byte[] buffer = new byte[256 * 1024];
            int read = plain.ReadAtLeast(buffer, TarHeader.BlockSize, throwOnEndOfStream: false);
            CheckBegin(buffer.AsSpan(0, read));
            for (; read > 0; read = plain.Read(buffer))
            {
                token.ThrowIfCancellationRequested();
                Keep(copy, buffer.AsSpan(0, read), path, source);
            }

            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    // What is no archive need not be copied to its end to be found out; it may have none.
    private static void CheckBegin(ReadOnlySpan<byte> begin)
    {
        if (begin.Length >= TarHeader.BlockSize && new TarHeader(begin[..TarHeader.BlockSize]) is { IsZero: false } header)
        {
            header.Verify("at the beginning");
        }
    }

    // The file has no name any more that its own error could say.
    private static void Keep(FileStream copy, ReadOnlySpan<byte> bytes, string path, SourceName source)
    {
        try
        {
            copy.Write(bytes);
            copy.Flush();
        }
        catch (IOException failure)
        {
            throw new IOException($"the copy of {source.Text} in {Path.GetDirectoryName(path)}: {failure.Message}", failure.HResult);
        }
    }
}
