#!/usr/bin/env bash
# What virtual machines are made of, in artifacts/vm: Debian's kernel for clouds, the modules that a network, a disk and file systems need,
# each with those it needs, and whether KVM or emulation (TCG) runs them here. Nothing is installed but qemu. Made once.
# usage: scripts/vm.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

out=$PWD/artifacts/vm
targets=(virtio_pci virtio_blk virtio_net xfs btrfs)
# crc32c under the name by which xfs and btrfs ask for it is in the kernel; what they load by other names, they do without
stamp=$(sha256sum <scripts/vm.sh)
made() { [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; }
[ "$(uname -m)" = x86_64 ] || die "virtual machines are tried on x86_64 only"
need_packages "to run virtual machines" qemu-system-x86 busybox-static
mkdir -p artifacts
exec 9>"$out.lock"
flock 9
made && exit 0

work=$(scratch_dir 400)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir -p "$out/modules"

say "fetching a kernel"
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: //p' | head -n 1)
[ -n "$package" ] || die "apt knows no linux-image-cloud-amd64 (a Debian, after apt-get update, does)"
(cd "$work" && run_quietly apt-get download "$package")
dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -x -C "$work" --wildcards './boot/vmlinuz-*' './lib/modules/*'
cp "$work"/boot/vmlinuz-* "$out/vmlinuz"

# Modules are named by what they say of themselves; depmod is not needed for so few.
find "$work/lib/modules" -name '*.ko' >"$work/all"
field() { objcopy -O binary --only-section=.modinfo "$1" /dev/stdout | tr '\0' '\n' | sed -n "s/^$2=//p"; }
declare -A seen
load() { # load NAME : it after all that it needs, into the list
  local file name
  [ -z "${seen[$1]:-}" ] || return 0
  seen[$1]=1
  file=$(grep -m 1 -E "/${1//[_-]/[_-]}\.ko$" "$work/all") || die "$package has no module $1"
  for name in $(field "$file" depends | tr ',' ' '); do load "$name"; done
  cp "$file" "$out/modules/$1.ko"
  echo "$1" >>"$list"
}
for target in "${targets[@]}"; do
  seen=() list=$out/modules/$target.list
  load "$target"
done

# Some machines have a /dev/kvm that interprets guests, slower than qemu does, or stops at what it does not know.
accelerator=tcg
mkdir -p "$work/root"
printf '#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n' >"$work/root/init"
chmod 755 "$work/root/init"
mkdir "$work/root/bin"
cp "$(command -v busybox)" "$work/root/bin/busybox"
(cd "$work/root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/initramfs"
if [ -w /dev/kvm ] && timeout 10 qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -no-user-config -display none -no-reboot \
  -kernel "$out/vmlinuz" -initrd "$work/initramfs" -append 'quiet panic=-1' </dev/null >"$work/log" 2>&1; then
  accelerator=kvm
fi
echo "$accelerator" >"$out/accel"
echo "$stamp" >"$out/stamp"
say "made $out, $(du -sm "$out" | cut -f 1) MiB, to be run by $accelerator"
