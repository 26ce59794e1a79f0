namespace NativePull.Tests.Conformance;

/// <summary>
/// What layers mean, by the OCI image specification's layer.md alone: written from its sentences (quoted at each rule) without a look at the code
/// under test, in memory, not optimised. Where the specification is silent the rule says "Choice". Paths are Latin-1, one character a byte.
/// </summary>
internal sealed class LayerModel
{
    private const string WhiteoutPrefix = ".wh.";
    private const string OpaqueName = ".wh..wh..opq";

    // symlink(7): "a limit on the number of symbolic links that may be followed"
    private const int MaximumLinks = 40;

    // "an image root filesystem has an initial state as an empty directory"
    // Choice: a directory that nothing lists has mode 0755, owner 0:0 and time 0; the root is one.
    private readonly ModelNode root = ModelNode.ImpliedDirectory();
    private int layerNumber;

    private readonly List<(int Entry, Choice Choice)> choices = [];
    private readonly List<(ModelNode Node, ModelCopy Before)> copied = [];
    private readonly HashSet<ModelNode> rewritten = [];
    private int current;

    // whether the markers of the layer being applied did
    private bool removedSomething;

    /// <summary>Of the layer applied last: which entries met which choice.</summary>
    internal IReadOnlyList<(int Entry, Choice Choice)> Choices => choices;

    internal static LayerModel Of(IEnumerable<IReadOnlyList<ModelEntry>> layers)
    {
        LayerModel model = new();
        foreach (IReadOnlyList<ModelEntry> layer in layers)
        {
            model.Apply(layer);
        }

        return model;
    }

    /// <exception cref="RefusedException"/>
    internal void Apply(IReadOnlyList<ModelEntry> layer)
    {
        layerNumber++;
        removedSomething = false;
        choices.Clear();

        // "Whiteout files MUST only apply to resources in lower/parent layers." and "[the marker] is applied first, before creating the new version
        // …, regardless of the ordering in which the whiteout file was encountered": so removal from the tree of the layers below, then the rest.
        Remove(layer);

        // "In the absence of any whiteout files in a layer changeset, the archive is extracted like a regular tar archive": one after the other.
        // "MUST NOT include duplicate entries". Choice: if there are some, as a tar archive has it: each is applied onto the one before.
        HashSet<string> seen = [];
        for (int i = 0; i < layer.Count; i++)
        {
            current = i;
            List<string> path = Components(layer[i].Name);
            if (!IsMarker(path))
            {
                CheckNames(path[..Math.Max(0, path.Count - 1)]);
                Note(!seen.Add(string.Join('/', path)), Choice.Duplicate);
                Add(layer[i], path);
            }
        }

        ForgetUnneededCopies();
    }

    // Where no link of this layer is left, there is no need for the copy.
    private void ForgetUnneededCopies()
    {
        HashSet<ModelCopy> needed = [.. Nodes(root).Where(node => node.Layer == layerNumber || rewritten.Contains(node)).Select(node => node.Copy)];
        foreach ((ModelNode node, ModelCopy before) in copied)
        {
            node.Copy = needed.Contains(node.Copy) ? node.Copy : before;
        }

        copied.Clear();
        rewritten.Clear();
    }

    private static IEnumerable<ModelNode> Nodes(ModelNode at) => at.Children.Values.SelectMany(child => Nodes(child).Prepend(child));

    private void Note(bool met, Choice choice)
    {
        if (met)
        {
            choices.Add((current, choice));
        }
    }

    private void Remove(IReadOnlyList<ModelEntry> layer)
    {
        List<(int Entry, List<string> Parent, string? Name)> markers = [];
        for (int i = 0; i < layer.Count; i++)
        {
            List<string> path = Components(layer[i].Name);
            if (!IsMarker(path))
            {
                continue;
            }

            // not a rule of ours, but one that others forget
            if (i > 0 && !layer.Take(i).All(before => IsMarker(Components(before.Name))))
            {
                choices.Add((i, Choice.LateMarker));
            }

            List<string> parent = path[..^1];
            if (path[^1] == OpaqueName)
            {
                // "An opaque whiteout entry is a file with the name .wh..wh..opq indicating that all siblings are hidden in the lower layer."
                markers.Add((i, parent, null));
            }
            else if (path.Exists(name => name.StartsWith(WhiteoutPrefix + WhiteoutPrefix, StringComparison.Ordinal)))
            {
                // Choice: .wh..wh.* other than the opaque marker is aufs's own metadata and means nothing.
                choices.Add((i, Choice.AufsMetadata));
            }
            else
            {
                // "A whiteout filename consists of the prefix .wh. plus the basename of the path to be deleted."
                string name = path[^1][WhiteoutPrefix.Length..];
                if (name is "" or "." or "..")
                {
                    // Choice: a basename that names no entry of its directory is refused.
                    throw new RefusedException(i, "a whiteout of no name");
                }

                markers.Add((i, parent, name));
            }
        }

        // All of them are looked up before the first is applied, so that they do not depend on each other's order.
        List<(ModelNode Directory, string? Name)> found = [];
        foreach ((int entry, List<string> parent, string? name) in markers)
        {
            if (Find(parent) is { } directory)
            {
                found.Add((directory, name));
            }
            else
            {
                // Choice: a marker in a directory that the layers below do not have removes nothing and makes nothing. What lies behind a symbolic
                // link is not at that path: the changeset's paths come from comparing directories, which follows none, and a link of this layer
                // is not there yet when its markers are applied.
                choices.Add((entry, Choice.MarkerWithoutDirectory));
            }
        }

        foreach ((ModelNode directory, string? name) in found)
        {
            if (name is null)
            {
                // "An opaque whiteout file hides all children of the bin/ including sub-directories and all descendants."
                removedSomething |= directory.Children.Count > 0;
                directory.Children.Clear();
            }
            else
            {
                removedSomething |= directory.Children.Remove(name);
            }
        }
    }

    private void Add(ModelEntry entry, List<string> path)
    {
        if (path.Count == 0)
        {
            if (entry.Kind != EntryKind.Directory)
            {
                // Choice: "removing the file path" of the root would leave no file system to put anything in.
                throw new RefusedException(current, "something else in the place of the root");
            }

            // the root entry "./": existing and entry are both directories
            root.Body.ReplaceAttributes(entry);
            return;
        }

        ModelNode parent = MakeParents(path[..^1]);
        string name = path[^1];
        ModelNode? existing = parent.Children.GetValueOrDefault(name);
        if (entry.Kind == EntryKind.HardLink)
        {
            AddHardLink(parent, name, existing, entry);
        }
        else if (entry.Kind == EntryKind.Directory && existing is { IsDirectory: true })
        {
            // "If the entry and the existing path are both directories, then the existing path's attributes MUST be replaced by those of the entry in
            // the changeset." Attributes are those listed under "File Attributes": also extended ones, so those the entry lacks are gone.
            existing.Body.ReplaceAttributes(entry);
        }
        else
        {
            // "In all other cases, the implementation MUST do the semantic equivalent of … removing the file path, recreating the file path, based on
            // the contents and attributes of the changeset entry": another inode, so other hard links of the old one keep what they have. A
            // symbolic link to a directory is not a directory.
            parent.Children[name] = new ModelNode(new ModelInode(entry, layerNumber), layerNumber);
        }
    }

    // "Hardlinked files are on a same device … and have the same inode." Choice: the member's own mode, owner and times are not looked at, as tar(1)
    // does; they belong to the inode and came with the entry that made it.
    private void AddHardLink(ModelNode parent, string name, ModelNode? existing, ModelEntry entry)
    {
        List<string> target = Components(entry.Target);
        if (existing is not null && FindFile(target) is { } self
            && self.Body == existing.Body && !existing.IsDirectory)
        {
            // Choice: already the same file; link(1), tar(1).
            Note(true, Choice.LinkToItself);
            CopyUp(self, existing, parent, name);
            return;
        }

        bool wasThere = FindFile(target) is not null;
        parent.Children.Remove(name);
        // Choice: what a link names must be there already, in this layer or below ("Extracting a layer with hardlink references to files outside of
        // the layer may fail" allows to refuse the latter; we do not).
        ModelNode? linked = FindFile(target);
        if (linked is null && (removedSomething || wasThere))
        {
            // Undetermined: a link to what was below or behind the very name it takes; a link to what a marker of its own layer removes. By the order
            // of the archive it could still be there; by the rule that markers come first it is not. No layer made by comparing trees has it.
            throw new RefusedException(current, "a hard link to what is no longer there") { IsUndetermined = true };
        }

        if (linked is null || linked.IsDirectory)
        {
            // "Hardlinks are possible with all file types except directories."
            throw new RefusedException(current, linked is null ? "a hard link to what is not there" : "a hard link to a directory");
        }

        CopyUp(linked, null, parent, name);
    }

    // In a union of per-layer directories a link to a lower layer's file is a copy in this layer ("Union filesystem implementations may have limited or
    // no support for hardlinks, particularly when … a hardlink is created to a file in a lower filesystem"): its old name moves to the copy too, but
    // other lower names of the same inode do not. ModelNode.Copy keeps that apart from the inode.
    private void CopyUp(ModelNode linked, ModelNode? existing, ModelNode parent, string name)
    {
        if (linked.Copy.Layer != layerNumber)
        {
            Note(true, Choice.LinkIntoLowerLayer);
            copied.Add((linked, linked.Copy));
            linked.Copy = new ModelCopy(layerNumber);
        }

        if (existing is not null)
        {
            copied.Add((existing, existing.Copy));
            existing.Copy = linked.Copy;
            if (existing != linked)
            {
                rewritten.Add(existing);
            }
        }
        else
        {
            parent.Children[name] = new ModelNode(linked.Body, layerNumber) { Copy = linked.Copy };
        }
    }

    private ModelNode? FindFile(List<string> target) =>
        target.Count > 0 && Resolve(target[..^1]) is { } parent ? Find(parent)?.Children.GetValueOrDefault(target[^1]) : null;

    // The specification speaks only of listed entries. Choices: parents that the layer does not list are those there are, with the attributes they have;
    // what is not there is made with the defaults; and what is there but is no directory is in the way of the path and is replaced by one ("In all
    // other cases … removing the file path, recreating the file path"), as everything is that an entry meets at its own path.
    private ModelNode MakeParents(List<string> path)
    {
        List<string> real = Resolve(path) ?? throw new RefusedException(current, "links in a circle");
        ModelNode at = root;
        foreach (string name in real)
        {
            if (at.Children.GetValueOrDefault(name) is not { IsDirectory: true } next)
            {
                Note(true, at.Children.ContainsKey(name) ? Choice.ReplacedParent : Choice.ImpliedParent);
                Note((at.Body.Mode & 0x400) != 0, Choice.ImpliedInGroupDirectory);
                next = ModelNode.ImpliedDirectory();
                at.Children[name] = next;
            }

            at = next;
        }

        return at;
    }

    // Choice: a symbolic link that this layer made is followed on the way to what comes after it in the archive ("the archive is extracted like a regular
    // tar archive"), as text and inside the root, whatever the layers below have at its target. One that was there before the layer is not followed: a
    // union of per-layer directories cannot, and the path says that there is a directory. Nor is a hard link to such a one. Null: the links lead in a circle.
    private List<string>? Resolve(List<string> path)
    {
        List<string> real = [];
        LinkedList<string> todo = new(path);
        int links = 0;
        while (todo.First is { } first)
        {
            todo.RemoveFirst();
            CheckNames([first.Value]);
            if (first.Value == "..")
            {
                // ".." of the root is the root
                real = real[..Math.Max(0, real.Count - 1)];
            }
            else if (Find(real)?.Children.GetValueOrDefault(first.Value) is { Body.Kind: EntryKind.SymbolicLink } link && link.Body.Layer == layerNumber)
            {
                if (++links > MaximumLinks)
                {
                    return null;
                }

                Note(true, Choice.FollowedLink);
                real = link.Body.Target.StartsWith('/') ? [] : real;
                foreach (string name in link.Body.Target.Split('/').Where(name => name is not ("" or ".")).Reverse())
                {
                    todo.AddFirst(name);
                }
            }
            else
            {
                real.Add(first.Value);
            }
        }

        return real;
    }

    /// <summary>The directory at exactly that path.</summary>
    private ModelNode? Find(List<string> path)
    {
        ModelNode at = root;
        foreach (string name in path)
        {
            if (at.Children.GetValueOrDefault(name) is not { IsDirectory: true } next)
            {
                return null;
            }

            at = next;
        }

        return at;
    }

    /// <summary>Path → what is there, as <see cref="FileTree.Read"/> tells it of a file system.</summary>
    /// <param name="layered">Hard links as a union of per-layer directories keeps them; otherwise as one tree does.</param>
    internal SortedDictionary<string, string> Describe(bool layered)
    {
        SortedDictionary<string, string> tree = new(StringComparer.Ordinal);
        Dictionary<object, List<string>> names = [];
        Visit("", root);
        foreach (List<string> group in names.Values.Where(group => group.Count > 1))
        {
            group.Sort(StringComparer.Ordinal);
            foreach (string path in group)
            {
                tree[path] += $" linked to '{TreeText.Show(group[0])}'";
            }
        }

        return tree;

        void Visit(string path, ModelNode node)
        {
            tree[path] = node.Body.Describe();
            foreach ((string name, ModelNode child) in node.Children)
            {
                string childPath = path.Length == 0 ? name : $"{path}/{name}";
                Visit(childPath, child);
                if (!child.IsDirectory)
                {
                    object key = layered ? (child.Body, child.Copy) : child.Body;
                    if (!names.TryGetValue(key, out List<string>? group))
                    {
                        names[key] = group = [];
                    }

                    group.Add(childPath);
                }
            }
        }
    }

    // Choice: a name is a path inside the root as text, so ".." takes back what is before it, whatever that is, and nothing is above the root.
    private static List<string> Components(string name)
    {
        List<string> path = [];
        foreach (string part in name.Split('/').Where(part => part is not ("" or ".")))
        {
            if (part == "..")
            {
                path = path[..Math.Max(0, path.Count - 1)];
            }
            else
            {
                path.Add(part);
            }
        }

        return path;
    }

    // "it is not possible to create a filesystem which has a file or directory with a name beginning with .wh.": so nothing can be below one, and no link
    // can lead through one.
    private void CheckNames(List<string> path)
    {
        if (path.Exists(name => name.StartsWith(WhiteoutPrefix, StringComparison.Ordinal)))
        {
            throw new RefusedException(current, "below a whiteout");
        }
    }

    // "As files prefixed with .wh. are special whiteout markers, it is not possible to create a filesystem which has a file or directory with a name
    // beginning with .wh." Choice: what is below a .wh..wh.* directory is aufs's metadata like the directory.
    private static bool IsMarker(List<string> path) =>
        path.Count > 0
        && (path[^1].StartsWith(WhiteoutPrefix, StringComparison.Ordinal)
            || path.Exists(name => name.StartsWith(WhiteoutPrefix + WhiteoutPrefix, StringComparison.Ordinal)));
}
