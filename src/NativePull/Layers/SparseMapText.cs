namespace NativePull.Layers;

/// <summary>Reads the map of a sparse file of format 1.0 block by block: a count, then that many offsets and lengths, each a decimal number and a newline.</summary>
internal sealed class SparseMapText(int limit, string what)
{
    // digits of the largest number
    private const int Longest = 19;

    private readonly byte[] digits = new byte[Longest];
    private int length;
    private long? left;
    private long? offset;

    internal SparseMap Map { get; } = new(limit, what);

    /// <summary>Takes one block; false when the map is whole, and the rest of the block is padding.</summary>
    /// <exception cref="PullException">Malformed, LimitPassed.</exception>
    internal bool Add(ReadOnlySpan<byte> block)
    {
        foreach (byte letter in block)
        {
            if (letter != '\n')
            {
                if (length == Longest)
                {
                    throw Bad();
                }

                digits[length++] = letter;
                continue;
            }

            if (!PaxRecords.TryDigits(digits.AsSpan(0, length), out long number))
            {
                throw Bad();
            }

            length = 0;
            Take(number);
            if (left == 0)
            {
                return false;
            }
        }

        return true;
    }

    private void Take(long number)
    {
        if (left is null)
        {
            left = number;
        }
        else if (offset is null)
        {
            offset = number;
        }
        else
        {
            Map.Add(offset.Value, number);
            offset = null;
            left--;
        }
    }

    private PullException Bad() => new(PullError.Malformed, $"archive: sparse map {what}: \"{TarText.Show(digits.AsSpan(0, length))}\" is no number, expected at most 19 decimal digits and a newline");
}
