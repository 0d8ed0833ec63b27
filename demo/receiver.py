"""A webhook receiver for the demos: verifies Standard Webhooks signatures, prints one line per delivery.

usage: receiver.py DIRECTORY
Writes the URL it listens on to DIRECTORY/url; reads the secret from DIRECTORY/secret at each delivery.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_SECONDS = 300
MOST_BYTES = 1 << 20


def signed(secret: str, headers, body: bytes) -> bool:
    """Whether one of the signatures of the header is ours: HMAC-SHA256 over id.timestamp.body."""
    secret = secret.removeprefix("whsec_")
    key = base64.b64decode(secret + "=" * (-len(secret) % 4))
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    ours = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < TOLERANCE_SECONDS
    return fresh and any(hmac.compare_digest(one, f"v1,{ours}") for one in given)


def receiver(directory: pathlib.Path):
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(min(int(self.headers.get("content-length", 0)), MOST_BYTES))
            secret = (directory / "secret").read_text().strip()
            good = signed(secret, self.headers, body)
            if good:
                event = json.loads(body)
                told = {key: event["data"].get(key) for key in ("run_id", "name", "exit_code", "failure", "link")}
                print(f"signature good: {event['type']} {json.dumps(told)}", flush=True)
            else:
                print(f"SIGNATURE BAD: {body[:200]!r}", flush=True)
            self.send_response(204 if good else 401)
            self.end_headers()

        def log_message(self, *_):
            pass

    return Receiver


def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), receiver(directory))
    (directory / "url").write_text(f"http://127.0.0.1:{server.server_port}/")
    server.serve_forever()


if __name__ == "__main__":
    main()
