"""What no description can say: how WhatsApp proves that a webhook is its own."""

import hashlib
import hmac
import os

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    path = "/webhooks/whatsapp"
    if case.path != path or not case.meta.generation.mode.is_positive:
        return
    if case.method == "GET":
        case.query["hub.mode"] = "subscribe"
        case.query["hub.verify_token"] = os.environ["WHATSAPP_VERIFY_TOKEN"]
    else:
        kwargs["auth"] = sign


def sign(request):
    """Signs the body as it is sent."""
    body = request.body or b""
    body = body if isinstance(body, bytes) else body.encode()
    secret = os.environ["WHATSAPP_APP_SECRET"].encode()
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    request.headers["X-Hub-Signature-256"] = f"sha256={signature}"
    return request
