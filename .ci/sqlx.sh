#!/usr/bin/env bash
# Writes .sqlx/, what each query of the server is on the schema of migrations/; `--check` compares only.
# Starts a Postgres of its own on a socket in a temporary directory and ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || bin=$(dirname "$(command -v pg_ctl || echo none/pg_ctl)")
[ -x "$bin/pg_ctl" ] || { echo "sqlx: pg_ctl is missing: apt-get install postgresql" >&2; exit 1; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/qwex-sqlx.XXXXXX")

# Postgres refuses root.
as=()
if [ "$(id -u)" = 0 ]; then
  user=$(id -un postgres 2>/dev/null || echo nobody)
  chown "$user" "$dir"
  as=(setpriv --reuid "$user" --regid "$(id -gn "$user")" --clear-groups --)
fi
pg() { (cd "$dir" && "${as[@]}" "$bin/pg_ctl" --silent --wait --pgdata "$dir/data" "$@" >>"$dir/log" 2>&1) || { cat "$dir/log" >&2; exit 1; }; }
trap 'pg stop --mode immediate; rm -rf "$dir"' EXIT
pg initdb --options '--username qwex --auth trust --no-sync'
pg start --options "-k $dir -c listen_addresses= -c fsync=off"
sql() { "$bin/psql" --quiet --no-psqlrc --set ON_ERROR_STOP=1 --host "$dir" --username qwex "$@"; }
sql --dbname postgres --command 'create database qwex'
for file in migrations/*.sql; do sql --dbname qwex --single-transaction --file "$file" >/dev/null; done

mkdir "$dir/queries"
# The macros are not run again for a source that did not change. The selection is that of `make lint`, so that
# nothing but the server is looked at once more.
touch server/src/lib.rs
env -u SQLX_OFFLINE DATABASE_URL="postgres://qwex@localhost/qwex?host=$dir" SQLX_OFFLINE_DIR="$dir/queries" \
  cargo clippy --quiet --locked --workspace --all-targets 2>"$dir/cargo" || { cat "$dir/cargo" >&2; exit 1; }

if [ "${1:-}" = --check ]; then
  diff --brief --recursive .sqlx "$dir/queries" >&2 || { echo "sqlx: .sqlx is not in step: run \`make sqlx\` and commit it" >&2; exit 1; }
else
  mkdir -p .sqlx
  find .sqlx -name 'query-*.json' -delete
  find "$dir/queries" -name 'query-*.json' -exec cp {} .sqlx/ \;
fi
