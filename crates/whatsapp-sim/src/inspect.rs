//! `/_sim`: how tests look at the simulator and play the person's part. Nothing of this exists at
//! Meta, so nothing of it may be called by anything but tests and the phone page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::graph_error::GraphError;
use crate::wamid::{self, Direction};
use crate::world::{Fault, Inbound, StatusPlan, Template, World};
use crate::{clock, webhook};

/// `GET /_sim/messages`: every call, in the order of first bytes.
pub async fn messages(State(world): State<Arc<World>>) -> Json<Value> {
    let state = world.state();
    Json(json!({
        "messages": state.calls(),
        "calls_without_body": state.calls_without_body,
        "inbound": state.inbound,
    }))
}

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
    /// The message id, to send the same webhook twice.
    #[serde(default)]
    pub id: Option<String>,
    /// When she wrote; now unless given.
    #[serde(default)]
    pub at: Option<Timestamp>,
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

/// A reply button.
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
    let at = request.at.unwrap_or_else(clock::now);
    let id = request.id.unwrap_or_else(|| wamid::new(&party, Direction::Inbound));

    let mut entry = json!({"id": id, "timestamp": at.as_second().to_string()});
    let text = match (request.text, request.button, request.interactive) {
        (Some(text), None, None) => {
            entry["type"] = json!("text");
            entry["text"] = json!({"body": text});
            text
        }
        (None, Some(Button { payload, text }), None) => {
            let text = text.unwrap_or_else(|| payload.clone());
            entry["type"] = json!("button");
            entry["button"] = json!({"payload": payload, "text": text});
            text
        }
        (None, None, Some(Reply { id, title })) => {
            entry["type"] = json!("interactive");
            entry["interactive"] =
                json!({"type": "button_reply", "button_reply": {"id": id, "title": title}});
            title
        }
        _ => return Err("exactly one of text, button, interactive"),
    };
    let name = request.name.as_deref().unwrap_or("Simulated person");
    let mut contact = json!({"profile": {"name": name}});
    if let Some(digits) = &digits {
        entry["from"] = json!(digits);
        contact["wa_id"] = json!(digits);
    }
    if let Some(user_id) = &request.user_id {
        entry["from_user_id"] = json!(user_id);
        contact["user_id"] = json!(user_id);
    }
    {
        let mut state = world.state();
        state.inbound.push(Inbound { id: id.clone(), party: party.clone(), text, at });
        for party in digits.iter().chain(&request.user_id) {
            state.last_inbound.insert(party.clone(), at);
        }
    }
    let body =
        webhook::envelope(world, "messages", json!({"contacts": [contact], "messages": [entry]}));
    Ok((id, webhook::deliver_first(world, body).await))
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
    {
        let mut state = world.state();
        for party in digits.iter().chain(&request.user_id) {
            if stop {
                state.stopped.insert(party.clone());
            } else {
                state.stopped.remove(party);
            }
        }
    }
    let mut preference = json!({
        "detail": if stop { "User requested to stop marketing messages" } else { "User requested to resume marketing messages" },
        "category": "marketing_messages",
        "value": if stop { "stop" } else { "resume" },
        "timestamp": clock::now().as_second(),
    });
    let mut contact = json!({"profile": {"name": "Simulated person"}});
    if let Some(digits) = &digits {
        preference["wa_id"] = json!(digits);
        contact["wa_id"] = json!(digits);
    }
    if let Some(user_id) = &request.user_id {
        preference["user_id"] = json!(user_id);
        contact["user_id"] = json!(user_id);
    }
    let body = webhook::envelope(
        &world,
        "user_preferences",
        json!({"contacts": [contact], "user_preferences": [preference]}),
    );
    webhook_answer(webhook::deliver_first(&world, body).await, json!({}))
}

/// A status out of turn: duplicates, steps back, failures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    /// The message's wamid.
    id: String,
    /// `sent`, `delivered`, `read`, `failed`.
    status: String,
    /// The error of a failure.
    #[serde(default)]
    error_code: Option<i64>,
}

/// `POST /_sim/status`: answers as [`inbound`].
pub async fn status(
    State(world): State<Arc<World>>,
    Json(request): Json<StatusRequest>,
) -> Response {
    let error = request.error_code.map(|code| GraphError::new(code, "Injected by the simulator"));
    match webhook::status(&world, &request.id, &request.status, error.as_ref()) {
        Some(body) => webhook_answer(webhook::deliver_first(&world, body).await, json!({})),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": "no such message"}))).into_response(),
    }
}

/// `POST /_sim/statuses`: which statuses follow accepted messages from now on.
pub async fn plan(State(world): State<Arc<World>>, Json(plan): Json<StatusPlan>) -> StatusCode {
    world.state().plan = plan;
    StatusCode::NO_CONTENT
}

/// `POST /_sim/webhook`: any body, signed and posted once as it is; answers as [`inbound`].
pub async fn webhook(State(world): State<Arc<World>>, body: String) -> Response {
    webhook_answer(webhook::post(&world, &body).await, json!({}))
}

/// `POST /_sim/verify`: the webhook handshake.
pub async fn verify(State(world): State<Arc<World>>) -> Response {
    match webhook::verify(&world).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(what) => (StatusCode::BAD_GATEWAY, Json(json!({"error": what}))).into_response(),
    }
}

/// `PUT /_sim/templates`: the templates that exist; an empty list: every one does.
pub async fn templates(
    State(world): State<Arc<World>>,
    Json(templates): Json<Vec<Template>>,
) -> StatusCode {
    world.state().templates = templates;
    StatusCode::NO_CONTENT
}

/// `GET /_sim/faults`: those still to come.
pub async fn faults(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!({"faults": world.state().faults}))
}

/// `POST /_sim/faults`: one more.
pub async fn add_fault(State(world): State<Arc<World>>, Json(fault): Json<Fault>) -> StatusCode {
    if fault.next > 0 {
        world.state().faults.push_back(fault);
    }
    StatusCode::NO_CONTENT
}

/// `DELETE /_sim/faults`: none any more.
pub async fn clear_faults(State(world): State<Arc<World>>) -> StatusCode {
    world.state().faults.clear();
    StatusCode::NO_CONTENT
}

/// `POST /_sim/reset`: forgets calls, people, faults, templates.
pub async fn reset(State(world): State<Arc<World>>) -> StatusCode {
    world.reset();
    StatusCode::NO_CONTENT
}

fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

fn webhook_answer(status: Option<u16>, mut more: Value) -> Response {
    more["webhook_status"] = json!(status);
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    (status.unwrap_or(StatusCode::BAD_GATEWAY), Json(more)).into_response()
}
