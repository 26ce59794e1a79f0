#!/usr/bin/env bash
# Shows what NativePull does, on this machine alone: a real image in a real registry, a pull that is killed and resumed,
# a root file system, the same thing as an overlay mount, and a program of the image that runs in it.
# usage: scripts/demo.sh              the demonstration (as root; otherwise without the mount and the chroot)
#        scripts/demo.sh REF DIR      builds, then puts the root file system of REF at DIR
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

NP=$PWD/artifacts/linux-x64/nativepull
if [ $# = 2 ]; then
  dir=$(realpath -m "$2")
  scripts/build.sh
  exec "$NP" pull "$1" --rootfs "$dir"
fi
[ $# = 0 ] || { echo "usage: scripts/demo.sh [REF DIR]" >&2; exit 2; }

work=
pull_pid=
# waited for at once, so that the shell has nothing to say about it
kill_pull() { { kill -9 "$pull_pid"; wait "$pull_pid"; } 2>/dev/null || true; pull_pid=; }
clean() {
  trap - EXIT INT TERM
  [ -z "$pull_pid" ] || kill_pull
  [ -n "$work" ] || return 0
  if mountpoint -q "$work/mnt" 2>/dev/null; then umount "$work/mnt"; fi
  scripts/registry.sh stop "$work/registry"
  # one file system: never into something that is still mounted
  rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n== %s\n' "$*"; }
mib() { awk -v b="$1" 'BEGIN { printf "%.1f MiB", b / 1048576 }'; }
# number DOCUMENT OBJECT KEY : one number inside one flat object of a JSON document
number() { sed -nE "s/.*\"$2\": *\{([^}]*)\}.*/\1/p" <<<"$1" | grep -oE "\"$3\": *[0-9]+" | grep -oE '[0-9]+$'; }
largest() { { find "$1" -type f -printf '%s\n' 2>/dev/null || true; } | sort -n | tail -n 1; }
# what is held of the part that holds most: it may have holes, which its length does not tell
held() { { find "$1" -type f -printf '%b\n' 2>/dev/null || true; } | sort -n | tail -n 1 | awk '{ print $1 * 512 }'; }

scripts/build.sh
image=$PWD/artifacts/test-image
root=false
if [ "$(id -u)" = 0 ]; then
  root=true
  scripts/make-image.sh "$image"
elif [ ! -f "$image/index.json" ]; then
  die "making the image needs root; or name one: scripts/demo.sh REF DIR"
fi
need_packages "to watch and compare" util-linux mount libcap2-bin diffutils procps

work=$(scratch_dir 2048)
unset NATIVEPULL_STORE
STORE=$work/store

step "a registry on this machine, and a Debian image in it"
address=$(scripts/registry.sh start "$work/registry")
digest=$(scripts/registry.sh push "$work/registry" "$image:demo" demo/debian:12)
REF=$address/demo/debian:12
biggest=$(largest "$image/blobs")
second=$(find "$image/blobs" -type f -printf '%s\n' | sort -n | tail -n 2 | head -n 1)
# a part larger than this is of the largest layer and half there
enough=$((biggest / 2 > second ? biggest / 2 : second))
echo "$REF is $digest; its largest layer has $(mib "$biggest")"

step "nativepull pull $REF, killed with kill -9 in the middle of the largest layer"
"$NP" pull "$REF" --store "$STORE" --limit-rate 30MiB >"$work/first.out" 2>"$work/first.err" &
pull_pid=$!
for ((tries = 0; ; tries++)); do
  kept=$(held "$STORE/parts")
  [ "${kept:-0}" -le "$enough" ] || break
  kill -0 "$pull_pid" 2>/dev/null || { cat "$work/first.err" >&2; die "the pull ended before it could be killed"; }
  [ "$tries" -lt 1200 ] || die "the pull did not get half of the largest layer within 60 s"
  sleep 0.05
done
kill_pull
kept=$(held "$STORE/parts")
echo "killed; $(mib "$kept") of the largest layer are kept"

step "the same pull again resumes, and extracts each layer"
json=$("$NP" pull "$REF" --store "$STORE" --extract --json)
total=$(number "$json" bytes total)
downloaded=$(number "$json" bytes downloaded)
resumed=$(grep -oE '"resumedFrom": *[1-9][0-9]*' <<<"$json" | wc -l)
echo "$(mib "$downloaded") of $(mib "$total") were transferred, $(mib $((total - downloaded))) were not; $resumed of the layers resumed"
if [ "$downloaded" -ge "$total" ] || [ "$resumed" = 0 ]; then die "nothing was resumed: $json"; fi
grep -qF "\"$digest\"" <<<"$json" || die "the digest is not $digest: $json"

step "nativepull extract: the root file system, offline"
"$NP" extract "$REF" --rootfs "$work/rootfs" --store "$STORE"
echo "$(find "$work/rootfs" -mindepth 1 -printf . | wc -c) entries, $(du -sm "$work/rootfs" | cut -f 1) MiB"
getcap "$work/rootfs/usr/bin/ping" || true
ls -l "$work/rootfs/usr/bin/su"

# every entry with its type, mode, owner, size of a file, link target and time
facts() { (cd "$1" && find . -mindepth 1 \( -type d -printf '%P|%y|%m|%U:%G|%T@\0' -o -printf '%P|%y|%m|%U:%G|%s|%l|%T@\0' \)) | LC_ALL=C sort -z; }

if $root; then
  step "nativepull layers --overlay: the same tree as an overlay mount"
  mkdir "$work/mnt"
  mount -t overlay overlay -o "$("$NP" layers "$REF" --overlay --store "$STORE")" "$work/mnt"
  facts "$work/rootfs" >"$work/facts.rootfs"
  facts "$work/mnt" >"$work/facts.mnt"
  if ! cmp -s "$work/facts.rootfs" "$work/facts.mnt"; then
    diff <(tr '\0\n' '\n?' <"$work/facts.rootfs") <(tr '\0\n' '\n?' <"$work/facts.mnt") | head -n 20 >&2 || true
    die "the mount and the root file system differ"
  fi
  diff -r --no-dereference "$work/rootfs/usr" "$work/mnt/usr"
  diff -r --no-dereference "$work/rootfs/etc" "$work/mnt/etc"
  umount "$work/mnt"
  echo "$(tr -dc '\0' <"$work/facts.mnt" | wc -c) entries are the same in both: names, types, modes, owners, sizes, links, times; and all contents of /usr and /etc"

  step "a program of the image, in it"
  # shellcheck disable=SC2016 # perl's variables
  chroot "$work/rootfs" /usr/bin/perl -e 'open my $f, "<", "/etc/os-release"; print grep { /^PRETTY_NAME/ } <$f>; print "perl $^V says hello\n"'
else
  step "left out: an overlay mount and chroot need root"
fi

step "nativepull list"
"$NP" list --store "$STORE"

step "nativepull inspect $REF"
"$NP" inspect "$REF" --store "$STORE"

step "done"
