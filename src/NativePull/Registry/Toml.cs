using System.Globalization;
using System.Text;

namespace NativePull.Registry;

/// <summary>A table of a TOML document, in the order of the file. Values are string, bool, long, List&lt;object&gt; and TomlTable.</summary>
internal sealed class TomlTable(int line)
{
    private readonly List<(string Key, object Value)> members = [];

    /// <summary>Where it begins.</summary>
    internal int Line { get; } = line;

    /// <summary>It was written as a value, or opened by a header: neither may be opened again.</summary>
    internal bool IsClosed { get; set; }

    internal IReadOnlyList<(string Key, object Value)> Members => members;

    internal object? this[string key] => members.FirstOrDefault(member => member.Key == key).Value;

    internal void Add(string key, object value) => members.Add((key, value));
}

/// <summary>
/// As much of TOML 1.0 as containerd's hosts.toml and containers' registries.conf use: tables, arrays of tables, dotted and quoted keys, strings of
/// one line, booleans, whole numbers, arrays and inline tables. Anything else is an error that names file and line, not a guess.
/// </summary>
internal sealed class Toml
{
    private const int MaximumDepth = 32;

    private readonly string file;
    private readonly string text;
    private int at;
    private int line = 1;
    private int depth;

    private Toml(string file, string text)
    {
        this.file = file;
        this.text = text.Replace("\r\n", "\n", StringComparison.Ordinal);
    }

    /// <exception cref="PullException">Usage: it cannot be read.</exception>
    internal static TomlTable Parse(string file, string text) => new Toml(file, text).Document();

    /// <summary>What is wrong with a file of settings.</summary>
    internal static PullException Error(string file, int line, string problem) => new(PullError.Usage, $"{file}, line {line}: {problem}");

    private TomlTable Document()
    {
        var root = new TomlTable(1);
        TomlTable current = root;
        while (SkipBlank())
        {
            if (text[at] == '[')
            {
                current = Header(root);
            }
            else
            {
                Pair(current);
            }

            EndLine();
        }

        return root;
    }

    private TomlTable Header(TomlTable root)
    {
        int begun = line;
        bool isArray = Skip("[[");
        at += isArray ? 0 : 1;
        List<string> path = Key();
        Expect(isArray ? "]]" : "]");
        TomlTable parent = Descend(root, path);
        string name = path[^1];
        object? there = parent[name];
        if (isArray)
        {
            if (there is null)
            {
                parent.Add(name, there = new List<object>());
            }

            TomlTable element = new(begun);
            if (there is not List<object> list || list.Exists(one => one is not TomlTable { IsClosed: false }))
            {
                throw Wrong($"{name} is no array of tables");
            }

            list.Add(element);
            return element;
        }

        if (there is TomlTable { IsClosed: false } implied)
        {
            implied.IsClosed = true; // opened by a deeper header before its own
            return implied;
        }

        if (there is not null)
        {
            throw Wrong($"{name} is there already");
        }

        var table = new TomlTable(begun) { IsClosed = true };
        parent.Add(name, table);
        return table;
    }

    private void Pair(TomlTable into)
    {
        List<string> path = Key();
        SkipSpace();
        Expect("=");
        SkipSpace();
        TomlTable parent = Descend(into, path);
        if (parent[path[^1]] is not null)
        {
            throw Wrong($"{path[^1]} is there already");
        }

        parent.Add(path[^1], Value());
    }

    // To the table that holds the last name of the path; of an array of tables, its last element.
    private TomlTable Descend(TomlTable from, List<string> path)
    {
        foreach (string name in path.Take(path.Count - 1))
        {
            object? next = from[name];
            if (next is null)
            {
                from.Add(name, next = new TomlTable(line));
            }

            from = next as TomlTable ?? (next as List<object>)?.LastOrDefault() as TomlTable ?? throw Wrong($"{name} is no table");
        }

        return from;
    }

    private List<string> Key()
    {
        var path = new List<string>();
        do
        {
            SkipSpace();
            path.Add(Peek() is '"' ? BasicString() : Peek() is '\'' ? LiteralString() : BareKey());
            SkipSpace();
        }
        while (Skip("."));
        return path;
    }

    private string BareKey()
    {
        int start = at;
        while (Peek() is { } c && (char.IsAsciiLetterOrDigit(c) || c is '_' or '-'))
        {
            at++;
        }

        return at > start ? text[start..at] : throw Wrong("a key is expected");
    }

    private object Value()
    {
        if (++depth > MaximumDepth)
        {
            throw Wrong("values are nested too deep");
        }

        object value = Peek() switch
        {
            '"' => BasicString(),
            '\'' => LiteralString(),
            '[' => Array(),
            '{' => Inline(),
            _ => Word(),
        };
        depth--;
        return value;
    }

    private object Word()
    {
        int start = at;
        while (Peek() is { } c && (char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '+' or '.' or ':'))
        {
            at++;
        }

        string word = text[start..at];
        return word switch
        {
            "true" => true,
            "false" => false,
            _ => long.TryParse(word.Replace("_", "", StringComparison.Ordinal), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number)
                ? number
                : throw Wrong(word.Length == 0 ? "a value is expected" : $"\"{word}\" is no value that is understood here"),
        };
    }

    private List<object> Array()
    {
        var values = new List<object>();
        at++;
        while (true)
        {
            if (!SkipBlank())
            {
                throw Wrong("an array does not end");
            }

            if (Skip("]"))
            {
                return values;
            }

            values.Add(Value());
            SkipBlank();
            if (!Skip(",") && Peek() != ']')
            {
                throw Wrong("a comma or ] is expected");
            }
        }
    }

    private TomlTable Inline()
    {
        var table = new TomlTable(line) { IsClosed = true };
        at++;
        SkipSpace();
        if (Skip("}"))
        {
            return table;
        }

        do
        {
            Pair(table);
            SkipSpace();
        }
        while (Skip(","));
        Expect("}");
        return table;
    }

    private string LiteralString()
    {
        RefuseMultiline("'''");
        int end = text.IndexOf('\'', at + 1);
        int newline = text.IndexOf('\n', at + 1);
        if (end < 0 || (newline >= 0 && newline < end))
        {
            throw Wrong("a string does not end");
        }

        string value = text[(at + 1)..end];
        at = end + 1;
        return value;
    }

    private string BasicString()
    {
        RefuseMultiline("\"\"\"");
        var value = new StringBuilder();
        for (at++; Peek() != '"'; at++)
        {
            if (Peek() is null or '\n')
            {
                throw Wrong("a string does not end");
            }

            value.Append(text[at] == '\\' ? Escape() : text[at].ToString());
        }

        at++;
        return value.ToString();
    }

    private string Escape()
    {
        at++;
        return Peek() switch
        {
            'b' => "\b",
            't' => "\t",
            'n' => "\n",
            'f' => "\f",
            'r' => "\r",
            '"' => "\"",
            '\\' => "\\",
            'u' => Unicode(4),
            'U' => Unicode(8),
            _ => throw Wrong("an unknown escape in a string"),
        };
    }

    private string Unicode(int digits)
    {
        if (at + digits >= text.Length || !int.TryParse(text.AsSpan(at + 1, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int code) || !Rune.IsValid(code))
        {
            throw Wrong("an unknown escape in a string");
        }

        at += digits;
        return new Rune(code).ToString();
    }

    private void RefuseMultiline(string quotes)
    {
        if (string.CompareOrdinal(text, at, quotes, 0, quotes.Length) == 0)
        {
            throw Wrong("strings of several lines are not understood here");
        }
    }

    // Spaces, comments and line ends. False: nothing follows.
    private bool SkipBlank()
    {
        while (true)
        {
            SkipSpace();
            if (Peek() == '#')
            {
                SkipComment();
            }
            else if (Peek() == '\n')
            {
                at++;
                line++;
            }
            else
            {
                return at < text.Length;
            }
        }
    }

    private void EndLine()
    {
        SkipSpace();
        if (Peek() == '#')
        {
            SkipComment();
        }

        if (Peek() is not (null or '\n'))
        {
            throw Wrong("the end of the line is expected");
        }
    }

    private void SkipComment()
    {
        int end = text.IndexOf('\n', at);
        at = end < 0 ? text.Length : end;
    }

    private void SkipSpace()
    {
        while (Peek() is ' ' or '\t')
        {
            at++;
        }
    }

    private bool Skip(string word)
    {
        bool there = string.CompareOrdinal(text, at, word, 0, word.Length) == 0;
        at += there ? word.Length : 0;
        return there;
    }

    private void Expect(string word)
    {
        if (!Skip(word))
        {
            throw Wrong($"{word} is expected");
        }
    }

    private char? Peek() => at < text.Length ? text[at] : null;

    private PullException Wrong(string problem) => Error(file, line, problem);
}
