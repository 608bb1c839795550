//! `GET /`: the phone. One conversation per person, newest last, and a form to write as her.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::response::{Html, Redirect};
use serde::Deserialize;
use serde_json::Value;

use crate::inspect::{self, Button, InboundRequest, Reply};
use crate::world::{Call, Outcome, World};

const STYLE: &str = "body{font:16px/1.4 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;background:#f4f1ec;color:#1c1c1c}\
h2{margin:2rem 0 .5rem}ol{list-style:none;padding:0}li{padding:.5rem .75rem;border-radius:.6rem;margin:.3rem 0;max-width:80%;width:fit-content;background:#fff}\
li.in{background:#d6f5cf;margin-left:auto}li.bad{opacity:.6}small{color:#555}form{display:inline}input,button{font:inherit;padding:.3rem .6rem}";

/// The page.
pub async fn page(State(world): State<Arc<World>>) -> Html<String> {
    let mut people: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    {
        let state = world.state();
        for (order, message) in state.inbound.iter().enumerate() {
            // Outbound and inbound share no clock here: place each inbound by its own second.
            let at = u64::try_from(message.at.as_second()).unwrap_or(0);
            let line = format!("<li class=in>{}</li>", escape(&message.text));
            people.entry(message.party.clone()).or_default().push((at * 1000 + order as u64, line));
        }
        let boot_offset = boot_offset_s();
        for call in state.calls() {
            let Some(party) = &call.party else { continue };
            let at = boot_offset + call.first_byte_boottime_ns / 1_000_000_000;
            people.entry(party.clone()).or_default().push((at * 1000, line(party, call)));
        }
    }
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>WhatsApp simulator</title><style>{STYLE}</style><h1>The phone</h1>\
         <form method=post action=/_sim/phone><input name=party required placeholder=\"+33612345678\"> <input name=text required placeholder=Message> <button>Write</button></form>"
    );
    for (party, mut lines) in people {
        lines.sort();
        let party = escape(&party);
        page.push_str(&format!("<h2>{party}</h2><ol>"));
        page.extend(lines.into_iter().map(|(_, line)| line));
        page.push_str(&format!(
            "</ol><form method=post action=/_sim/phone><input type=hidden name=party value=\"{party}\"><input name=text placeholder=Message required> <button>Write</button></form> \
             <form method=post action=/_sim/phone><input type=hidden name=party value=\"{party}\"><button name=text value=STOP>STOP</button></form>"
        ));
    }
    Html(page)
}

/// What the forms send.
#[derive(Debug, Deserialize)]
pub struct PhoneForm {
    party: String,
    text: String,
    #[serde(default)]
    payload: Option<String>,
    #[serde(default)]
    reply: Option<String>,
}

/// `POST /_sim/phone`: writes as the person, then shows the page again.
pub async fn write(State(world): State<Arc<World>>, Form(form): Form<PhoneForm>) -> Redirect {
    let mut request = InboundRequest::default();
    if crate::message::is_bsuid(&form.party) {
        request.user_id = Some(form.party);
    } else {
        request.from = Some(form.party);
    }
    match (form.payload, form.reply) {
        (Some(payload), _) => request.button = Some(Button { payload, text: Some(form.text) }),
        (None, Some(id)) => request.interactive = Some(Reply { id, title: form.text }),
        (None, None) => request.text = Some(form.text),
    }
    if let Err(what) = inspect::receive(&world, request).await {
        tracing::warn!(what, "the phone page sent nothing");
    }
    Redirect::to("/")
}

fn line(party: &str, call: &Call) -> String {
    let accepted = call.outcome == Outcome::Accepted;
    let body = call.body.as_ref().unwrap_or(&Value::Null);
    let text = match call.kind.as_deref() {
        Some("template") => {
            let parameters: Vec<&str> = body["template"]["components"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|component| component["parameters"].as_array().into_iter().flatten())
                .filter_map(|parameter| parameter["text"].as_str())
                .collect();
            format!("[{}] {}", call.template.as_deref().unwrap_or_default(), parameters.join(" · "))
        }
        Some("interactive") => {
            body["interactive"]["body"]["text"].as_str().unwrap_or_default().into()
        }
        _ => body["text"]["body"].as_str().unwrap_or_default().to_owned(),
    };
    let state = match (call.error_code, call.statuses.last()) {
        (Some(code), _) => format!("refused with {code}"),
        (None, Some(status)) => status.clone(),
        (None, None) => format!("{:?}", call.outcome).to_lowercase(),
    };
    format!(
        "<li{}>{} <small>{}</small>{}</li>",
        if accepted { "" } else { " class=bad" },
        escape(&text),
        escape(&state),
        if accepted { buttons(party, body) } else { String::new() },
    )
}

/// The message's own buttons, as forms that press them.
fn buttons(party: &str, body: &Value) -> String {
    let mut html = String::new();
    let mut button = |field: &str, value: &str, label: &str| {
        html.push_str(&format!(
            " <form method=post action=/_sim/phone><input type=hidden name=party value=\"{}\"><input type=hidden name={field} value=\"{}\"><button name=text value=\"{}\">{}</button></form>",
            escape(party), escape(value), escape(label), escape(label)
        ));
    };
    for component in body["template"]["components"].as_array().into_iter().flatten() {
        if component["sub_type"] == "quick_reply"
            && let Some(payload) = component["parameters"][0]["payload"].as_str()
        {
            button("payload", payload, payload);
        }
    }
    for reply in body["interactive"]["action"]["buttons"].as_array().into_iter().flatten() {
        if let (Some(id), Some(title)) =
            (reply["reply"]["id"].as_str(), reply["reply"]["title"].as_str())
        {
            button("reply", id, title);
        }
    }
    html
}

/// What to add to CLOCK_BOOTTIME seconds to get Unix seconds.
fn boot_offset_s() -> u64 {
    let now = u64::try_from(crate::clock::now().as_second()).unwrap_or(0);
    now.saturating_sub(crate::clock::boottime_ns() / 1_000_000_000)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
