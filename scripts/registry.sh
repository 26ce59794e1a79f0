#!/usr/bin/env bash
# A real registry (Debian's docker-registry) on a free loopback port, for the tests and the demonstration.
# usage: scripts/registry.sh start DIR                        prints its address; config, storage, log, pid and address live in DIR
#        scripts/registry.sh push DIR LAYOUT:TAG NAME:TAG     prints the digest of what was pushed, unchanged
#        scripts/registry.sh stop DIR                         ends that registry alone; DIR stays
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"

usage() { sed -n 's,^# *usage: *\|^#  *\(scripts/registry\.sh\),\1,p' "$here/registry.sh" >&2; exit 2; }

# the pid file may outlive its process and the number may be another's by now
is_ours() { tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline" | grep -qxF "$dir/config.yml"; }

start() {
  local pid address tries
  need_packages "to run a registry on this machine" docker-registry skopeo
  mkdir -p "$dir/storage"
  if [ -s "$dir/pid" ] && is_ours "$(cat "$dir/pid")"; then die "already running in $dir: $(cat "$dir/address")"; fi
  # port 0: the kernel picks a free one, and nobody can take it in between
  cat >"$dir/config.yml" <<END
version: 0.1
log: {level: info, formatter: text}
storage:
  filesystem: {rootdirectory: '$dir/storage'}
  delete: {enabled: true}
http:
  addr: 127.0.0.1:0
END
  : >"$dir/log"
  # the OpenTelemetry exporter of newer versions would look for a collector
  OTEL_TRACES_EXPORTER=none setsid docker-registry serve "$dir/config.yml" </dev/null >>"$dir/log" 2>&1 &
  pid=$!
  echo "$pid" >"$dir/pid"
  for ((tries = 0; tries < 200; tries++)); do
    address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$dir/log" | head -n 1)
    if [ -n "$address" ] && answers "$address"; then
      echo "$address" | tee "$dir/address"
      return 0
    fi
    kill -0 "$pid" 2>/dev/null || { cat "$dir/log" >&2; die "the registry ended at once"; }
    sleep 0.1
  done
  cat "$dir/log" >&2
  stop
  die "the registry did not answer within 20 s"
}

# answers HOST:PORT : the API's version check says 200, or 401 where the environment sets an authentication (REGISTRY_AUTH…)
answers() {
  local status
  (
    exec 3<>"/dev/tcp/${1%:*}/${1##*:}"
    printf 'GET /v2/ HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" >&3
    read -r -t 5 status <&3
    [[ $status == *' 200 '* || $status == *' 401 '* ]]
  ) 2>/dev/null
}

push() {
  local address
  [ -s "$dir/address" ] || die "no registry was started in $dir"
  address=$(cat "$dir/address")
  run_quietly skopeo --insecure-policy copy --quiet --all --preserve-digests --dest-tls-verify=false \
    --digestfile "$dir/pushed" "oci:$1" "docker://$address/$2"
  cat "$dir/pushed"
  echo
}

stop() {
  local pid tries
  [ -s "$dir/pid" ] || return 0
  pid=$(cat "$dir/pid")
  if is_ours "$pid"; then
    kill "$pid" 2>/dev/null || true
    for ((tries = 0; tries < 50; tries++)); do
      is_ours "$pid" || break
      sleep 0.1
    done
    if is_ours "$pid"; then kill -KILL "$pid" 2>/dev/null || true; fi
  fi
  rm -f "$dir/pid" "$dir/address"
}

[ $# -ge 2 ] || usage
command=$1
dir=$(realpath -m "$2")
case "$command $#" in
  'start 2') start ;;
  'push 4') push "$3" "$4" ;;
  'stop 2') stop ;;
  *) usage ;;
esac
