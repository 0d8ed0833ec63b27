#!/usr/bin/env bash
# One run through the whole of qwex on this machine: CLI, server, Postgres, an embedded cluster, watch,
# SQL, log archive, signed webhook. `make demo` calls it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build --package qwexcloud --package qwexctl

say "1. A server, with a Postgres of its own and an embedded cluster, in a temporary directory"
start_server
sed -n '1,20p' "$work/qwexcloud.log" | grep -v '^{' | head -n 12 || true

say "2. A webhook receiver that verifies signatures, and an endpoint for it"
start_receiver
note "\$ qwexctl webhook add $receiver_url"
qwexctl webhook add "$receiver_url" -o json | field secret >"$work/receiver/secret"

say "3. A run: its output is streamed, its exit code is ours"
program='for i in 1 2 3 4 5 6; do echo "epoch $i: loss 0.$((9 - i))"; sleep 0.5; done; echo "saved model" >&2'
try 0 qwexctl run --remote --name train -- sh -c "$program"

say "4. What became of it"
try 0 qwexctl ps
run=$(qwexctl get @latest -o json | field id)
try 0 qwexctl get "$run" -o json
try 0 qwexctl why "$run"

say "5. The webhook"
until_true 15 "the webhook" received 'signature good: run.succeeded'
cat "$work/receiver.log"

say "6. The server dies without a word and starts again: status and log are still there, from the archive"
note "\$ kill -9 $server && qwexcloud dev &"
kill -KILL "$server"
wait "$server" 2>/dev/null || true
start_server
try 0 qwexctl logs "$run" --timestamps
try 0 qwexctl wait "$run"

say "7. A run that fails says why, and its exit code is ours too"
try 3 qwexctl run --remote -- sh -c 'echo "no such data set" >&2; exit 3'
try 0 qwexctl why @latest

say "8. The same from CI, with nothing but curl and a token"
token=$(qwexctl token create ci --role submitter -o json | field token)
note "\$ curl -H \"Authorization: Bearer \$QWEX_TOKEN\" -d '{\"command\":[\"echo\",\"from curl\"]}' http://$QWEX_LISTEN/v1/runs"
api() { curl -fsS -H "Authorization: Bearer $token" -H 'Content-Type: application/json' "$@"; }
id=$(api -d '{"command":["echo","from curl"]}' "http://$QWEX_LISTEN/v1/runs" | field id)
over() { case $(api "http://$QWEX_LISTEN/v1/runs/$id" | field status) in succeeded | failed | cancelled) ;; *) false ;; esac; }
until_true 30 "the run of curl" over
note "\$ curl -H \"Authorization: Bearer \$QWEX_TOKEN\" http://$QWEX_LISTEN/v1/runs/$id/logs"
api -H 'Accept: text/plain' "http://$QWEX_LISTEN/v1/runs/$id/logs"

say "Done. Nothing is left running. To do it yourself:"
cat <<'TEXT'
  qwexcloud dev                                  # in one terminal
  qwexctl run --remote -- echo hello             # in another
  qwexctl ps; qwexctl logs @latest; qwexctl why @latest
  make demo-k8s                                  # the same on real clusters
TEXT
