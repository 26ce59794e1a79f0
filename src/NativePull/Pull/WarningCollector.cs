namespace NativePull.Pull;

/// <summary>Passes every event on and keeps the warnings, which are part of the result.</summary>
internal sealed class WarningCollector(IProgress<PullEvent> inner) : IProgress<PullEvent>
{
    private readonly Lock gate = new();
    private readonly List<string> texts = [];

    internal IReadOnlyList<string> Texts
    {
        get
        {
            lock (gate)
            {
                return [.. texts];
            }
        }
    }

    public void Report(PullEvent value)
    {
        if (value is PullEvent.Warning warning)
        {
            lock (gate)
            {
                texts.Add(warning.Text);
            }
        }

        inner.Report(value);
    }
}
