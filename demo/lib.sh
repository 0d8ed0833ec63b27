# What the demos share: talk, one server in a temporary directory, a webhook receiver, and an end that
# leaves nothing running. Sourced by demo.sh and demo-k8s.sh; QWEX_DEMO_KEEP=1 keeps the directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/qwex-demo.XXXXXX")
children=()
bin=${CARGO_TARGET_DIR:-target}/debug
export PATH=$(cd "$(dirname "$bin")" 2>/dev/null && pwd || pwd)/debug:$PATH
# Nobody's own context, token or server is touched.
export QWEX_CONFIG_DIR=$work/config QWEX_DATA_DIR=$work/data
unset QWEX_SERVER QWEX_TOKEN QWEX_CONTEXT QWEX_PROJECT QWEX_DATABASE_URL

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' red='' plain=''; fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
fail() {
  printf '%sdemo failed: %s%s\n' "$red" "$*" "$plain" >&2
  [ ! -s "$work/qwexcloud.log" ] || { echo "the end of the server's log:" >&2; tail -n 30 "$work/qwexcloud.log" >&2; }
  exit 1
}

# try CODE COMMAND...: prints the command as one would type it, runs it, and wants this exit code.
try() {
  local want=$1 code=0
  shift
  printf '%s$ %s%s\n' "$bold" "$(shown "$@")" "$plain"
  "$@" || code=$?
  [ "$code" = "$want" ] || fail "$1 ended with $code, not $want"
}
shown() {
  local word out=''
  for word in "$@"; do
    case $word in
      *[!A-Za-z0-9@%+=:,./_-]* | '') out+=" '${word//\'/\'\\\'\'}'" ;;
      *) out+=" $word" ;;
    esac
  done
  printf '%s' "${out# }"
}

# until_true SECONDS WHAT COMMAND...: waits for a condition.
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "$what: not within the time given"
    sleep 0.1
  done
}

# field PATH: reads JSON from stdin, prints the value at a dotted path.
field() { python3 -c 'import json,sys,functools; print(functools.reduce(lambda v,k: v[int(k)] if k.isdigit() else v[k], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }

# What keeps a cluster takes its mounts and files away by itself, a moment after it was ended.
remove() {
  local until=$((SECONDS + 30))
  until rm -rf "$work" 2>/dev/null; do
    [ $SECONDS -lt $until ] || { rm -rf "$work"; return 1; }
    sleep 0.2
  done
}

end() {
  local code=$? pid
  trap - EXIT INT TERM
  for pid in "${children[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${children[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ -n "${QWEX_DEMO_KEEP:-}" ]; then echo "kept: $work"; else remove; fi
  exit "$code"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build() {
  say "Building (the first time takes some minutes)"
  cargo build --quiet --locked "$@"
}

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

# start_server: qwexcloud dev in the work directory; sets $server to its process.
start_server() {
  export QWEX_LISTEN=${QWEX_LISTEN:-127.0.0.1:$(free_port)}
  note "\$ qwexcloud dev --data-dir $QWEX_DATA_DIR --listen $QWEX_LISTEN &"
  qwexcloud dev >>"$work/qwexcloud.log" 2>&1 &
  server=$!
  children+=("$server")
  until_true 60 "the server is ready" ready
}
ready() { kill -0 "$server" && curl -fsS "http://$QWEX_LISTEN/readyz"; }

# start_receiver: a webhook endpoint on loopback that verifies signatures; sets $receiver_url.
start_receiver() {
  python3 demo/receiver.py "$work/receiver" >"$work/receiver.log" &
  children+=("$!")
  until_true 10 "the receiver listens" test -s "$work/receiver/url"
  receiver_url=$(cat "$work/receiver/url")
}
received() { grep -q "$1" "$work/receiver.log"; }
