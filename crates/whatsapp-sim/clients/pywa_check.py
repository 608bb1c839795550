"""pywa, a public client of the Cloud API, unchanged, against the simulator.

Every call goes through the library's own methods, to https://graph.facebook.com as far as it knows:
only the transport below leads elsewhere. What it makes of the answers and webhooks is checked.

    pywa_check.py http://127.0.0.1:7110
"""

import hashlib
import http.server
import json
import logging
import sys
import threading
import time
import urllib.parse
import urllib.request

import httpx
from pywa import WhatsApp, errors, handlers, types, utils
from pywa.types import templates

SIMULATOR = sys.argv[1].rstrip("/")
APP_ID, APP_SECRET = "670843887433847", "sim-app-secret"
ACCOUNT, NUMBER = "102290129340398", "106540352242922"
ANA, BEA = "+33639980001", "+33639980002"  # invented: a range kept for fiction
ANA_ID = "FR.0a1b2c3d4e5f"


class Elsewhere(httpx.HTTPTransport):
    """Leads calls of the Graph API to the simulator; everything else goes where it says."""

    def handle_request(self, request):
        if request.url.host == "graph.facebook.com":
            base = httpx.URL(SIMULATOR)
            request.url = request.url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
            request.headers["host"] = base.netloc.decode()
        return super().handle_request(request)


class Heard:
    """What the library understood of the webhooks."""

    def __init__(self):
        self.news = threading.Condition()
        self.updates = []

    def add(self, update):
        with self.news:
            self.updates.append(update)
            self.news.notify_all()

    def wait(self, what, wanted):
        """The first update that is wanted, or the end of this check."""
        with self.news:
            end = time.monotonic() + 20
            while True:
                for update in self.updates:
                    if wanted(update):
                        return update
                if not self.news.wait(end - time.monotonic()):
                    heard = [type(update).__name__ for update in self.updates]
                    raise AssertionError(f"no webhook: {what}; heard {heard}")


def serve(wa):
    """The webhook; its address."""

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            self.answer(*wa.webhook_challenge_handler(query[utils.HUB_VT], query[utils.HUB_CH]))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            signature = self.headers.get(utils.HUB_SIG)
            self.answer(
                *(wa.webhook_update_validator(body, signature) or wa.webhook_update_handler(body))
            )

        def answer(self, text, status):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(str(text).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def simulate(path, body, method="POST"):
    """The inspection API: what people and Meta do."""
    request = urllib.request.Request(
        SIMULATOR + path, json.dumps(body).encode(), {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or "null")


def refused(error, call, *arguments, **named):
    """The call is refused with this error of the library's."""
    try:
        call(*arguments, **named)
    except error:
        return
    raise AssertionError(f"{call.__name__} was not refused with {error.__name__}")


def same(what, found, wanted):
    assert found == wanted, f"{what}: {found!r} is not {wanted!r}"


def registration(wa, heard, url):
    """The webhook, of the app, the account and the number."""
    token = wa.get_app_access_token(app_id=int(APP_ID), app_secret=APP_SECRET)
    fields = ("messages", "user_preferences", "message_template_status_update")
    wa.set_app_callback_url(
        app_id=int(APP_ID),
        app_access_token=token,
        callback_url=url,
        verify_token="a-verify-token",
        fields=fields,
    )
    refused(
        errors.WhatsAppError,
        wa.override_waba_callback_url,
        callback_url=url,
        verify_token="another",
    )
    assert wa.override_waba_callback_url(callback_url=url, verify_token="a-verify-token").success
    assert wa.override_phone_callback_url(callback_url=url, verify_token="a-verify-token").success
    configuration = wa.get_business_phone_number().webhook_configuration
    same("callbacks", configuration["phone_number"], url)
    assert wa.delete_phone_callback_url().success
    assert wa.delete_waba_callback_url().success


def receiving(wa, heard):
    simulate("/_sim/inbound", {"from": ANA, "user_id": ANA_ID, "name": "Ana", "text": "Hello"})
    message = heard.wait("her message", lambda it: isinstance(it, types.Message))
    same("her message", (message.text, message.from_user.name), ("Hello", "Ana"))
    same("her number", message.from_user.wa_id, ANA[1:])
    assert wa.mark_message_as_read(message_id=message.id).success
    assert wa.indicate_typing(message_id=message.id).success
    simulate("/_sim/inbound", {"from": BEA, "user_id": "FR.bea", "text": "Hi"})


def sending(wa, heard):
    sent = wa.send_message(to=ANA, text="Good morning", tracker="intent-1", preview_url=True)
    same("its recipient", sent.input, ANA)
    for status in ("sent", "delivered", "read"):
        update = heard.wait(
            status,
            lambda it: isinstance(it, types.MessageStatus)
            and it.id == sent.id
            and it.status == types.MessageStatusType(status),
        )
        same("its tracker", update.tracker, "intent-1")
    buttons = [types.Button("Yes", "yes"), types.Button("No", "no")]
    asked = wa.send_message(to=ANA, text="Bread?", footer="The bakery", buttons=buttons)
    press = {"from": ANA, "user_id": ANA_ID, "interactive": {"id": "yes", "title": "Yes"}}
    simulate("/_sim/inbound", press)
    pressed = heard.wait("a button", lambda it: isinstance(it, types.CallbackButton))
    same("the button", (pressed.data, pressed.reply_to_message.id), ("yes", asked.id))
    rows = [types.SectionRow("Rye", "rye", "dark"), types.SectionRow("Wheat", "wheat")]
    choices = types.SectionList("Choose", [types.Section("Bread", rows)])
    wa.send_message(to=ANA, text="Which?", buttons=choices)
    simulate("/_sim/inbound", {"from": ANA, "user_id": ANA_ID, "list": {"id": "rye", "title": "Rye"}})
    chosen = heard.wait("a row", lambda it: isinstance(it, types.CallbackSelection))
    same("the row", chosen.data, "rye")
    wa.send_message(to=ANA, text="See", buttons=types.URLButton("Shop", "https://shop.example"))
    wa.send_location(to=ANA, latitude=48.85, longitude=2.35, name="The bakery", address="1 rue")
    name = types.Contact.Name(formatted_name="The bakery", first_name="The bakery")
    wa.send_contact(to=ANA, contact=types.Contact(name=name))
    wa.send_reaction(to=ANA, emoji="👍", message_id=sent.id)
    wa.remove_reaction(to=ANA, message_id=sent.id)
    refused(errors.InvalidParameter, wa.send_message, to=ANA, text="x" * 4097)
    closed = wa.send_message(to="+33639980009", text="Out of the blue")
    failed = heard.wait(
        "a failure", lambda it: isinstance(it, types.MessageStatus) and it.id == closed.id and it.error
    )
    assert isinstance(failed.error, errors.ReEngagementMessage), failed.error


def media(wa, heard):
    picture = b"\x89PNG not really"
    uploaded = wa.upload_media(media=picture, mime_type="image/png", filename="bread.png")
    found = wa.get_media_url(media_id=uploaded.id)
    same("its hash", found.sha256, hashlib.sha256(picture).hexdigest())
    same("its size", (found.file_size, found.mime_type), (len(picture), "image/png"))
    same("what comes down", wa.get_media_bytes(url=found.url), picture)
    sent = wa.send_image(to=ANA, image=uploaded.id, caption="Fresh")
    heard.wait(
        "the picture", lambda it: isinstance(it, types.MessageStatus) and it.id == sent.id
    )
    wa.send_document(to=ANA, document="https://shop.example/terms.pdf", filename="terms.pdf")
    assert wa.delete_media(media_id=uploaded.id).success
    refused(errors.WhatsAppError, wa.get_media_url, media_id=uploaded.id)


def template_life(wa, heard):
    body = templates.BodyText("Hello {{name}}, we are open.", name="Ana")
    stop = templates.QuickReplyButton(text="Stop promotions")
    news = templates.Template(
        name="bakery_news",
        language=templates.TemplateLanguage.ENGLISH,
        category=templates.TemplateCategory.MARKETING,
        parameter_format=templates.ParamFormat.NAMED,
        components=[body, templates.FooterText(text="The bakery"), templates.Buttons(buttons=[stop])],
    )
    created = wa.create_template(template=news)
    same("a new template", created.status, templates.TemplateStatus.PENDING)
    heard.wait(
        "its approval",
        lambda it: isinstance(it, templates.TemplateStatusUpdate)
        and it.template_id == created.id
        and it.new_status == templates.TemplateStatus.APPROVED,
    )
    details = wa.get_template(template_id=created.id)
    same("its name", (details.name, details.status), ("bakery_news", templates.TemplateStatus.APPROVED))
    listed = wa.get_templates(statuses=[templates.TemplateStatus.APPROVED], name="bakery")
    same("the list", [it.id for it in listed], [created.id])
    params = [body.params(name="Ana"), stop.params(callback_data="stop-1", index=0)]
    sent = wa.send_template(to=ANA, template=news, params=params)
    same("a send", sent.status, types.sent_update.SentTemplateStatus.ACCEPTED)
    press = {"payload": "stop-1", "text": "Stop promotions"}
    simulate("/_sim/inbound", {"from": ANA, "user_id": ANA_ID, "button": press})
    heard.wait("its button", lambda it: isinstance(it, types.CallbackButton) and it.data == "stop-1")

    english = templates.TemplateLanguage.ENGLISH
    refused(errors.TemplateParamCountMismatch, wa.send_template, ANA, "bakery_news", english, [])
    refused(errors.TemplateNotExists, wa.send_template, ANA, "nobody_made_it", english, [])
    for status, error in (("PAUSED", errors.TemplatePaused), ("DISABLED", errors.TemplateDisabled)):
        simulate(f"/_sim/templates/{created.id}", {"change": "status", "to": status})
        refused(error, wa.send_template, to=ANA, template=news, params=params)
    simulate(f"/_sim/templates/{created.id}", {"change": "status", "to": "APPROVED"})
    edited = templates.BodyText("Hello {{name}}, we are closed.", name="Ana")
    assert wa.update_template(template_id=created.id, new_components=[edited]).success
    wa.delete_template(template_name="bakery_news")
    same("after its end", [it.id for it in wa.get_templates(name="bakery")], [])


def preferences(wa, heard):
    who = {"from": BEA, "user_id": "FR.bea", "value": "stop"}
    simulate("/_sim/preferences", who)
    stopped = heard.wait("her stop", lambda it: isinstance(it, types.UserMarketingPreferences))
    same("her stop", (stopped.value, stopped.from_user.wa_id), ("stop", BEA[1:]))


def blocking(wa, heard):
    result = wa.block_users(users=[BEA])
    same("blocked", [it.input for it in result.added_users], [BEA])
    same("the list", [it.wa_id for it in wa.get_blocked_users()], [BEA[1:]])
    same("let go", [it.input for it in wa.unblock_users(users=[BEA]).removed_users], [BEA])
    same("nobody", list(wa.get_blocked_users()), [])


def profile(wa, heard):
    wa.update_business_profile(
        about="Bread since 1901",
        description="A bakery",
        email="bakery@shop.example",
        industry=types.Industry.GROCERY,
        websites=["https://shop.example"],
    )
    shown = wa.get_business_profile()
    same("about", (shown.about, shown.industry), ("Bread since 1901", types.Industry.GROCERY))
    same("websites", shown.websites, ("https://shop.example",))
    refused(errors.WhatsAppError, wa.update_business_profile, about="x" * 140)


def numbers(wa, heard):
    number = wa.get_business_phone_number()
    same("its id", (number.id, number.quality_rating), (NUMBER, "GREEN"))
    same("its tier", number.whatsapp_business_manager_messaging_limit, "TIER_UNLIMITED")
    same("the list", [it.id for it in wa.get_business_phone_numbers()], [NUMBER])
    same("the account", wa.get_business_account().id, ACCOUNT)
    assert wa.request_verification_code(code_method="SMS", language_code="en").success
    assert wa.verify_phone_number(code="123456").success
    assert wa.register_phone_number(pin="150954").success
    assert wa.update_display_name(new_display_name="The bakery").success


def conduct(wa, heard):
    """What was tried above on purpose, and nothing else, counts as broken."""
    with urllib.request.urlopen(SIMULATOR + "/_sim/violations") as answer:
        rules = json.loads(answer.read())["rules"]
    broken = {name: rule["count"] for name, rule in rules.items() if rule["count"]}
    wanted = {"malformed": 1, "outside_window": 1, "template_held": 2}
    same("rules broken", broken, wanted | {"template_parameters": 1, "template_unknown": 1})


def main():
    wa = WhatsApp(
        phone_id=NUMBER,
        token="sim-access-token",
        session=httpx.Client(transport=Elsewhere()),
        waba_id=ACCOUNT,
        app_id=APP_ID,
        app_secret=APP_SECRET,
        verify_token="a-verify-token",
        server=None,
        api_version=26.0,
    )
    logging.getLogger("pywa").setLevel(logging.ERROR)  # a refused handshake is expected
    heard = Heard()
    for handler in (
        handlers.MessageHandler,
        handlers.MessageStatusHandler,
        handlers.CallbackButtonHandler,
        handlers.CallbackSelectionHandler,
        handlers.TemplateStatusUpdateHandler,
        handlers.UserMarketingPreferencesHandler,
    ):
        wa.add_handlers(handler(callback=lambda _, update: heard.add(update)))
    registration(wa, heard, serve(wa))
    for part in (receiving, sending, media, template_life, preferences, blocking, profile, numbers, conduct):
        part(wa, heard)
        print(f"  pywa {part.__name__.replace('_', ' ')}: ok")
    print("  pywa webhook registration: ok")


if __name__ == "__main__":
    main()
