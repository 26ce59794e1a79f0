#!/usr/bin/env bash
# Builds everything, makes the test image and runs all tests; the last line is `N passed, N failed, N skipped`.
# The whole output is artifacts/test.log. Arguments go to the test program, such as -class NAME.
# As root nothing is left out; otherwise, what needs root is skipped and says so.
# shellcheck disable=SC2317 # functions are called by traps
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

log=$PWD/artifacts/test.log
tests=tests/NativePull.Tests/bin/Release/net10.0/NativePull.Tests
scratch=
trouble=0
mkdir -p artifacts
rm -f "$log"

# Whatever ends this script, it ends with the one line that others read.
finish() {
  local status=$? total errors failed skipped not_run passed
  trap - EXIT INT TERM
  set +e
  [ -z "$scratch" ] || clear_away "$scratch"
  read -r total errors failed skipped not_run < <(summary) || true
  if [ -n "${total:-}" ]; then
    passed=$((total - failed - skipped - not_run))
    skipped=$((skipped + not_run))
    failed=$((failed + errors + trouble))
    # a crash after the summary
    if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
  else
    passed=0 failed=1 skipped=0
  fi
  echo "$passed passed, $failed failed, $skipped skipped"
  if [ "$failed" = 0 ] && [ "$passed" -gt 0 ]; then exit 0; else exit 1; fi
}

# TOTAL ERRORS FAILED SKIPPED NOT_RUN of the last summary in the log
summary() {
  sed -nE 's/.*Total: ([0-9]+), Errors: ([0-9]+), Failed: ([0-9]+), Skipped: ([0-9]+), Not Run: ([0-9]+),.*/\1 \2 \3 \4 \5/p' \
    "$log" 2>/dev/null | tail -n 1
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
set -e

scripts/build.sh
need_packages "other programs that must agree with NativePull" skopeo umoci docker-registry libarchive-tools python3 attr libcap2-bin \
  mmdebstrap openssl nginx-light busybox-static apache2-utils sqlite3 xz-utils time bsdutils strace util-linux mount iproute2 tar zstd procps \
  fuse-overlayfs exfat-fuse exfatprogs e2fsprogs shellcheck
want_packages "another reader of override_stat" containers-storage
want_packages "file systems to extract to" xfsprogs btrfs-progs ntfs-3g
# without it those tests are skipped and say so
scripts/vm.sh || say "no virtual machines here"
image=$PWD/artifacts/test-image
mkfs_erofs=
containerd=
if [ "$(id -u)" = 0 ]; then
  containerd=$(scripts/containerd.sh artifacts/containerd) || say "no containerd here, its tests are skipped"
  mkfs_erofs=$(scripts/mkfs-erofs.sh artifacts/erofs) || say "no mkfs.erofs reads archives here, its tests are skipped"
  # without it the rest is still worth running, but is no success
  scripts/make-image.sh "$image" || { trouble=1; image=; }
elif [ ! -f "$image/index.json" ]; then
  say "not root: the test image cannot be made, its tests are skipped"
  image=
fi

say "building the tests"
run_quietly dotnet build NativePull.sln -c Release --nologo -v q

scratch=$(scratch_dir 2048)
chmod 711 "$scratch" # some tests become another user, who has to get in
export TMPDIR=$scratch NATIVEPULL_BINARY=$PWD/artifacts/linux-x64/nativepull NATIVEPULL_SCRIPTS=$PWD/scripts
[ -z "$image" ] || export NATIVEPULL_TEST_IMAGE=$image
[ -z "$containerd" ] || export NATIVEPULL_CONTAINERD=$containerd
[ -z "$mkfs_erofs" ] || export NATIVEPULL_MKFS_EROFS=$mkfs_erofs
say "running the tests"
set +e
"$tests" -noColor -noLogo -noAutoReporters "$@" </dev/null >"$log" 2>&1
status=$?
set -e
# each failure with its message and place; then what was skipped and why
awk '/\[(FAIL|SKIP)\]/ { shown = 1 } /\[[A-Z]+\]/ && !/\[(FAIL|SKIP)\]/ { shown = 0 } /^  Finished:/ { shown = 0 } shown' "$log" >&2
if [ -z "$(summary)" ]; then
  say "the test program ended with $status and without a summary:"
  tail -n 40 "$log" >&2
fi
exit "$status"
