#!/usr/bin/env bash
# A real image with awkward contents, as an OCI layout at OUT_DIR with the tag `demo`; made once, remade when this script changes.
#   1  the base system that mmdebstrap makes of this machine's own apt sources: hard links, setuid files
#   2  packages installed on top of it: changed and removed files, a file capability
#   3  deletes and replaces what is below, and holds what archives and file systems like to lose
#   4  one large file that does not compress, so that an interruption has something to cut
# usage, as root: scripts/make-image.sh OUT_DIR
set -euo pipefail
umask 022
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
[ $# = 1 ] || { echo "usage: scripts/make-image.sh OUT_DIR" >&2; exit 2; }

out=$(realpath -m "$1")
sum=$(sha256sum <"$here/make-image.sh")
made() { [ -f "$out/index.json" ] && [ "$(cat "$out.stamp" 2>/dev/null)" = "$sum" ]; }
made && exit 0
[ "$(id -u)" = 0 ] || die "making a root file system with its owners and devices needs root"
mkdir -p "$(dirname "$out")"
exec 9>"$out.lock"
flock 9
made && exit 0
need_packages "to make the test image" mmdebstrap umoci libcap2-bin attr openssl tar

# shellcheck source=/dev/null
. /etc/os-release
suite=$VERSION_CODENAME
base_packages=perl-base,passwd,login,mount
more_packages='bzip2 iputils-ping less perl tzdata'
large_mib=96

work=$(scratch_dir 1200)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
root=$work/root

# The files that name this machine's apt sources of its own distribution; what other vendors offer is left out.
apt_sources() {
  local uris
  # shellcheck disable=SC2016 # apt's variables
  uris=$(apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)' 'Created-By: Packages' |
    sed -nE "s#^(Debian[^|]*|Ubuntu|)\|(.*[^/])/*\|$suite(-updates|-security)?\$#\2#p" | sort -u)
  [ -n "$uris" ] || die "apt has no source for $suite; run apt-get update first"
  grep -lsF -e "$uris" /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources
}

# Proxy and TLS settings of this machine's apt serve the download; they stay out of the image.
apt-config dump | grep -E '^Acquire::(https?::|Check|Retries)' >"$work/apt.conf" || true

list_tree='find . -xdev -mindepth 1 \( -path "./dev/*" -o -path "./proc/*" -o -path "./sys/*" -o -path "./var/lib/apt/lists/*" -o -path "./var/cache/apt/*"'
list_tree+=' -o -path ./etc/resolv.conf -o -path ./etc/hostname -o -path "./etc/apt/apt.conf.d/*mmdebstrap" -o -path "./tmp/*" \) -prune -o'
tar_layer=(tar --create --format=posix --numeric-owner --xattrs "--xattrs-include='*'" --no-recursion --null)

# pack DIR LIST FILE : the entries that LIST names, NUL-ended and relative to DIR
pack() { (cd "$1" && eval "${tar_layer[*]} --files-from=\"\$2\" --file=\"\$3\""); }

base_and_packages() {
  mapfile -t sources < <(apt_sources)
  [ ${#sources[@]} -gt 0 ] || die "no apt source of $suite found"
  say "installing $suite and then $more_packages"
  # the second layer begins where the list was taken; apt's package lists are only there inside the hooks
  # (tar says 1 for proc and sys, which are mounted there meanwhile and change while it looks)
  run_quietly mmdebstrap --mode=root --variant=minbase --format=directory --include="$base_packages" --aptopt="$work/apt.conf" --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
    --customize-hook="cd \"\$1\" && $list_tree -printf '%P\\0' | LC_ALL=C sort -z >$work/before" \
    --customize-hook="cd \"\$1\" && { ${tar_layer[*]} --files-from=$work/before --file=$work/1.tar || [ \$? = 1 ]; } && sleep 0.1 && touch $work/moment && sleep 0.1" \
    --customize-hook="APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG apt-get install --yes --no-install-recommends -o DPkg::Chroot-Directory=\"\$1\" $more_packages" \
    --customize-hook="rm -f \"\$1/etc/apt/apt.conf.d/99mmdebstrap\"" \
    "$suite" "$root" "${sources[@]}"
  setcap cap_net_raw+ep "$root$(readlink -f /bin)/ping"
}

# What has changed since, by ctime, which no installer can set back; what is gone becomes whiteouts.
packages_layer() {
  (cd "$root" && eval "$list_tree" '-cnewer "$work/moment" -printf "%P\0"') | LC_ALL=C sort -z >"$work/changed"
  (cd "$root" && eval "$list_tree" '-printf "%P\0"') | LC_ALL=C sort -z >"$work/after"
  pack "$root" "$work/changed" "$work/2.tar"
  mkdir "$work/gone"
  local path
  LC_ALL=C comm -z -23 "$work/before" "$work/after" | while IFS= read -r -d '' path; do
    # below a directory that is gone itself, one whiteout is enough
    [ -d "$root/$(dirname "$path")" ] || continue
    mkdir -p "$work/gone/$(dirname "$path")"
    : >"$work/gone/$(dirname "$path")/.wh.$(basename "$path")"
  done
  (cd "$work/gone" && find . -type f -printf '%P\0') | LC_ALL=C sort -z >"$work/whiteouts"
  (cd "$work/gone" && tar --append --format=posix --owner=0 --group=0 --null --files-from="$work/whiteouts" --file="$work/2.tar")
}

awkward_layer() {
  local top=$work/awkward path
  mkdir -p "$top"/{dev,etc,opt/odd,usr/bin,usr/share/doc,usr/share/zoneinfo/America,usr/share/perl5}
  # deletions one by one, of a tree, and of everything below a directory that gets new contents
  for path in "$root"/usr/share/doc/*; do : >"$top/usr/share/doc/.wh.$(basename "$path")"; done
  : >"$top/usr/share/.wh.bug"
  : >"$top/usr/share/zoneinfo/America/.wh..wh..opq"
  echo 'the only one left' >"$top/usr/share/zoneinfo/America/Here"
  # a file becomes a directory, a directory a symbolic link, a symbolic link a file
  for path in etc/issue.net:-f etc/skel:-d etc/os-release:-L usr/share/bug:-d usr/share/zoneinfo/America:-d; do
    test "${path#*:}" "$root/${path%:*}" || die "the base system's ${path%:*} is not what this layer is to replace"
  done
  mkdir "$top/etc/issue.net"
  echo 'was a file' >"$top/etc/issue.net/now"
  ln -s ../usr/share/misc "$top/etc/skel"
  cp "$root/usr/lib/os-release" "$top/etc/os-release"

  cd "$top/opt/odd"
  echo one >first
  ln first second
  mkfifo -m 640 fifo
  mknod -m 666 "$top/dev/null" c 1 3
  mknod -m 660 block b 7 99
  echo space >'a name with spaces '
  echo utf8 >$'gr\303\274\303\237e-\346\227\245\346\234\254'
  echo latin1 >$'not-utf8-\344\377'
  echo backslash >'back\slash'
  echo newline >$'new\nline'
  ln -s $'new\nline' $'link\nto it'
  ln -s /no/such/place dangling
  : >empty
  mkdir -m 1777 sticky
  mkdir -m 0 locked
  echo setgid >setgid && chown 12345:54321 setgid && chmod 2755 setgid
  echo exact >sub-second && touch -d '2021-03-04 05:06:07.123456789 UTC' sub-second
  echo old >before-the-epoch && touch -d '1965-05-06 07:08:09 UTC' before-the-epoch
  echo future >after-2038 && touch -d '2106-02-07 06:28:17 UTC' after-2038
  echo attributes >attributes
  setfattr -n user.comment -v 'kept by tar' attributes
  setfattr -n user.binary -v 0x00ff0a3d00 attributes
  path=$(printf 'l%.0s' {1..120})
  mkdir -p "$path/$path" && echo long >"$path/$path/$path"
  cd "$OLDPWD"

  # a hard link to a file of a layer below: its entry names a path that this archive does not hold
  cp --archive "$root/usr/bin/perl" "$top/usr/bin/perl"
  ln "$top/usr/bin/perl" "$top/usr/bin/zz-perl"
  (cd "$top" && find . -mindepth 1 -printf '%P\0') | LC_ALL=C sort -z >"$work/awkward.list"
  pack "$top" "$work/awkward.list" "$work/3.tar"
  tar --delete --file="$work/3.tar" usr/bin/perl
}

large_layer() {
  mkdir -p "$work/large/opt"
  openssl enc -aes-256-ctr -K "$(printf '0%.0s' {1..64})" -iv "$(printf '0%.0s' {1..32})" -in /dev/zero 2>/dev/null |
    head -c "${large_mib}M" >"$work/large/opt/large.bin" || [ "$(stat -c %s "$work/large/opt/large.bin")" = $((large_mib << 20)) ]
  touch -d @0 "$work/large/opt" "$work/large/opt/large.bin"
  printf 'opt\0opt/large.bin\0' >"$work/large.list"
  pack "$work/large" "$work/large.list" "$work/4.tar"
}

layout() {
  local n
  run_quietly umoci init --layout "$work/layout"
  run_quietly umoci new --image "$work/layout:demo"
  for n in 1 2 3 4; do
    run_quietly umoci raw add-layer --image "$work/layout:demo" --history.created_by "make-image.sh, layer $n" "$work/$n.tar"
    rm "$work/$n.tar"
  done
  run_quietly umoci config --image "$work/layout:demo" --no-history --clear=config.cmd --config.cmd /bin/bash \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  run_quietly umoci gc --layout "$work/layout"
}

base_and_packages
packages_layer
awkward_layer
large_layer
say "packing"
layout
rm -rf "$out" "$out.new" "$out.stamp"
cp -r "$work/layout" "$out.new"
mv "$out.new" "$out"
echo "$sum" >"$out.stamp"
say "made $out:demo, $(du -sm "$out" | cut -f 1) MiB"
