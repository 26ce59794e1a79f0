#!/usr/bin/env bash
# What several connections bring where each is limited, for one blob or many, and cost where they are not: one JSON line a network, with the
# seconds of every run over one connection and as nativepull chooses, and the ratio of their medians (above 1: several are faster).
# Then the requests, connections and bytes of pulls that find more and more, and of one that is cut.
# usage: scripts/bench-lanes.sh [RUNS [NETWORK]]      RUNS of each, interleaved, 5 if not given; NETWORK: those alone whose name holds this
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

tests=tests/NativePull.Tests/bin/Release/net10.0/NativePull.Tests
export NATIVEPULL_BINARY=${NATIVEPULL_BINARY:-$PWD/artifacts/linux-x64/nativepull}
[ -x "$NATIVEPULL_BINARY" ] || scripts/build.sh
[ -x "$tests" ] || run_quietly dotnet build tests/NativePull.Tests -c Release --nologo -v q
scratch=$(scratch_dir 3000)
trap 'rm -rf "$scratch"' EXIT
say "$(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg), $(date -u +%F)"
TMPDIR=$scratch BENCH_RUNS=${1:-5} BENCH_NETWORK=${2:-} "$tests" -noColor -noLogo -explicit only -class NativePull.Tests.EndToEnd.LaneBench </dev/null |
  tee "$scratch/log" | grep --line-buffered '^{' || { cat "$scratch/log" >&2; die "the measurement failed"; }
