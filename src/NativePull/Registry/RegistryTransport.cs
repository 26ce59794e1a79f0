using System.Collections.Concurrent;
using System.Net;

namespace NativePull.Registry;

/// <summary>One GET of the registry's API as a value.</summary>
/// <param name="Path">Below the base address.</param>
/// <param name="Repository">What the request is about, for signing in.</param>
/// <param name="Accept">Media types; null: any.</param>
/// <param name="Offset">Bytes to leave out.</param>
/// <param name="End">The offset of the first byte not wanted; null: to the end.</param>
internal sealed record RegistryRequest(string Path, string Repository, IReadOnlyList<string>? Accept, long Offset, long? End = null)
{
    /// <summary>Where else it can be had, by its manifest's own word; empty: nowhere.</summary>
    internal IReadOnlyList<string> Urls { get; init; } = [];

    /// <summary>Only the headers are wanted.</summary>
    internal bool IsHead { get; init; }

    /// <summary>What is asked for is named by its digest, and so can be verified whoever gives it.</summary>
    internal bool NamesDigest => Path.Contains("/blobs/", StringComparison.Ordinal) || (Path.Contains("/manifests/", StringComparison.Ordinal) && Path.Contains(':', StringComparison.Ordinal));
}

/// <summary>
/// Asks for a registry's content until it is there: mirrors in their order, each once and without waiting, then the registry itself, which is
/// waited for. All requests of a registry go through one of these, so that they share connections, tokens, and what is known of mirrors.
/// </summary>
internal sealed class RegistryTransport(string registry, RegistryOptions options, IProgress<RetryNotice>? retries) : IDisposable
{
    private readonly ConcurrentDictionary<string, PlacePlan> plans = new();
    private readonly ConcurrentDictionary<string, Lazy<RegistryPlace>> places = new();
    private readonly ConcurrentDictionary<string, string> told = new();

    internal bool UsedEmbeddedRoots => Made.Any(place => place.UsedEmbeddedRoots);

    /// <summary>The registry has asked for a sign of who we are.</summary>
    internal bool WasAskedWho(string repository) => Made.Any(place => place.WasAskedWho(repository));

    /// <summary>An answer with 200, or to a request with an offset or an end also 206 or, from the registry itself, 416. Its body has not been read yet.</summary>
    /// <exception cref="PullException">
    /// NotFound, Unauthorized, Denied; Unavailable, RateLimited or Stalled when <paramref name="attempts"/> has enough; Unsupported; a Tls reason.
    /// </exception>
    internal async Task<Answer> SendAsync(RegistryRequest request, Attempts attempts, CancellationToken token)
    {
        IReadOnlyList<(Place Place, string Repository)> plan = Plan(request);
        (Place own, string ownRepository) = plan[^1];
        bool linkRenewed = false;
        while (true)
        {
            if (plan.Count > 1 && await AskMirrorsAsync(plan, request, token) is { } mirrored)
            {
                return mirrored;
            }

            if (!(request.NamesDigest ? own.Pulls : own.Resolves))
            {
                throw new RegistryException(PullError.NotFound, $"{attempts.What}: no mirror has it, and {own} is not to be asked");
            }

            try
            {
                RegistryPlace place = At(own);
                Answer answer = await place.AskAsync(request, ownRepository, token);
                if (IsUsable(answer.Status, request))
                {
                    return answer;
                }

                bool isOwn = answer.IsOwn;
                RegistryException failure = await place.FailureOfAsync(answer, ownRepository, token);
                if (!isOwn && !failure.IsTransient && !linkRenewed)
                {
                    linkRenewed = true; // a signed link of the storage may have run out: the registry gives a new one
                    continue;
                }

                return request.Urls.Count > 0 && failure.Reason == PullError.NotFound ? await AskElsewhereAsync(place, request, failure, token) : throw failure;
            }
            catch (RegistryException failure)
            {
                await attempts.WaitAfterAsync(failure, token);
                if (failure.IsNoNetwork && options.WaitNetwork > TimeSpan.Zero)
                {
                    ReviveMirrors();
                }
            }
        }
    }

    /// <summary>The body of an answer of <see cref="SendAsync"/>; disposing it disposes the answer.</summary>
    internal static ResponseBody Body(Answer answer) => answer.Place!.Body(answer); // set by AskAsync, through which all answers come

    /// <summary>The body of this answer broke off, or is another than it should be. A mirror is not asked for the same again.</summary>
    /// <returns>Whether there is another place to ask at once: then nothing is to be waited for.</returns>
    internal bool Blame(Answer? answer, RegistryRequest? request, string reason)
    {
        if (answer?.Place is not { Place.IsMirror: true } mirror || request is null)
        {
            return false;
        }

        if (mirror.Distrust(request.Path))
        {
            Tell(mirror, reason, "going on elsewhere");
        }

        return true;
    }

    /// <summary>The whole is not what it should be: whoever of the mirrors gave a part of it is not asked for it again.</summary>
    /// <param name="fault">What is wrong, said of it.</param>
    /// <returns>Whether there was one.</returns>
    internal bool DistrustMirrors(string path, string fault = "has another digest")
    {
        bool any = false;
        foreach (RegistryPlace mirror in Made.Where(place => place.Place.IsMirror))
        {
            if (mirror.DistrustIfServed(path))
            {
                any = true;
                Tell(mirror, $"what it gave for {path[(path.LastIndexOf('/') + 1)..]} {fault}", "asking elsewhere");
            }
        }

        return any;
    }

    public void Dispose()
    {
        foreach (RegistryPlace place in Made)
        {
            place.Dispose();
        }
    }

    private IEnumerable<RegistryPlace> Made => places.Values.Where(place => place.IsValueCreated).Select(place => place.Value);

    private static bool IsUsable(HttpStatusCode status, RegistryRequest request) => status == HttpStatusCode.OK
        || ((request.Offset > 0 || request.End is not null) && status is HttpStatusCode.PartialContent or HttpStatusCode.RequestedRangeNotSatisfiable);

    private IReadOnlyList<(Place Place, string Repository)> Plan(RegistryRequest request)
    {
        PlacePlan plan = plans.GetOrAdd(request.Repository, repository => options.Mirrors.PlanFor(registry, repository, options.PlainHttp));
        // a sign-in, and a page of a list that began at the registry, are its own affair
        return request.Repository.Length == 0 || request.Path.StartsWith('/') ? [plan.Places[^1]] : plan.Places;
    }

    private RegistryPlace At(Place place) =>
        places.GetOrAdd($"{place.IsMirror} {place.Address.Base}{place.ApiPath}", _ => new Lazy<RegistryPlace>(() => new RegistryPlace(place, options, retries))).Value;

    // Null: none of them has it.
    private async Task<Answer?> AskMirrorsAsync(IReadOnlyList<(Place Place, string Repository)> plan, RegistryRequest request, CancellationToken token)
    {
        foreach ((Place place, string repository) in plan.Take(plan.Count - 1).Where(one => request.NamesDigest ? one.Place.Pulls : one.Place.Resolves))
        {
            RegistryPlace mirror = At(place);
            if (mirror.IsDead || mirror.IsDistrusted(request))
            {
                continue;
            }

            try
            {
                Answer answer = await mirror.AskAsync(request, repository, token);
                if (IsUsable(answer.Status, request) && answer.Status != HttpStatusCode.RequestedRangeNotSatisfiable)
                {
                    mirror.NoteServed(request);
                    return answer;
                }

                RegistryException refusal = await mirror.FailureOfAsync(answer, repository, token);
                if (request.IsHead && refusal is { IsTransient: false, Reason: not PullError.NotFound })
                {
                    throw refusal; // it may not know HEAD: only a GET tells what it has
                }

                mirror.Distrust(request.Path);
                if (refusal.Reason != PullError.NotFound)
                {
                    Tell(mirror, refusal.Sentence, "going on elsewhere");
                }
            }
            catch (PullException failure) when (!(request.IsHead && failure is RegistryException { Status: not null, IsTransient: false }))
            {
                // no answer at all, or none that is to be believed
                mirror.IsDead = failure is not RegistryException { Status: not null };
                mirror.IsOutOfReach = failure is RegistryException { IsNoNetwork: true };
                Tell(mirror, failure.Sentence, mirror.IsDead ? "going on without it" : "going on elsewhere");
            }
        }

        return null;
    }

    // Before this machine had a network it seemed that nobody was there.
    private void ReviveMirrors()
    {
        foreach (RegistryPlace mirror in Made.Where(place => place.IsOutOfReach))
        {
            (mirror.IsDead, mirror.IsOutOfReach) = (false, false);
        }
    }

    // A layer that registries may not carry (image-spec, layer.md, "Non-Distributable Layers"): elsewhere is a host that nobody named here.
    private async Task<Answer> AskElsewhereAsync(RegistryPlace place, RegistryRequest request, RegistryException notFound, CancellationToken token)
    {
        Uri[] addresses = [.. request.Urls.Select(text => Uri.TryCreate(text, UriKind.Absolute, out Uri? one) ? one : null).OfType<Uri>()
            .Where(one => one.Scheme == Uri.UriSchemeHttps || (one.Scheme == Uri.UriSchemeHttp && RegistryAddress.IsLoopback(one.Host)))];
        if (!options.ForeignLayers)
        {
            throw new RegistryException(PullError.NotFound, $"{notFound.Message} (a foreign layer: --foreign-layers fetches it from {string.Join(" or ", addresses.Select(one => one.Host))})") { Status = notFound.Status };
        }

        RegistryException failure = notFound;
        foreach (Uri address in addresses)
        {
            RegistryException refusal;
            try
            {
                Answer answer = await place.AskAtAsync(address, request, token);
                if (IsUsable(answer.Status, request))
                {
                    return answer;
                }

                refusal = await place.FailureOfAsync(answer, "", token);
            }
            catch (RegistryException unreachable)
            {
                refusal = unreachable;
            }

            failure = failure.IsTransient ? failure : refusal; // what passes is worth another try, whatever the others say
        }

        throw failure;
    }

    // Once for each mirror: what follows is the same again, or the same in other words.
    private void Tell(RegistryPlace mirror, string reason, string consequence)
    {
        if (told.TryAdd(mirror.Place.Shown, reason))
        {
            options.Warnings?.Report($"mirror {mirror.Place} of {registry}: {reason}; {consequence}");
        }
    }
}
