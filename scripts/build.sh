#!/usr/bin/env bash
# Builds artifacts/linux-x64/nativepull: one static file that needs nothing of the machine it runs on.
# Installs what is missing first, and says what and why. usage: scripts/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

rid=linux-x64
[ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m); the build is for x86_64 only so far"
need_dotnet
need_packages "to link one static executable" clang lld cmake make libssl-dev libsqlite3-dev ca-certificates binutils

native=$PWD/artifacts/native
mkdir -p "$native/$rid"
# SQLite and OpenSSL come from the distribution's own archives, so its security updates reach us by rebuilding. Their unwind tables are left
# out: no managed exception passes through these C libraries, and the tables are 0.6 MB of the executable.
prepare_archive() { # prepare_archive NAME AS
  local from to=$native/$rid/$2
  from=$(gcc_multiarch_dir)/$1
  if [ "$to" -nt "$from" ] && [ "$to" -nt src/static/left_out.awk ]; then return; fi
  objcopy --remove-section .eh_frame --remove-section .rela.eh_frame "$from" "$to"
}
prepare_archive libssl.a libssl.a
prepare_archive libcrypto.a libcrypto.a
prepare_archive libsqlite3.a libe_sqlite3.a
# What OpenSSL has and nobody here asks for goes too; newer releases carry ever more of it. left_out.awk says what and how.
leave_out() {
  local members=$native/$rid/left_out.members archive member
  (cd "$(gcc_multiarch_dir)" && nm -A libcrypto.a libssl.a 2>/dev/null) |
    awk -v MEMBERS="$members" -f src/static/left_out.awk >"$native/$rid/left_out.c.new"
  while read -r archive member; do ar d "$native/$rid/$archive" "$member"; done <"$members"
  # offered_algorithms.c stands before the default provider
  (cd "$native/$rid" && member=$(ar t libcrypto.a | grep -- '-defltprov\.o$') && ar x libcrypto.a "$member" &&
    objcopy --redefine-sym ossl_default_provider_init=ossl_whole_default_provider_init "$member" && ar r libcrypto.a "$member" && rm "$member")
  if cmp -s "$native/$rid/left_out.c.new" "$native/$rid/left_out.c"; then rm "$native/$rid/left_out.c.new"; else mv "$native/$rid/left_out.c.new" "$native/$rid/left_out.c"; fi
}
leave_out
# Mozilla's roots from the package's own files: the machine's merged bundle may hold local additions.
cat /usr/share/ca-certificates/mozilla/*.crt | gzip -9n >"$native/roots.new"
if cmp -s "$native/roots.new" "$native/roots.pem.gz"; then rm "$native/roots.new"; else mv "$native/roots.new" "$native/roots.pem.gz"; fi

say "building $rid"
# the crypto shim of the runtime is compiled here; it is not optimised unless told
export CFLAGS="-O2 -ffunction-sections -fdata-sections -Wno-unused-value"
run_quietly dotnet publish src/NativePull -c Release -r "$rid" -p:StaticExecutable=true -o "artifacts/$rid" --nologo -v q

out=artifacts/$rid/nativepull
case "$(readelf -d -l "$out")" in *INTERP*|*NEEDED*) die "$out is not static" ;; esac
size=$(stat -c %s "$out")
[ "$size" -le 15000000 ] || die "$out has $size bytes, more than the 15000000 promised"
say "built $out, $size bytes"
