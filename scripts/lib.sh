# shellcheck shell=bash
# Shared by the scripts of this directory; sourced, from the repository's top directory.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$*"; exit 1; }

# need_packages WHY PACKAGE... : installs those that are missing
need_packages() {
  local why=$1 missing=() p
  shift
  command -v dpkg-query >/dev/null || die "this needs Debian or Ubuntu (dpkg is missing); install yourself, $why: $*"
  for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  say "installing ${missing[*]} ($why)"
  export DEBIAN_FRONTEND=noninteractive
  run_quietly "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=900 update
  run_quietly "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=900 install -y --no-install-recommends "${missing[@]}"
}

# want_packages WHY PACKAGE... : the same for those that this distribution carries; tests of the others are skipped
want_packages() {
  local why=$1 carried=() p
  shift
  for p in "$@"; do
    if apt-cache show "$p" >/dev/null 2>&1; then carried+=("$p"); else say "this distribution has no $p ($why)"; fi
  done
  [ ${#carried[@]} = 0 ] || need_packages "$why" "${carried[@]}"
}

# The .NET SDK, from the distribution where it is carried; elsewhere one sentence that says what to run.
need_dotnet() {
  export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
  if command -v dotnet >/dev/null && dotnet --list-sdks | grep -q '^10\.'; then return 0; fi
  if apt-cache show dotnet-sdk-10.0 >/dev/null 2>&1; then
    need_packages "the .NET SDK that compiles NativePull" dotnet-sdk-10.0
  else
    die "the .NET 10 SDK is missing and this distribution does not carry it: install it with Microsoft's dotnet-install.sh --channel 10.0 and put dotnet on PATH"
  fi
}

gcc_multiarch_dir() { echo "/usr/lib/$(uname -m)-linux-gnu"; }

# run_quietly COMMAND... : its output only when it fails
run_quietly() {
  local log
  log=$(mktemp)
  if ! "$@" </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "failed: $*"
  fi
  rm -f "$log"
}

# scratch_base MIB : a directory with that much room for trees of any kind; memory where there is enough of it
scratch_base() {
  local dir free
  for dir in /dev/shm "${TMPDIR:-/tmp}" /var/tmp; do
    free=$(df -Pm "$dir" 2>/dev/null | awk 'NR == 2 { print $4 }') || continue
    if [ -w "$dir" ] && [ "${free:-0}" -ge "$1" ]; then echo "$dir"; return 0; fi
  done
  die "neither /dev/shm nor ${TMPDIR:-/tmp} nor /var/tmp has $1 MiB free"
}

# scratch_dir MIB : a new directory there
scratch_dir() {
  local base
  base=$(scratch_base "$1") || exit 1
  mktemp -d "$base/nativepull.XXXXXX"
}

# clear_away DIR : removes it and what is in it; what a test that failed left mounted there is let go, not entered
clear_away() {
  local place
  tac /proc/self/mountinfo | while read -r _ _ _ _ place _; do
    place=$(printf '%b' "$place") # blanks are \040 there
    case $place in "$1"/*) umount -l "$place" ;; esac
  done
  rm -rf --one-file-system "$1"
}
