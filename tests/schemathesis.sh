#!/usr/bin/env bash
# Throws generated requests, valid and not, at a running server, and holds every answer to the OpenAPI document: no 5xx,
# no status, type or shape that is not documented.
#   tests/schemathesis.sh URL TOKEN [schemathesis options…]
# The token should be an admin's. Generated commands are submitted as runs: give it a server without clusters.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# \?//p' "$0" >&2; exit 2; }
url=${1%/} token=$2
shift 2

version=4.32.5
tools=${QWEX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qwex}/schemathesis-$version
if [ ! -x "$tools/bin/schemathesis" ]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Answers that stay open or wait are for tests of streams, and a token must not revoke itself.
"$tools/bin/python" - "$url" "$work/openapi.json" <<'PYTHON'
import json, sys, urllib.request
document = json.load(urllib.request.urlopen(sys.argv[1] + "/openapi.json"))
for path in document["paths"].values():
    for operation in path.values():
        kept = [one for one in operation.get("parameters", []) if one["name"] not in ("watch", "follow", "wait")]
        operation["parameters"] = kept
        # A record alone is JSON; only with a log behind it is it of a type of its own.
        content = operation.get("requestBody", {}).get("content", {})
        if "application/vnd.qwex.record" in content:
            content["application/json"] = content.pop("application/vnd.qwex.record")
del document["paths"]["/v1/tokens/{id}"]
json.dump(document, open(sys.argv[2], "w"))
PYTHON

cd "$work"
"$tools/bin/schemathesis" run "$work/openapi.json" --url "$url" \
  --header "Authorization: Bearer $token" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance \
  --phases examples,coverage,fuzzing,stateful \
  --max-examples "${QWEX_FUZZ_EXAMPLES:-30}" --seed "${QWEX_FUZZ_SEED:-1}" --continue-on-failure \
  --request-timeout 20 --suppress-health-check all --no-color --warnings off "$@"
