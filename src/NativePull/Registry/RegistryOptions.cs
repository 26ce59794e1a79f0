namespace NativePull.Registry;

/// <summary>How registries are reached. Built and validated by Cli.</summary>
internal sealed record RegistryOptions
{
    /// <summary>For one connection, TLS included.</summary>
    internal TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The longest silence of a peer, before its headers and between its bytes. There is no limit for a whole request.</summary>
    internal TimeSpan StallTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Bytes a second, averaged over <see cref="StallTimeout"/> of waiting; a connection that brings less is dropped and another continues. The
    /// default is what a new handshake costs in that time (some 3 kB in 30 s), so that changing to another never loses; 0: never.
    /// </summary>
    internal long MinimumRate { get; init; } = 100;

    internal RetryPolicy Retry { get; init; } = new();

    /// <summary>How long a machine without a network (no route, no resolver, a name not found) is waited for, without counting as tries.</summary>
    internal TimeSpan WaitNetwork { get; init; }

    /// <summary>Addresses that need no resolver; several of one name and port are raced.</summary>
    internal IReadOnlyList<FixedAddress> Resolve { get; init; } = [];

    /// <summary>http without TLS for the registry named, wherever it is. Loopback registries may speak it unasked.</summary>
    internal bool PlainHttp { get; init; }

    internal bool InsecureSkipTlsVerify { get; init; }

    /// <summary>PEM file with the only roots to trust; null: <see cref="RootFiles"/>.</summary>
    internal string? CaFile { get; init; }

    /// <summary>PEM bundles to look for, in order: the first that yields certificates is used, else the roots built in.</summary>
    internal IReadOnlyList<string> RootFiles { get; init; } = [];

    /// <summary>Directories of PEM files, all of them; read where no bundle was found, or where the roots are named.</summary>
    internal IReadOnlyList<string> RootDirectories { get; init; } = [];

    /// <summary>Somebody said where the roots are: that there are none is a failure, and the built-in ones do not stand in.</summary>
    internal bool RootsAreNamed { get; init; }

    /// <summary>What is kept for the registry itself, in the form of certs.d/HOST; null: <see cref="CertificateDirectories"/>.</summary>
    internal string? CertDirectory { get; init; }

    /// <summary>Authorities besides all others, such as a mirror's own.</summary>
    internal IReadOnlyList<string> MoreCaFiles { get; init; } = [];

    /// <summary>Shown to the registry itself; null: what its directory has.</summary>
    internal (string Certificate, string Key)? ClientCertificate { get; init; }

    /// <summary>Where directories named HOST or HOST:PORT may be (containers-certs.d(5)); the first that has one for a host counts.</summary>
    internal IReadOnlyList<string> CertificateDirectories { get; init; } = [];

    /// <summary>Sent to the registry's own host with each request; may hold secrets.</summary>
    internal IReadOnlyList<(string Name, string Value)> Headers { get; init; } = [];

    /// <summary>A layer that the registry does not have is fetched from the addresses that its manifest names.</summary>
    internal bool ForeignLayers { get; init; }

    internal MirrorSettings Mirrors { get; init; } = new();

    /// <summary>Null: every host is reached directly.</summary>
    internal ProxySettings? Proxy { get; init; }

    internal Credentials Credentials { get; init; } = Credentials.Anonymous;

    /// <summary>Told what a person should know and no failure is.</summary>
    internal IProgress<string>? Warnings { get; init; }

    internal TimeProvider Clock { get; init; } = TimeProvider.System;

    internal string UserAgent { get; init; } = "nativepull";
}
