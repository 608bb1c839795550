"""Takes part in erasures by webhook: it is called, looks at who calls, does the step, and answers. It reads no Kafka.

    assent participant register crm --owner crm-team --key crm --webhook https://crm.example.org/assent
    ASSENT_URL=… ASSENT_TOKEN=… ASSENT_WEBHOOK_SECRET=whsec_… python webhook_participant.py crm crm.sqlite 8080
What it does with its data is participant.py's, beside it. The contract is docs/guides/participants.md; TLS is a proxy's
in front of it. While secrets are rotated, both stand in ASSENT_WEBHOOK_SECRET, a space between.
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import participant

TOLERANCE_S = 300
BODY_MAX = 1 << 20


def genuine(headers, body):
    """Whether Assent sent these bytes, and not long ago: Standard Webhooks. Nothing else of a call is believed."""
    identity, sent, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not sent.isascii() or not sent.isdigit() or abs(time.time() - int(sent)) > TOLERANCE_S:
        return False
    for secret in os.environ["ASSENT_WEBHOOK_SECRET"].split():
        key = base64.b64decode(secret.removeprefix("whsec_"))
        mac = hmac.new(key, f"{identity}.{sent}.".encode() + body, hashlib.sha256).digest()
        expected = b"v1," + base64.b64encode(mac)
        if any(hmac.compare_digest(expected, signature.encode()) for signature in signatures.split()):
            return True
    return False


def asked(name, event):
    """The command, if it is one that this participant is asked and knows how to do."""
    if event["type"] != participant.COMMAND:
        return None
    command = event["data"]
    return command if name in command["participants"] and command["step"] in participant.STEPS else None


def take(name, db, event):
    """The status: 2xx ends this call; with any other it comes again, the same and with growing pauses."""
    command = asked(name, event)
    if command is None:
        return 204
    outcome = participant.answer(name, command, participant.carry_out(db, command))
    if outcome is None:
        if command["step"] == "sweep":
            with db:
                participant.delete(db, command["subject_id"])
        return 503
    print(command["step"], outcome, flush=True)
    return 204


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length <= BODY_MAX else b""
        try:
            status = take(self.server.name, self.server.db, json.loads(body)) if genuine(self.headers, body) else 401
        except (KeyError, TypeError, ValueError):
            status = 400
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass  # a request line is of no use, and no place for secrets


def main(name, database, port):
    db = sqlite3.connect(database)
    db.executescript(participant.SCHEMA)
    participant.load_erased(db)
    # One call at a time: what is done about a person is done in order.
    server = HTTPServer(("127.0.0.1", int(port)), Webhook)
    server.name, server.db = name, db
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
