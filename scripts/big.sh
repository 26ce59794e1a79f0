#!/usr/bin/env bash
# Extracts big trees with the published executable and prints time and peak memory: 200,000 files, 300 layers, one sparse file of 10 GB and,
# where asked for, 10 GB of content. Fails where a peak is above 64 MiB or something is missing from a tree.
# usage, as root: scripts/big.sh [files] [layers] [sparse] [dense]      the first three by default; dense needs 14 GB of room
# shellcheck disable=SC2317 # functions are called by traps, and by their names put together
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ "$(id -u)" = 0 ] || die "unpacking with owners needs root"
[ $# -gt 0 ] || set -- files layers sparse
LIMIT=65536 # KiB

[ -n "${NATIVEPULL_BINARY:-}" ] || scripts/build.sh
NP=${NATIVEPULL_BINARY:-$PWD/artifacts/linux-x64/nativepull}
need_packages "to make big layers, and to measure" docker-registry skopeo mount time tar zstd
room=4000
case " $* " in *' dense '*) room=14000 ;; esac
work=$(scratch_dir "$room")
unset NATIVEPULL_STORE
clean() {
  trap - EXIT INT TERM
  scripts/registry.sh stop "$work/registry"
  if mountpoint -q "$work/mount"; then umount "$work/mount"; fi
  rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
address=$(scripts/registry.sh start "$work/registry")

# --- images: a layout written by hand, since the tools that make one compress with gzip alone, slowly
blob() { # blob FILE TYPE : moves it into the layout and prints its descriptor
  local hex
  hex=$(sha256sum <"$1" | cut -d ' ' -f 1)
  printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' "$2" "$hex" "$(stat -c %s "$1")"
  mv "$1" "$work/layout/blobs/sha256/$hex"
}

begin_image() {
  rm -rf "$work/layout"
  mkdir -p "$work/layout/blobs/sha256"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
  layers=() diff_ids=()
}

add_layer() { # add_layer COMMAND... : whose output is a tar
  "$@" | tee >(sha256sum | cut -d ' ' -f 1 >"$work/diff") | zstd -q -1 -T2 >"$work/blob"
  # the process substitution may end later
  until [ -s "$work/diff" ]; do sleep 0.01; done
  diff_ids+=("\"sha256:$(cat "$work/diff")\"")
  layers+=("$(blob "$work/blob" layer.v1.tar+zstd)")
  rm "$work/diff"
}

joined() { local IFS=,; echo "$*"; }

push_image() { # push_image NAME
  local arch
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
  echo "{\"architecture\":\"$arch\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$(joined "${diff_ids[@]}")]}}" >"$work/json"
  echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":$(blob "$work/json" config.v1+json),\"layers\":[$(joined "${layers[@]}")]}" >"$work/json"
  echo "{\"schemaVersion\":2,\"manifests\":[$(blob "$work/json" manifest.v1+json | sed 's/}$//'),\"annotations\":{\"org.opencontainers.image.ref.name\":\"1\"}}]}" >"$work/layout/index.json"
  scripts/registry.sh push "$work/registry" "$work/layout:1" "big/$1:1" >/dev/null
  rm -rf "$work/layout"
}

# --- runs
failed=0
measure() { # measure LABEL ARGUMENT...
  local label=$1 verdict=
  shift
  /usr/bin/time -q -f '%e %M' -o "$work/time" "$NP" "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; die "$label: failed"; }
  read -r seconds peak <"$work/time"
  if [ "$peak" -gt "$LIMIT" ]; then verdict='  ABOVE 64 MiB'; failed=1; fi
  awk -v l="$label" -v s="$seconds" -v p="$peak" -v v="$verdict" 'BEGIN { printf "%-44s %8.2f s  %8.1f MiB%s\n", l, s, p / 1024, v }'
}

expect() { # expect LABEL VALUE EXPECTED
  if [ "$2" != "$3" ]; then say "$1: expected $3, got $2"; failed=1; fi
}

run() { # run NAME : flat and in layers; check_NAME DIR looks at the tree
  local reference=$address/big/$1:1 lower
  measure "$1, flat" pull -q "$reference" --store "$work/store" --rootfs "$work/rootfs"
  "check_$1" "$work/rootfs"
  rm -rf "$work/rootfs"
  measure "$1, layers, from the store" pull -q "$reference" --store "$work/store" --extract
  # overlayfs wants two lower directories; by relative names, so that 300 of them stay below its limit of one page
  mkdir -p "$work/mount" "$work/empty"
  lower=$("$NP" layers "$reference" --store "$work/store" | tac)
  overlay "$lower"
  "check_$1" "$work/mount"
  umount "$work/mount"
  rm -rf "$work/store"
}

overlay() { # overlay DIRECTORIES : mounts them, the topmost first
  local dir links=() i=0
  rm -rf "$work/l"
  mkdir "$work/l"
  for dir in $1 "$work/empty"; do
    ln -s "$dir" "$work/l/$i"
    links+=("$i")
    i=$((i + 1))
  done
  (cd "$work/l" && mount -t overlay overlay -o "ro,lowerdir=$(IFS=:; echo "${links[*]}")" "$work/mount")
}

image_files() {
  mkdir "$work/tree"
  (cd "$work/tree" && seq -f 'd%04g' 0 1999 | xargs mkdir && seq 0 199999 | awk '{ printf "d%04d/file-%06d%c", $1 / 100, $1, 0 }' | xargs -0 touch)
  add_layer tar -C "$work/tree" --sort=name --mtime=@1700000000 -c .
  rm -rf "$work/tree"
  mkdir -p "$work/tree/d0001"
  touch "$work/tree/d0001/.wh.file-000100" "$work/tree/d0001/new"
  add_layer tar -C "$work/tree" -c d0001/.wh.file-000100 d0001/new
  rm -rf "$work/tree"
}
check_files() { expect "files in $1" "$(find "$1" -type f | wc -l)" 200000; }

image_layers() {
  local i
  for ((i = 0; i < 300; i++)); do
    mkdir -p "$work/tree/d/e$((i % 7))"
    echo "$i" | tee "$work/tree/d/last" >"$work/tree/d/e$((i % 7))/f$i"
    if [ $((i % 3)) = 2 ]; then
      mkdir "$work/tree/d/e$(((i - 1) % 7))"
      touch "$work/tree/d/e$(((i - 1) % 7))/.wh.f$((i - 1))"
    fi
    add_layer tar -C "$work/tree" -c d
    rm -rf "$work/tree"
  done
}
check_layers() {
  expect "the last file of $1" "$(cat "$1/d/last")" 299
  expect "files in $1" "$(find "$1" -type f | wc -l)" 201
}

sparse_file() { # a hole of 10 GB with a little at both ends and in the middle
  mkdir "$work/tree"
  truncate -s 10000000000 "$work/tree/huge"
  for at in 0 5000000000 9999999990; do printf 'something ' | dd of="$work/tree/huge" bs=1 seek="$at" conv=notrunc status=none; done
}
image_sparse() {
  sparse_file
  add_layer tar -C "$work/tree" --sparse -c huge
  rm -rf "$work/tree"
}
check_sparse() {
  expect "size of $1/huge" "$(stat -c %s "$1/huge")" 10000000000
  expect "the end of $1/huge" "$(tail -c 10 "$1/huge")" 'something '
  expect "the middle of $1/huge" "$(tail -c +5000000001 "$1/huge" | head -c 9)" something
  [ "$(stat -c %b "$1/huge")" -lt 10000 ] || { say "$1/huge: the hole was filled: $(stat -c %b "$1/huge") blocks"; failed=1; }
}

image_dense() { # text that is not all the same: zeros alone would be refused for unpacking to so much
  local i
  mkdir "$work/tree"
  seq -f 'line %09.0f of a file as long as a day and as dull as the lines before' 1000000 >"$work/chunk"
  { for ((i = 0; i < 150; i++)); do cat "$work/chunk"; done | head -c 9999999990 || true; printf 'something '; } >"$work/tree/huge"
  rm "$work/chunk"
  add_layer tar -C "$work/tree" -c huge
  rm -rf "$work/tree"
}
check_dense() {
  expect "size of $1/huge" "$(stat -c %s "$1/huge")" 10000000000
  expect "the end of $1/huge" "$(tail -c 10 "$1/huge")" 'something '
  [ "$(stat -c %b "$1/huge")" -gt 19000000 ] || { say "$1/huge has holes: $(stat -c %b "$1/huge") blocks"; failed=1; }
}

printf '%-44s %10s  %12s\n' "$(uname -srm), $(nproc) cores" time peak
for name in "$@"; do
  declare -F "image_$name" >/dev/null || die "no such tree: $name"
  begin_image
  "image_$name"
  push_image "$name"
  run "$name"
done
exit "$failed"
