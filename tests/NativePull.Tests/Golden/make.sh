#!/usr/bin/env bash
# Makes the archives and listings of this directory anew, as root, with GNU tar, bsdtar, Python and busybox: TREE.PROGRAM-FORMAT.tar.gz and
# TREE.listing. With --list DIR it prints the listing of a tree, which is how the test compares. See README.md.
set -euo pipefail

list() {
  cd "$1"
  find . \( -type f -printf '%p %y %m %U:%G %Ts %n %s\n' -o -type l -printf '%p %y %m %U:%G %Ts -> %l\n' -o -printf '%p %y %m %U:%G %Ts\n' \) | LC_ALL=C sort
  find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m '^(user|security\.capability)' -e hex
}
if [ "${1:-}" = --list ]; then list "$2"; exit; fi

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stamp() { find . -depth -exec touch -h -d @1234567890 {} +; }
pack() { # TREE PROGRAM-FORMAT COMMAND...
  (cd "$work/$1" && "${@:3}" >"$work/archive")
  gzip -n9 <"$work/archive" >"$here/$1.$2.tar.gz"
}
python() {
  python3 -c "import sys,tarfile
a=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=tarfile.$1_FORMAT)
a.add('.')
a.close()"
}

mkdir -m 755 "$work/plain"
(
  cd "$work/plain"
  umask 022
  mkdir -p dir/empty; mkdir -m 2770 dir/group; printf hello >dir/file; ln dir/file hard; ln -s dir/file link; ln -s /nowhere dangling
  printf s >suid; chown 12:34 suid; chmod 4755 suid; head -c 513 /dev/zero >"two blocks"
  stamp
)
cp -a "$work/plain" "$work/full"
(
  cd "$work/full"
  umask 022
  n=$(printf 'n%.0s' $(seq 120)); mkdir "$n"; printf 1 >"$n/$n"; ln -s "$n/$n" long; ln "$n/$n" longhard
  printf o >owned; chown 3000000:4294967294 owned; mkfifo pipe; mknod null c 1 3
  for i in 0 1 2 3 4 5; do printf 'run %s' "$i" | dd of=sparse bs=1 seek=$((i * 50000)) conv=notrunc status=none; done; truncate -s 400000 sparse
  stamp
)
cp -a "$work/plain" "$work/attributes"
(
  cd "$work/attributes"
  setfattr -n user.bytes -v 0x00ff0a3d00 dir/file; setfattr -n user.empty dir
  setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 suid
  stamp
)

pack plain gnutar-v7 tar --format=v7 -cf - .
pack plain gnutar-ustar tar --format=ustar -cf - .
pack plain bsdtar-v7 bsdtar --format=v7 -cf - .
pack plain bsdtar-ustar bsdtar --format=ustar -cf - .
pack plain python-ustar python USTAR
pack plain busybox busybox tar -cf - .
pack plain gnutar-incremental tar --format=gnu --listed-incremental="$work/snapshot" -cf - .
pack full gnutar-oldgnu tar --format=oldgnu -S -cf - .
pack full gnutar-gnu tar --format=gnu -S -cf - .
for version in 0.0 0.1 1.0; do pack full "gnutar-pax-$version" tar --format=pax -S --sparse-version=$version -cf - .; done
pack full bsdtar-gnutar bsdtar --format=gnutar -cf - .
pack full bsdtar-pax bsdtar --format=pax -cf - .
pack full python-gnu python GNU
pack full python-pax python PAX
pack attributes gnutar-pax tar --format=pax --xattrs --xattrs-include='*' -cf - .
pack attributes bsdtar-pax bsdtar --format=pax -cf - .
for tree in plain full attributes; do (list "$work/$tree") >"$here/$tree.listing"; done
