//! How messages look on a person's phone: what she sees of each type, and its buttons as forms that
//! press them. What never reached her phone is shown faintly, with the reason.

use serde_json::Value;

use crate::message::{self, Content};
use crate::template::{self, Template};
use crate::world::{Call, Inbound, Outcome, State, World};

/// The conversation's own style.
pub const STYLE: &str = "<style>body{background:#fff;padding:.5rem}.chat{list-style:none;margin:0;padding:0;display:flex;flex-direction:column-reverse;height:calc(100vh - 1rem);overflow-y:auto}\
.chat li{padding:.5rem .75rem;border-radius:.6rem;margin:.25rem 0;max-width:85%;align-self:flex-start;background:#f0f2f5;white-space:pre-wrap;overflow-wrap:anywhere}\
.chat li.in{background:#d9fdd3;align-self:flex-end}.chat li.bad{opacity:.55}.chat small{color:#54656f;display:block}.chat form{margin:.3rem 0 0;display:block}.chat form button{width:100%;background:#fff;color:#00806a;border:1px solid #cfd8d6}</style>";

/// Every message with her, as list items, oldest first.
pub fn conversation(world: &World, state: &State, party: &str) -> Vec<String> {
    let key = state.people.key(party);
    let hers = |other: &str| state.people.key(other) == key;
    let mut lines = Vec::new();
    for message in state.inbound.iter().filter(|it| hers(&it.party)) {
        lines.push((message.at, heard(message)));
    }
    for call in state.calls().iter().filter(|it| it.party.as_deref().is_some_and(hers)) {
        if call.outcome == Outcome::Accepted && call.wamid.is_some() {
            lines.push((call.at, said(world, state, party, call)));
        }
    }
    let typing = state.inbound.iter().rev().find(|it| hers(&it.party)).is_some_and(|it| {
        it.typing_until.is_some_and(|until| until > world.now())
            && lines.iter().all(|(at, _)| *at <= it.at)
    });
    lines.sort_by_key(|(at, _)| *at);
    let mut lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    if typing {
        lines.push("<li><small>typing…</small></li>".to_owned());
    }
    lines
}

fn heard(message: &Inbound) -> String {
    let read = if message.read { "read" } else { "sent" };
    format!("<li class=in>{}<small>{read}</small></li>", escape(&message.text))
}

fn said(world: &World, state: &State, party: &str, call: &Call) -> String {
    let body = call.body.as_ref().unwrap_or(&Value::Null);
    let reached = call.statuses.iter().any(|status| status == "delivered" || status == "read");
    let status = match call.statuses.last().map(String::as_str) {
        Some("failed") => "failed: not on her phone",
        Some(status) => status,
        None => "on its way",
    };
    let press = Press { party, wamid: call.wamid.as_deref().unwrap_or_default() };
    let kind = call.kind.as_deref().unwrap_or_default();
    let (text, buttons) = match kind {
        "template" => of_template(world, state, body, &press),
        "interactive" => of_interactive(&body["interactive"], &press),
        "text" => (string(&body["text"]["body"]), String::new()),
        "location" => {
            let place = &body["location"];
            let what = format!("📍 {} {}", string(&place["name"]), string(&place["address"]));
            (what, String::new())
        }
        "reaction" => (string(&body["reaction"]["emoji"]), String::new()),
        _ => (format!("[{kind}] {}", string(&body[kind]["caption"])), String::new()),
    };
    format!(
        "<li{}>{}<small>{}</small>{}</li>",
        if reached { "" } else { " class=bad" },
        escape(text.trim()),
        escape(status),
        if reached { buttons.as_str() } else { "" },
    )
}

/// What a template says with its parameters in place, and its quick replies.
fn of_template(world: &World, state: &State, body: &Value, press: &Press) -> (String, String) {
    let parsed = message::parse(body, &world.options.country_code);
    let Ok(Content::Template { name, language, given }) = parsed.map(|it| it.content) else {
        return (String::new(), String::new());
    };
    let payload =
        |at: usize| given.buttons.iter().find(|it| it.index == at && it.sub_type == "quick_reply");
    let mut templates = state.templates.iter();
    let known = templates.find(|it| it.name == name && it.language == language && !it.adopted);
    let Some(template) = known else {
        let parameters: Vec<&str> =
            given.header.iter().chain(&given.body).map(|it| it.text.as_str()).collect();
        let buttons = given
            .buttons
            .iter()
            .filter(|it| it.sub_type == "quick_reply")
            .map(|it| press.button("button", &it.value, &it.value))
            .collect();
        return (format!("[{name}] {}", parameters.join(" · ")), buttons);
    };
    let mut buttons = String::new();
    for (at, button) in template.buttons().iter().enumerate() {
        let label = string(&button["text"]);
        if string(&button["type"]).eq_ignore_ascii_case("QUICK_REPLY") {
            let payload = payload(at).map_or(label.as_str(), |it| it.value.as_str());
            buttons.push_str(&press.button("button", payload, &label));
        } else {
            buttons.push_str(&format!("<small>🔗 {}</small>", escape(&label)));
        }
    }
    (text_of(template, &given), buttons)
}

fn text_of(template: &Template, given: &message::Given) -> String {
    let part = |kind: &str, given: &[message::Parameter]| {
        let text = template.component(kind)?["text"].as_str()?;
        template::fill(kind, text, template.named, given).ok()
    };
    let parts = [part("HEADER", &given.header), part("BODY", &given.body), part("FOOTER", &[])];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn of_interactive(interactive: &Value, press: &Press) -> (String, String) {
    let parts = ["header", "body", "footer"].map(|part| string(&interactive[part]["text"]));
    let text: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let action = &interactive["action"];
    let mut buttons = String::new();
    for button in action["buttons"].as_array().into_iter().flatten() {
        let reply = &button["reply"];
        buttons.push_str(&press.button("reply", &string(&reply["id"]), &string(&reply["title"])));
    }
    for section in action["sections"].as_array().into_iter().flatten() {
        for row in section["rows"].as_array().into_iter().flatten() {
            buttons.push_str(&press.button("list", &string(&row["id"]), &string(&row["title"])));
        }
    }
    if let Some(url) = action["parameters"]["url"].as_str() {
        buttons.push_str(&format!("<small>🔗 {}</small>", escape(url)));
    }
    (text.join("\n"), buttons)
}

/// Whose button of which message.
struct Press<'a> {
    party: &'a str,
    wamid: &'a str,
}

impl Press<'_> {
    /// A form that presses it.
    fn button(&self, act: &str, id: &str, label: &str) -> String {
        format!(
            "<form method=post action=/phone/act target=_top><input type=hidden name=person value=\"{}\"><input type=hidden name=act value={act}><input type=hidden name=id value=\"{}\"><input type=hidden name=reply_to value=\"{}\"><button name=text value=\"{}\">{}</button></form>",
            escape(self.party),
            escape(id),
            escape(self.wamid),
            escape(label),
            escape(label),
        )
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Text that is no HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
