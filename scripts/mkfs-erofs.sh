#!/usr/bin/env bash
# Prints a mkfs.erofs that reads archives (--tar, erofs-utils 1.7 and later): this machine's own, else that of Debian 13, unpacked below OUT_DIR
# without being installed, once, from the mirror that this machine's apt uses for Debian. Where neither is to be had it says why and ends with 1.
# usage, as root: scripts/mkfs-erofs.sh OUT_DIR
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
[ $# = 1 ] || { echo "usage: scripts/mkfs-erofs.sh OUT_DIR" >&2; exit 2; }

out=$(realpath -m "$1")
suite=trixie
reads_archives() { case "$("$1" --help 2>&1)" in *--tar=*) ;; *) return 1 ;; esac; }

offered=$(apt-cache policy erofs-utils 2>/dev/null | sed -nE 's/^ *Candidate: ([0-9].*)$/\1/p')
if [ -n "$offered" ] && dpkg --compare-versions "$offered" ge 1.7; then
  need_packages "to make file systems of archives" erofs-utils
fi
if own=$(command -v mkfs.erofs) && reads_archives "$own"; then echo "$own"; exit 0; fi
if [ -x "$out/mkfs.erofs" ] && reads_archives "$out/mkfs.erofs"; then echo "$out/mkfs.erofs"; exit 0; fi

# shellcheck source=/dev/null
. /etc/os-release
# shellcheck disable=SC2016 # apt's variables
mirror=$(apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)' 'Created-By: Packages' |
  sed -nE "s#^Debian\|(.*)\|${VERSION_CODENAME:-none}\$#\1#p" | head -n 1)
[ -n "$mirror" ] || die "this machine's erofs-utils do not read archives, and its apt knows no mirror of Debian to take others from (apt-get update?)"
need_packages "to unpack Debian 13's erofs-utils" mmdebstrap debian-archive-keyring
keys=(/usr/share/keyrings/debian-archive-"$suite"-stable.*)
# the package of a Debian that was made before its successor's keys were
[ -e "${keys[0]}" ] || run_quietly apt-get -o DPkg::Lock::Timeout=900 install -y --no-install-recommends debian-archive-keyring

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
apt-config dump | grep -E '^Acquire::(https?::|Check|Retries)' >"$work/apt.conf" || true
say "unpacking $suite's erofs-utils"
run_quietly mmdebstrap --variant=extract --include=erofs-utils --aptopt="$work/apt.conf" "$suite" "$work/root" "deb $mirror $suite main"
# its own libraries with its own loader: the rest of the machine is seen as it is
cat >"$work/root/mkfs.erofs" <<'RUN'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/usr/lib64/ld-linux-x86-64.so.2" --library-path "$here/usr/lib/x86_64-linux-gnu" "$here/usr/bin/mkfs.erofs" "$@"
RUN
chmod 755 "$work/root/mkfs.erofs"
reads_archives "$work/root/mkfs.erofs" || die "Debian's mkfs.erofs does not read archives"
rm -rf "$out"
mv "$work/root" "$out"
echo "$out/mkfs.erofs"
