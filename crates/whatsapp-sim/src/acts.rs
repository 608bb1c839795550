//! What a person does: writes, presses buttons, stops and resumes marketing, blocks, changes her
//! number. The inspection API and the phone page do it on her behalf. What happens to her number and
//! her phone without her writing anything is in `fates`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inspect::webhook_answer;
use crate::media::Medium;
use crate::people::says_stop;
use crate::wamid::{self, Direction};
use crate::webhook;
use crate::world::{self, Call, Inbound, World};

/// A message from a person.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboundRequest {
    /// Her number, with or without `+`; absent where Meta hides it.
    #[serde(default)]
    pub from: Option<String>,
    /// Her BSUID.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Her profile name.
    #[serde(default)]
    pub name: Option<String>,
    /// Free text.
    #[serde(default)]
    pub text: Option<String>,
    /// A quick-reply button of a template.
    #[serde(default)]
    pub button: Option<Button>,
    /// A reply button of an interactive message.
    #[serde(default)]
    pub interactive: Option<Reply>,
    /// A row of an interactive list.
    #[serde(default)]
    pub list: Option<Reply>,
    /// A picture, a sound, a document, a sticker or a video.
    #[serde(default)]
    pub media: Option<Sent>,
    /// What led her here, such as `{"source_type": "ad", "ctwa_clid": "…"}`.
    #[serde(default)]
    pub referral: Option<Value>,
    /// The message that she answers, by wamid; for a button or a row the last that she was sent
    /// with any, unless given.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// The message id, to send the same webhook twice.
    #[serde(default)]
    pub id: Option<String>,
    /// When she wrote; now unless given.
    #[serde(default)]
    pub at: Option<Timestamp>,
}

/// A file of hers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// `image`, `audio`, `document`, `sticker` or `video`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its type.
    pub mime_type: String,
    /// Its bytes.
    pub base64: String,
    /// What she writes with it.
    #[serde(default)]
    pub caption: Option<String>,
}

/// A quick-reply button.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Button {
    /// Its payload.
    pub payload: String,
    /// Its text; the payload unless given.
    #[serde(default)]
    pub text: Option<String>,
}

/// A reply button or a row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
}

/// `POST /_sim/inbound`: answers with the webhook's status, 502 when nothing answered it. Unless
/// that was 200 the webhook is sent again in the background, as Meta does.
pub async fn inbound(
    State(world): State<Arc<World>>,
    Json(request): Json<InboundRequest>,
) -> Response {
    match receive(&world, request).await {
        Ok((id, status)) => webhook_answer(status, json!({"id": id})),
        Err(what) => (StatusCode::BAD_REQUEST, Json(json!({"error": what}))).into_response(),
    }
}

/// Records a message from a person and sends its webhook.
pub async fn receive(
    world: &Arc<World>,
    request: InboundRequest,
) -> Result<(String, Option<u16>), &'static str> {
    let digits = request.from.as_deref().map(digits).filter(|digits| !digits.is_empty());
    let party = digits.clone().or_else(|| request.user_id.clone()).ok_or("from or user_id")?;
    let at = request.at.unwrap_or_else(|| world.now());
    let id = request.id.unwrap_or_else(|| wamid::new(&party, Direction::Inbound, &world.random));

    let mut entry = json!({"id": id, "timestamp": at.as_second().to_string()});
    if request.text.is_some() && request.media.is_some() {
        return Err("what she writes with a file is its caption");
    }
    let presses = request.text.is_none() && request.media.is_none();
    let file = request.media.map(|file| take(world, &mut entry, file, at)).transpose()?;
    let text = match (request.text.or(file), request.button, request.interactive, request.list) {
        (Some(text), None, None, None) => {
            if entry["type"].is_null() {
                entry["type"] = json!("text");
                entry["text"] = json!({"body": text});
            }
            text
        }
        (None, Some(Button { payload, text }), None, None) => {
            let text = text.unwrap_or_else(|| payload.clone());
            entry["type"] = json!("button");
            entry["button"] = json!({"payload": payload, "text": text});
            text
        }
        (None, None, Some(Reply { id, title }), None) => {
            entry["type"] = json!("interactive");
            entry["interactive"] =
                json!({"type": "button_reply", "button_reply": {"id": id, "title": title}});
            title
        }
        (None, None, None, Some(Reply { id, title })) => {
            entry["type"] = json!("interactive");
            entry["interactive"] =
                json!({"type": "list_reply", "list_reply": {"id": id, "title": title}});
            title
        }
        _ => return Err("exactly one of text, media, button, interactive, list"),
    };
    let webhook = {
        let mut state = world.state();
        let answered =
            request.reply_to.or_else(|| last_with_buttons(&state, &party).filter(|_| presses));
        if let Some(id) = answered {
            entry["context"] = json!({"from": world.options.display_phone_number, "id": id});
        }
        if digits.iter().chain(&request.user_id).any(|party| state.blocks.contains(party)) {
            return Err("the business blocked her");
        }
        let said = says_stop(&text);
        let checks_identity = state.number.checks_identity;
        let person = state.people.writer(digits.as_deref(), request.user_id.as_deref());
        if person.blocked {
            return Err("she blocked the business");
        }
        person.name = request.name.or_else(|| person.name.take());
        person.wrote_at = person.wrote_at.max(Some(at));
        if let Some(referral) = request.referral {
            entry["referral"] = referral;
            person.entered_at = Some(at);
        }
        person.said_stop = said.unwrap_or(person.said_stop);
        if let Some(digits) = &digits {
            entry["from"] = json!(digits);
        }
        entry["from_user_id"] = json!(person.user_id);
        let mut contact = person.contact(digits.is_none());
        if checks_identity {
            contact["identity_key_hash"] = json!(person.identity_hash());
        }
        let limits = state.limits;
        state.used.take_inbound(limits, world.now_ms());
        let (id, party) = (id.clone(), party.clone());
        state.inbound.push(Inbound { id, party, text, at, read: false, typing_until: None });
        let value = json!({"contacts": [contact], "messages": [entry]});
        webhook::change(world, &state, "messages", value)
    };
    Ok((id, webhook::deliver_first(world, webhook).await))
}

/// Keeps a file of hers, and puts it into her message. Gives what the phone page shows.
fn take(
    world: &World,
    entry: &mut Value,
    file: Sent,
    now: Timestamp,
) -> Result<String, &'static str> {
    let Sent { kind, mime_type, base64, caption } = file;
    if !matches!(kind.as_str(), "image" | "audio" | "document" | "sticker" | "video") {
        return Err("media.type is image, audio, document, sticker or video");
    }
    let bytes = STANDARD.decode(base64).map_err(|_| "media.base64 is none")?;
    let medium = Medium::of_a_person(mime_type.clone(), bytes, now);
    let id = world.random.object_id();
    entry["type"] = json!(kind);
    entry[&kind] = json!({"id": id, "mime_type": mime_type, "sha256": medium.sha256()});
    if let Some(caption) = &caption {
        entry[&kind]["caption"] = json!(caption);
    }
    world.state().media.insert(id, medium);
    Ok(caption.unwrap_or_else(|| format!("[{kind}]")))
}

/// The last message to her that can have had buttons, by wamid.
fn last_with_buttons(state: &world::State, party: &str) -> Option<String> {
    let hers = |call: &&Call| {
        let with = matches!(call.kind.as_deref(), Some("template" | "interactive"));
        let to = call.party.as_deref().unwrap_or_default();
        with && state.people.key(to) == state.people.key(party)
    };
    state.calls().iter().rev().filter(hers).find_map(|call| call.wamid.clone())
}

/// WhatsApp's own marketing switch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceRequest {
    /// Her number.
    #[serde(default)]
    from: Option<String>,
    /// Her BSUID.
    #[serde(default)]
    user_id: Option<String>,
    /// `stop` or `resume`.
    value: Preference,
}

/// What she chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preference {
    Stop,
    Resume,
}

/// `POST /_sim/preferences`: answers as [`inbound`].
pub async fn preferences(
    State(world): State<Arc<World>>,
    Json(request): Json<PreferenceRequest>,
) -> Response {
    let digits = request.from.as_deref().map(digits).filter(|digits| !digits.is_empty());
    let stop = request.value == Preference::Stop;
    webhook_answer(prefer(&world, digits, request.user_id, stop).await, json!({}))
}

/// She stops or resumes marketing messages in WhatsApp itself.
pub async fn prefer(
    world: &Arc<World>,
    digits: Option<String>,
    user_id: Option<String>,
    stop: bool,
) -> Option<u16> {
    let mut preference = json!({
        "detail": if stop { "User requested to stop marketing messages" } else { "User requested to resume marketing messages" },
        "category": "marketing_messages",
        "value": if stop { "stop" } else { "resume" },
        "timestamp": world.now().as_second(),
    });
    let webhook = {
        let mut state = world.state();
        let person = state.people.writer(digits.as_deref(), user_id.as_deref());
        person.stopped = stop;
        person.said_stop &= stop;
        if let Some(digits) = &digits {
            preference["wa_id"] = json!(digits);
        }
        preference["user_id"] = json!(person.user_id);
        let contact = person.contact(digits.is_none());
        let value = json!({"contacts": [contact], "user_preferences": [preference]});
        webhook::change(world, &state, "user_preferences", value)
    };
    webhook::deliver_first(world, webhook).await
}

/// She blocks the business, or takes that back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRequest {
    /// Her number or BSUID.
    from: String,
    /// Whether the business is blocked from now on.
    blocked: bool,
}

/// `POST /_sim/block`: no webhook tells the business.
pub async fn block(
    State(world): State<Arc<World>>,
    Json(request): Json<BlockRequest>,
) -> StatusCode {
    world.state().people.person(&party(&request.from)).blocked = request.blocked;
    StatusCode::NO_CONTENT
}

/// She has another number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// Her number until now.
    from: String,
    /// Her number from now on.
    to: String,
}

/// `POST /_sim/change_number`: answers as [`inbound`].
pub async fn change_number(
    State(world): State<Arc<World>>,
    Json(request): Json<MoveRequest>,
) -> Response {
    let (from, to) = (digits(&request.from), digits(&request.to));
    if from.is_empty() || to.is_empty() || from == to {
        let what = json!({"error": "from and to are two numbers"});
        return (StatusCode::BAD_REQUEST, Json(what)).into_response();
    }
    webhook_answer(moves(&world, &from, &to).await, json!({}))
}

/// Her account moves to another number: a system message tells the business.
pub async fn moves(world: &Arc<World>, from: &str, to: &str) -> Option<u16> {
    let webhook = {
        let mut state = world.state();
        let name = state.people.person(from).name.clone();
        let name = name.unwrap_or_else(|| "Simulated person".to_owned());
        state.people.moves(from, to);
        let user_id = state.people.person(to).user_id.clone();
        let at = world.now().as_second().to_string();
        let entry = json!({
            "from": from,
            "id": wamid::new(from, Direction::Inbound, &world.random),
            "timestamp": at,
            "type": "system",
            "system": {
                "body": format!("User {name} changed from {from} to {to}"),
                "wa_id": to,
                "user_id": user_id,
                "type": "user_changed_number",
            },
        });
        webhook::change(world, &state, "messages", json!({"messages": [entry]}))
    };
    webhook::deliver_first(world, webhook).await
}

/// Digits, or the BSUID as it is.
pub fn party(given: &str) -> String {
    if crate::message::is_bsuid(given) { given.to_owned() } else { digits(given) }
}

/// A number's digits.
pub fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}
