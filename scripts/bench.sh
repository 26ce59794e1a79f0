#!/usr/bin/env bash
# Measures the published executable beside its peers on this machine, and prints medians, ratios and peak memory.
# The image: this machine's own files of /usr up to 1 GiB as one gzip layer, served by a real registry on loopback. Everything lies in memory
# where there is room, so that it is the programs that are measured and not a disk. Runs are interleaved; no single number is worth much.
# usage, as root: scripts/bench.sh [RUNS]      5 by default
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ "$(id -u)" = 0 ] || die "unpacking with owners needs root"
runs=${1:-5}

scripts/build.sh
need_packages "peers to measure against, and the means to measure" skopeo umoci docker-registry time tar gzip
NP=$PWD/artifacts/linux-x64/nativepull
work=$(scratch_dir 8000)
unset NATIVEPULL_STORE
export TMPDIR=$work
clean() {
  trap - EXIT INT TERM
  scripts/registry.sh stop "$work/registry"
  rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the image
mkdir "$work/layer"
(cd /; find usr/bin usr/lib usr/share -xdev -type f -size -8M -printf '%s %p\0' 2>/dev/null || true) |
  awk -v RS='\0' -v ORS='\0' '{ size = $1; sub(/^[0-9]+ /, ""); if (total + size <= 1073741824) { total += size; print } }' >"$work/list"
tar -C / --create --format=posix --no-recursion --null --files-from="$work/list" --file="$work/layer.tar"
run_quietly umoci init --layout "$work/image"
run_quietly umoci new --image "$work/image:bench"
run_quietly umoci raw add-layer --image "$work/image:bench" "$work/layer.tar"
files=$(tr -dc '\0' <"$work/list" | wc -c)
plain=$(stat -c %s "$work/layer.tar")
blob=$(find "$work/image/blobs" -type f -printf '%s\n' | sort -n | tail -n 1)
rm "$work/layer.tar"
address=$(scripts/registry.sh start "$work/registry")
scripts/registry.sh push "$work/registry" "$work/image:bench" bench/usr:1 >/dev/null
rm -rf "$work/image"
REF=$address/bench/usr:1

# --- measured things: each cleans up before, and is one command
measure() { # measure NAME SETUP COMMAND... : appends "seconds peakKiB" to NAME's file
  local name=$1 setup=$2 begun ended
  shift 2
  rm -rf "$work/store" "$work/rootfs" "$work/layout" "$work/bundle"
  eval "$setup" >/dev/null 2>&1
  begun=$EPOCHREALTIME
  /usr/bin/time -q -f %M -o "$work/peak" "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; die "failed: $*"; }
  ended=$EPOCHREALTIME
  echo "$(awk -v a="$begun" -v b="$ended" 'BEGIN { printf "%.4f", b - a }') $(cat "$work/peak")" >>"$work/$name.result"
}
# shellcheck disable=SC2016 # setups are evaluated by measure
pull_quietly='"$NP" pull -q "$REF" --store "$work/store"'
# shellcheck disable=SC2016
copy_quietly='skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$REF" "oci:$work/layout:1"'
for ((i = 0; i < runs; i++)); do
  measure np-pull : "$NP" pull -q "$REF" --store "$work/store"
  measure skopeo-copy : skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$REF" "oci:$work/layout:1"
  measure np-rootfs : "$NP" pull -q "$REF" --store "$work/store" --rootfs "$work/rootfs"
  measure skopeo-umoci : sh -c "REF=$REF work=$work; $copy_quietly && umoci raw unpack --image $work/layout:1 $work/rootfs"
  measure np-layers : "$NP" pull -q "$REF" --store "$work/store" --extract
  measure np-extract "$pull_quietly" "$NP" extract -q "$REF" --store "$work/store" --rootfs "$work/rootfs"
  measure umoci-unpack "$copy_quietly" umoci raw unpack --image "$work/layout:1" "$work/rootfs"
  measure np-again "$pull_quietly" "$NP" pull -q "$REF" --store "$work/store"
done

# --- start-up: many runs in one go, because one is shorter than the clock's grain
start_ms() {
  local i begun times=()
  for ((i = 0; i < 100; i++)); do
    begun=${EPOCHREALTIME/./}
    "$NP" version >/dev/null
    times+=($((${EPOCHREALTIME/./} - begun)))
  done
  printf '%s\n' "${times[@]}" | sort -n | awk '{ t[NR] = $1 } END { printf "min %.1f ms, median %.1f ms (fork and exec of the shell included)", t[1] / 1000, t[int((NR + 1) / 2)] / 1000 }'
}

median() { sort -n "$work/$1.result" | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'; }
peak() { awk '$2 > most { most = $2 } END { printf "%.1f", most / 1024 }' "$work/$1.result"; }
row() { # row LABEL NAME BASE : seconds, peak memory, and how many times as fast as BASE
  awk -v l="$1" -v t="$(median "$2")" -v p="$(peak "$2")" -v b="$(median "$3")" 'BEGIN { printf "%-44s %8.2f s  %8.1f MiB  %6.2fx\n", l, t, p, b / t }'
}
printf '\nnativepull %s bytes; start to exit of "version": %s\n' "$(stat -c %s "$NP")" "$(start_ms)"
printf 'one layer: %s files, %.0f MiB plain, %.0f MiB gzip; %s runs, medians; peak is the largest seen; the last column is how many times as fast\n' \
  "$files" "$((plain >> 20))" "$((blob >> 20))" "$runs"
row "registry to store: skopeo copy" skopeo-copy skopeo-copy
row "registry to store: nativepull pull" np-pull skopeo-copy
row "registry to files: skopeo copy + umoci unpack" skopeo-umoci skopeo-umoci
row "registry to files: nativepull --rootfs" np-rootfs skopeo-umoci
row "registry to layers: nativepull --extract" np-layers skopeo-umoci
row "store to files: umoci raw unpack" umoci-unpack umoci-unpack
row "store to files: nativepull extract" np-extract umoci-unpack
row "the same pull again: nativepull" np-again np-pull
