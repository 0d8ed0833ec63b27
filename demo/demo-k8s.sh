#!/usr/bin/env bash
# What can happen to a run on a cluster, on two of them: `alpha` with a real kubelet, `beta` with simulated
# nodes. `make demo-k8s` calls it. Needs root: containers are real.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ "$(id -u)" = 0 ] || fail "real containers need root"

image=qwex.test/busybox:1
bed() { qwex-testbed --dir "$work/bed" "$@"; }
kubectl() { bed kubectl "$@"; }

build --package qwexcloud --package qwexctl --package qwex-testbed

say "1. Two Kubernetes clusters (the first time they are built, which takes some minutes)"
note "\$ qwex-testbed up --only alpha,beta"
# Not through `bed`: a function in the background is a shell of its own, and the signal at the end would miss the program.
qwex-testbed --dir "$work/bed" up --foreground --only alpha,beta >"$work/bed.log" 2>&1 &
bed_pid=$!
children+=("$bed_pid")
bed_has_settled() { ! kill -0 "$bed_pid" || bed status; }
until_true 1800 "the clusters are up (see $work/bed.log)" bed_has_settled
kill -0 "$bed_pid" 2>/dev/null || fail "the clusters ended: $(tail -n 3 "$work/bed.log")"
eval "$(bed status)"
kubectl alpha get nodes

say "2. A server that knows them, and a webhook receiver"
start_server
try 0 qwexctl cluster add alpha --kubeconfig "$QWEX_ALPHA_KUBECONFIG"
try 0 qwexctl cluster add beta --kubeconfig "$QWEX_BETA_KUBECONFIG"
try 0 qwexctl cluster ls
start_receiver
qwexctl webhook add "$receiver_url" -o json | field secret >"$work/receiver/secret"

say "3. A run on alpha: streamed, with the exit code of its command"
try 0 qwexctl run --remote --cluster alpha --image $image --name train -- sh -c 'for i in 1 2 3 4 5; do echo "epoch $i on $(hostname)"; sleep 0.5; done'
run=$(qwexctl get @latest -o json | field id)

say "4. Its Job and its pod are deleted; the record and the log are not"
try 0 kubectl alpha delete job --selector "qwex.dev/run-id=$run" --ignore-not-found
try 0 kubectl alpha get pods --selector "qwex.dev/run-id=$run"
try 0 qwexctl logs "$run" --timestamps
try 0 qwexctl why "$run"

say "5. A Job that is deleted while it runs"
deleted=$(qwexctl run --remote -d -q --cluster alpha --image $image -- sh -c 'echo "the last words"; sleep 600')
try 0 qwexctl wait --for running "$deleted" --timeout 60s
log_arrived() { qwexctl logs "$1" | grep -q 'last words'; }
until_true 30 "the log arrives" log_arrived "$deleted"
try 0 kubectl alpha delete job --selector "qwex.dev/run-id=$deleted"
note "\$ qwexctl wait $deleted"
qwexctl wait "$deleted" || true
try 0 qwexctl why "$deleted"
try 0 qwexctl logs "$deleted"

say "6. A run that wants more memory than it asked for"
try 137 qwexctl run --remote --cluster alpha --image $image --memory 32Mi -- sh -c 'echo "reading everything"; tail /dev/zero'
try 0 qwexctl why @latest

say "7. An image that nobody has"
nobody=$(qwexctl run --remote -d -q --cluster alpha --image qwex.test/nobody-has-this:1 -- true)
pulls() { [ "$(qwexctl get "$nobody" -o json | field pending.code)" = image ]; }
until_true 60 "the reason is seen" pulls
try 0 qwexctl why "$nobody"
note "It would fail by itself after five minutes; a registry may come back."
try 0 qwexctl cancel "$nobody"
# A kubelet may give a container that never started the exit code 137: the status is what counts.
note "\$ qwexctl wait $nobody --timeout 60s"
qwexctl wait "$nobody" --timeout 60s || true
[ "$(qwexctl get "$nobody" -o json | field status)" = cancelled ] || fail "the run was not cancelled"

say "8. A queue with room for one CPU, and two runs that want one each (the queue stand-in of the testbed plays Kueue)"
kubectl alpha apply -f demo/queue.yaml
first=$(qwexctl run --remote -d -q --cluster alpha --image $image --cpu 1 --queue team -- sh -c 'echo first; sleep 8')
try 0 qwexctl wait --for running "$first" --timeout 60s
second=$(qwexctl run --remote -d -q --cluster alpha --image $image --cpu 1 --queue team -- echo second)
waits() { [ "$(qwexctl get "$second" -o json | field pending.code)" = admission ]; }
until_true 30 "the second run waits for admission" waits
try 0 qwexctl why "$second"
try 0 qwexctl wait "$second" --timeout 120s
try 0 qwexctl logs "$second"

say "9. The server chooses: ten runs, two clusters"
note "\$ for i in 1 … 10; do qwexctl run --remote -d -q --image $image -- true; done"
runs=()
for _ in $(seq 10); do runs+=("$(qwexctl run --remote -d -q --image $image --label demo=spread -- true)"); done
qwexctl wait "${runs[@]}" --timeout 120s >/dev/null
try 0 qwexctl ps --label demo=spread -o wide
try 0 qwexctl why "${runs[0]}"

say "10. Every end was told, signed"
told() { [ "$(grep -c 'signature good' "$work/receiver.log")" -ge 16 ]; }
until_true 30 "the webhooks" told
cut -c 1-150 "$work/receiver.log"
! grep -q BAD "$work/receiver.log" || fail "a signature was bad"

say "Done. Nothing is left running. To do it yourself:"
cat <<'TEXT'
  target/debug/qwex-testbed up                   # clusters alpha and beta, until `down`
  qwexcloud dev                                  # in one terminal
  qwexctl cluster add alpha --kubeconfig …       # in another; `qwex-testbed status` prints the path
  qwexctl run --remote --image qwex.test/busybox:1 -- echo hello
TEXT
