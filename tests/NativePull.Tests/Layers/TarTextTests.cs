using System.Text;
using NativePull.Layers;

namespace NativePull.Tests.Layers;

/// <summary>Names from archives in messages: one line, and nothing that a terminal obeys.</summary>
public class TarTextTests
{
    [Theory]
    [InlineData("plain/name", "plain/name")]
    [InlineData("Überzug 🎉", "Überzug 🎉")]
    [InlineData("new\nline", "new\\x0aline")]
    [InlineData("\u001b[31mred", "\\x1b[31mred")]
    [InlineData("\u0085next line", "\\xc2\\x85next line")]
    [InlineData("right\u202Eleft", "right\\xe2\\x80\\xaeleft")]
    [InlineData("line\u2028separator", "line\\xe2\\x80\\xa8separator")]
    [InlineData("zero\u200Bwidth", "zero\\xe2\\x80\\x8bwidth")]
    public void Text_is_shown_and_controls_are_escaped(string name, string shown) => Assert.Equal(shown, TarText.Show(Encoding.UTF8.GetBytes(name)));

    [Theory]
    [InlineData(new byte[] { 0x61, 0xff, 0x62 }, "a\\xffb")]
    [InlineData(new byte[] { 0xc3 }, "\\xc3")]
    [InlineData(new byte[] { 0xed, 0xa0, 0x80 }, "\\xed\\xa0\\x80")]
    [InlineData(new byte[] { 0 }, "\\x00")]
    public void Bytes_that_are_no_text_are_escaped(byte[] name, string shown) => Assert.Equal(shown, TarText.Show(name));

    [Fact]
    public void A_name_of_any_length_stays_a_short_message()
    {
        string shown = TarText.Show(new byte[100_000]);

        Assert.InRange(shown.Length, 200, 250);
        Assert.EndsWith("…", shown, StringComparison.Ordinal);
    }
}
