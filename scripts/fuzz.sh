#!/usr/bin/env bash
# Coverage-guided fuzzing of the layer reader with AFL++ through SharpFuzz.
# Starts from tests/NativePull.Fuzz/corpus and the seeds that the harness writes; what is found is below artifacts/fuzz/findings.
# Ends with 1 where an input crashed the reader or kept it busy. Look at one with: dotnet artifacts/fuzz/bin/NativePull.Fuzz.dll FILE
# usage: scripts/fuzz.sh [SECONDS]      600 by default
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=${1:-600}
out=$PWD/artifacts/fuzz
need_dotnet
need_packages "the fuzzer" afl++

say "building and instrumenting"
rm -rf "${out:?}/bin" "$out/seeds"
mkdir -p "$out"
run_quietly dotnet build tests/NativePull.Fuzz -c Release --nologo -v q -o "$out/bin"
[ -x "$out/tools/sharpfuzz" ] || run_quietly dotnet tool install SharpFuzz.CommandLine --version 2.3.0 --tool-path "$out/tools"
dotnet "$out/bin/NativePull.Fuzz.dll" --seeds "$out/seeds"
cp tests/NativePull.Fuzz/corpus/* "$out/seeds" 2>/dev/null || true
run_quietly "$out/tools/sharpfuzz" "$out/bin/nativepull.dll" NativePull.Layers NativePull.IO NativePull.Native.GZipInflater

say "fuzzing for $seconds s"
rm -rf "$out/findings"
# the harness is a managed program: nothing in the dotnet binary is instrumented, and crashes are exceptions
export AFL_SKIP_BIN_CHECK=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_SKIP_CPUFREQ=1 AFL_NO_AFFINITY=1 AFL_NO_UI=1 AFL_TRY_AFFINITY=0
afl-fuzz -i "$out/seeds" -o "$out/findings" -t 5000 -m none -V "$seconds" -- dotnet "$out/bin/NativePull.Fuzz.dll" >"$out/log" 2>&1 ||
  { tail -n 40 "$out/log" >&2; die "afl-fuzz failed"; }

stat() { sed -n "s/^$1 *: //p" "$out/findings/default/fuzzer_stats"; }
say "$(stat execs_done) inputs, $(stat execs_per_sec) a second, $(stat corpus_count) kept, $(stat saved_crashes) crashes, $(stat saved_hangs) hangs"
[ "$(stat saved_crashes)" = 0 ] && [ "$(stat saved_hangs)" = 0 ]
