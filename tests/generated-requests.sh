#!/usr/bin/env bash
# Generated requests against a server of its own: `tests/schemathesis.sh` on `qwexcloud dev` in a temporary directory, whose
# cluster is drained, so that no generated command is executed. `make integration` calls it; it wants a built tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lack() { echo "generated requests: $*" >&2; [ -z "${CI:-}" ] || exit 1; echo "SKIPPED: generated requests" >&2; exit 0; }
bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug
for part in python3 curl; do command -v $part >/dev/null || lack "$part is missing"; done
tools=${QWEX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qwex}
compgen -G "$tools/schemathesis-*/bin/schemathesis" >/dev/null || lack "schemathesis is missing, .ci/needs.sh test installs it"

work=$(mktemp -d "${TMPDIR:-/tmp}/qwex-generated.XXXXXX")
server=
end() {
  local code=$?
  trap - EXIT
  [ -z "$server" ] || { kill -TERM "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
  [ $code = 0 ] || { echo "the end of the server's log:" >&2; tail -n 20 "$work/server.log" >&2; }
  rm -rf "$work"
  exit $code
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

unset QWEX_SERVER QWEX_TOKEN QWEX_CONTEXT QWEX_PROJECT QWEX_DATABASE_URL
export QWEX_CONFIG_DIR=$work/config QWEX_DATA_DIR=$work/data
QWEX_LISTEN=127.0.0.1:$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
export QWEX_LISTEN
"$bin/qwexcloud" dev >"$work/server.log" 2>&1 </dev/null &
server=$!
for _ in $(seq 600); do
  kill -0 "$server" 2>/dev/null || exit 1
  ! curl -fsS "http://$QWEX_LISTEN/readyz" >/dev/null 2>&1 || break
  sleep 0.1
done
"$bin/qwexctl" cluster drain local >/dev/null
token=$("$bin/qwexctl" token create generated --role admin -o json |
  python3 -c 'import json,sys; print(json.load(sys.stdin)["token"])')
bash tests/schemathesis.sh "http://$QWEX_LISTEN" "$token"
