#!/usr/bin/env bash
# Prints the directory of a containerd and its ctr: this machine's own, else those of the distribution's package, unpacked below OUT_DIR once. The
# package is not installed, because that would start a daemon and keep it. Where there is none it says why and ends with 1.
# usage: scripts/containerd.sh OUT_DIR
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$(readlink -f "$0")")/lib.sh"
[ $# = 1 ] || { echo "usage: scripts/containerd.sh OUT_DIR" >&2; exit 2; }

out=$(realpath -m "$1")
works() { "$1/containerd" --version && "$1/ctr" --version; } >/dev/null 2>&1
if own=$(command -v containerd) && works "$(dirname "$own")"; then dirname "$own"; exit 0; fi
if works "$out/usr/bin"; then echo "$out/usr/bin"; exit 0; fi

apt-cache show containerd >/dev/null 2>&1 || die "this machine has no containerd, and its apt knows no package of that name (apt-get update?)"
mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
# apt's own user reads there
chmod 755 "$work"
say "unpacking containerd"
(cd "$work" && run_quietly apt-get download containerd)
run_quietly dpkg-deb -x "$work"/containerd_*.deb "$work/root"
works "$work/root/usr/bin" || die "the distribution's containerd does not run here"
rm -rf "$out"
mv "$work/root" "$out"
echo "$out/usr/bin"
