#!/usr/bin/env bash
# Installs what a target of the Makefile needs: `needs.sh build|lint|test|demo|demo-k8s`.
#
# Debian packages are installed as root; without root, or on another system, it says what to install.
# With CI set a missing part is an error, else the tests that need it skip loudly. Tools that are not
# packaged go to the cache, outside the tree, so that a second run finds them.
set -euo pipefail

CACHE=${QWEX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qwex}
CARGO_DENY=0.20.2
SCHEMATHESIS=4.32.5

say() { printf '%s\n' "needs: $*" >&2; }
fail() { say "$*"; exit 1; }
# What cannot be had: an error in CI, a word on a laptop.
lack() { if [ -n "${CI:-}" ]; then fail "$*"; else say "$* (going on without)"; fi; }

# packages NAME...: Debian packages, only those that are absent.
packages() {
  command -v dpkg-query >/dev/null || { lack "no Debian here: install yourself what these hold: $*"; return 0; }
  local absent=() name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || absent+=("$name")
  done
  [ ${#absent[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || { lack "as root: apt-get install ${absent[*]}"; return 0; }
  say "apt-get install ${absent[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null </dev/null
  apt-get install -q -y --no-install-recommends "${absent[@]}" >/dev/null </dev/null
}

rust() {
  command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.95 or newer, see https://rustup.rs"
  local part
  for part in "$@"; do
    case $part in
      rustfmt) cargo fmt --version >/dev/null 2>&1 && continue ;;
      clippy) cargo clippy --version >/dev/null 2>&1 && continue ;;
    esac
    command -v rustup >/dev/null || fail "$part is missing: install it for $(rustc --version)"
    say "rustup component add $part"
    rustup component add "$part"
  done
}

cargo_deny() {
  local bin=$CACHE/tools/bin/cargo-deny
  [ "$("$bin" --version 2>/dev/null)" = "cargo-deny $CARGO_DENY" ] && return 0
  say "building cargo-deny $CARGO_DENY, once"
  # Unoptimised: it is built in half the time and runs for seconds.
  CARGO_TARGET_DIR=$CACHE/tools/build CARGO_INCREMENTAL=0 \
    cargo install --quiet --debug --locked --force --root "$CACHE/tools" --version "$CARGO_DENY" cargo-deny </dev/null
  rm -rf "$CACHE/tools/build"
}

go_compiler() {
  command -v go >/dev/null || lack "go is missing, the clusters of the testbed are built with it: install Go 1.24 or newer, see https://go.dev/dl"
}

schemathesis() {
  local venv=$CACHE/schemathesis-$SCHEMATHESIS
  [ -x "$venv/bin/schemathesis" ] && return 0
  say "installing schemathesis $SCHEMATHESIS, once"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$SCHEMATHESIS" </dev/null || {
    rm -rf "$venv"
    lack "schemathesis could not be installed"
  }
}

build() { packages gcc libc6-dev make; rust; }
clusters() { packages containerd runc containernetworking-plugins iproute2 iptables busybox-static procps; go_compiler; }

case ${1:-} in
  make) packages make ;;
  build) build ;;
  lint) build; packages postgresql; rust rustfmt clippy; cargo_deny ;;
  demo) build; packages postgresql python3 curl ca-certificates ;;
  demo-k8s) build; packages postgresql python3 curl ca-certificates; clusters ;;
  test)
    build
    packages postgresql python3 python3-venv curl ca-certificates jq git docker.io podman openssh-server openssh-client strace
    clusters
    schemathesis
    ;;
  *) fail "usage: needs.sh make|build|lint|test|demo|demo-k8s" ;;
esac
