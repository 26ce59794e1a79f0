using System.Diagnostics;
using System.Text;
using NativePull.Tests.EndToEnd;
using NativePull.Tests.Fakes;

namespace NativePull.Tests.Conformance;

/// <summary>Trees that are hard to archive, and the programs that archive them.</summary>
internal static class AwkwardTree
{
    /// <summary>What every format since v7 can hold, made in the current directory.</summary>
    internal const string Plain = """
        set -e
        umask 022
        mkdir -m 755 dir; mkdir -m 700 dir/private; mkdir -m 1777 tmp; mkdir -m 2775 dir/setgid; mkdir dir/empty
        : >empty; printf hello >dir/five
        for n in 511 512 513 10239 10240 10241; do head -c $n /dev/zero | tr '\0' x >dir/x$n; done
        printf 's' >suid; chown 12:34 suid; chmod 4755 suid; printf 'g' >sgid; chmod 2711 sgid
        printf 'r' >dir/readonly; chmod 444 dir/readonly; printf n >none; chmod 0 none
        ln dir/five hard; ln dir/five dir/private/hard2; ln empty dir/empty2
        ln -s dir/five link; ln -s /absolute/nowhere dangling; ln -s . dir/self; chown -h 7:8 link
        printf a >'with space'; printf b >'back\slash'; printf c >./-dash; printf d >'quote"and'"'"
        printf e >"$(printf 'new\nline')"; printf f >"$(printf 'latin\351')"; printf g >'🎉'; printf h >'a=b'
        chmod 555 dir/private
        find . -depth -exec touch -h -d @1234567890 {} +

        """;

    /// <summary>Added to it: what v7 does not hold.</summary>
    internal const string Special = """
        mkfifo -m 640 pipe; mknod -m 666 null c 1 3; mknod -m 660 disk b 8 17; mknod -m 600 far c 511 70000
        find . -depth -exec touch -h -d @1234567890 {} +

        """;

    /// <summary>Added to it: long names, large owners, fractions of seconds.</summary>
    internal const string Long = """
        l=$(printf 'n%.0s' $(seq 250)); mkdir -p deep/$l/$l; printf 1 >deep/$l/$l/$l; printf 2 >deep/$l/short
        ln -s $l/$l/$l deep/toolong; ln deep/$l/$l/$l deep/hardlong
        m=$(printf 'm%.0s' $(seq 90)); mkdir -p $m/$m; printf 3 >$m/$m/prefix; h=$(printf 'h%.0s' $(seq 99)); printf 4 >$h; printf 5 >${h}h; printf 6 >${h}hh; ln -s $h hundred; ln -s ${h}hh hundred2
        printf o >owned; chown 3000000:4294967294 owned; printf p >owned2; chown 2097151:2097152 owned2
        find . -depth -exec touch -h -d @1234567890.5 {} +

        """;

    /// <summary>Added to it: times before 1970 and after 2242.</summary>
    internal const string Times = """
        printf 7 >old; touch -d @-86400.25 old; touch -d @8589934592 future; touch -d @68719476736 future2; touch -h -d @1234567890.5 .

        """;

    /// <summary>Added to it: files with holes, the last with more runs than an old header holds.</summary>
    internal const string Sparse = """
        truncate -s 1M hole; truncate -s 1M ends; printf a | dd of=ends conv=notrunc status=none; printf z | dd of=ends bs=1 seek=1048575 conv=notrunc status=none
        truncate -s 1M starts; printf a | dd of=starts conv=notrunc status=none
        for i in $(seq 0 40); do printf "run $i" | dd of=many bs=1 seek=$((i * 65536)) conv=notrunc status=none; done; truncate -s 3M many
        find . -depth -exec touch -h -d @1234567890.5 {} +

        """;

    /// <summary>Added to it: extended attributes with bytes of all values.</summary>
    internal const string Attributes = """
        setfattr -n user.text -v hello dir/five; setfattr -n user.bytes -v 0x00ff0a3d00 dir; setfattr -n user.empty empty; setfattr -n user.two -v 2 dir
        setfattr -n trusted.t -v 0x0102 suid; cp /bin/true dir/ping; setcap cap_net_raw+ep dir/ping
        find . -depth -exec touch -h -d @1234567890.5 {} +

        """;

    /// <summary>
    /// All of it as the lower layer of an image at <c>layout</c>. The upper one removes, hides and adds; what it puts into <c>dir</c>, which has
    /// attributes, comes after the archive has gone on elsewhere.
    /// </summary>
    internal static async Task LayoutAsync(TemporaryDirectory work)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "owners, devices and attributes need root");
        Directory.CreateDirectory(work["tree"]);
        Run(work["tree"], Plain + Special + Long + Sparse + Attributes + Times + """
            setfattr -h -n trusted.link -v l link; setfattr -n trusted.fifo -v f pipe
            touch -d @1234567890.12 pipe; touch -d @1234567890.000000001 none; touch -d @-86400 suid
            """);
        Run(work.Path, "tar -C tree --create --format=posix --numeric-owner --xattrs --xattrs-include='*' --file=lower.tar . && rm -r tree");
        byte[] upper = new TarBuilder()
            .Whiteout("dir/x511").Whiteout("sgid").Opaque("dir/private").File("tmp/later", "x").File("dir/added", "x").File("dir/private/only", "x").End().ToArray();
        LayoutDirectory.Write(work["layout"], "1", [await File.ReadAllBytesAsync(work["lower.tar"], TestContext.Current.CancellationToken), upper]);
        File.Delete(work["lower.tar"]);
    }

    /// <summary>Runs a shell script in a directory.</summary>
    internal static void Run(string directory, string script)
    {
        ProcessStartInfo start = new("bash", ["-c", script])
        {
            WorkingDirectory = directory,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            StandardErrorEncoding = Encoding.Latin1,
            StandardOutputEncoding = Encoding.Latin1,
        };
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{script[^Math.Min(script.Length, 300)..]}\nends with {process.ExitCode}: {errors}{output.GetAwaiter().GetResult()}");
    }
}
