#!/usr/bin/env bash
# Cuts the power while NativePull pulls, extracts and replaces, looks at what the disk holds, and lets it go on. Two kinds of cut, COUNT of each for
# every scenario and file system:
#   machine   a virtual machine is killed at a random moment: its memory is gone, its disk has all that it was given
#   disk      a disk with a cache of its own loses, from a random write on, any of what was not flushed, in any order
# A table, and as the last line `N power cuts, N violations, seed N`; fails where there is a violation.
# usage, as root: scripts/power.sh [COUNT [FILE_SYSTEM...]]     20 and ext4 by default; a file system may have options: ext4,data=writeback xfs btrfs
# In the environment: POWER_SEED (1), POWER_KINDS ("machine disk"), POWER_SCENARIO (part of a scenario's name; all), POWER_IMAGE (LAYOUT:TAG, from a
# real registry; for machines), POWER_OPTIONS (more options; --no-sync shows that damage is seen). POWER_TEST=Parts measures instead how much of a
# blob in progress survives, POWER_PARTS (5) cuts each.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ "$(id -u)" = 0 ] || die "mounting what a disk holds needs root"

export POWER_CUTS=${1:-20}
[ $# -lt 2 ] || { shift; export POWER_FILE_SYSTEMS=$*; }
scripts/vm.sh
need_packages "to make file systems and mount them" mount e2fsprogs xfsprogs btrfs-progs
tests=tests/NativePull.Tests/bin/Release/net10.0/NativePull.Tests
export NATIVEPULL_BINARY=${NATIVEPULL_BINARY:-$PWD/artifacts/linux-x64/nativepull}
[ -x "$NATIVEPULL_BINARY" ] || scripts/build.sh
[ -x "$tests" ] || run_quietly dotnet build tests/NativePull.Tests -c Release --nologo -v q
scratch=$(scratch_dir 1500)
trap 'rm -rf --one-file-system "$scratch"' EXIT
# what is no row of the table is in the log
TMPDIR=$scratch "$tests" -noColor -noLogo -explicit only -method "NativePull.Tests.EndToEnd.PowerCuts.${POWER_TEST:-Many}" </dev/null |
  tee "$scratch/log" | sed -un 's/^| //p' || { cat "$scratch/log" >&2; die "it was not as it should be"; }
