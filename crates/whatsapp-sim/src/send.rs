//! `POST /{version}/{phone_number_id}/messages`. Guarantees that each call whose body began is on
//! record with the times of its first and last byte, whatever becomes of it; what a well-formed
//! message is, `message` decides.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::graph_error::GraphError;
use crate::message::{self, Content, Message};
use crate::stamped::LastRead;
use crate::wamid::{self, Direction};
use crate::world::{FaultKind, Outcome, World};
use crate::{clock, webhook};

/// The largest body that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The endpoint.
pub async fn send(
    State(world): State<Arc<World>>,
    ConnectInfo(last_read): ConnectInfo<LastRead>,
    Path((version, phone_number_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some((number, raw)) = receive(&world, &last_read, body).await else {
        return GraphError::new(100, "The request has no body").into_response();
    };
    let body: Option<Value> = serde_json::from_slice(&raw).ok();
    let checked = check(&world, &version, &phone_number_id, &headers).and_then(|()| {
        let body = body.as_ref().ok_or_else(|| GraphError::new(100, "The body is not JSON"))?;
        message::parse(body, &world.options.country_code)
    });
    if let Some(call) = world.state().call(number) {
        let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
        call.traceparent = traceparent.map(str::to_owned);
        call.body = body;
    }
    match checked {
        Ok(message) => answer(world, number, message).await,
        Err(error) => refuse(&world, number, error),
    }
}

/// Reads the body as a stream. None: not one byte came.
async fn receive(world: &Arc<World>, last_read: &LastRead, body: Body) -> Option<(u64, Vec<u8>)> {
    let mut call = Arriving { world: Arc::clone(world), number: None, whole: false };
    let mut raw = Vec::new();
    let mut chunks = body.into_data_stream();
    let mut whole = true;
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) if chunk.is_empty() => {}
            Ok(chunk) if raw.len() + chunk.len() <= BODY_BYTES_MAX => {
                if call.number.is_none() {
                    call.number = Some(world.state().begin(last_read.boottime_ns()));
                }
                raw.extend_from_slice(&chunk);
            }
            Ok(_) | Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let number = call.number?;
    if let Some(call) = world.state().call(number).filter(|_| whole) {
        call.last_byte_boottime_ns = Some(last_read.boottime_ns());
    }
    call.whole = whole;
    whole.then_some((number, raw))
}

/// Puts a call on record as cut off, also when the server drops its handler in the middle.
struct Arriving {
    world: Arc<World>,
    number: Option<u64>,
    whole: bool,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut state = self.world.state();
        match self.number {
            None => state.calls_without_body += 1,
            Some(number) if !self.whole => {
                if let Some(call) = state.call(number) {
                    call.outcome = Outcome::Aborted;
                }
            }
            Some(_) => {}
        }
    }
}

/// The token and the path.
fn check(
    world: &World,
    version: &str,
    phone_number_id: &str,
    headers: &HeaderMap,
) -> Result<(), GraphError> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if token != Some(world.options.access_token.as_str()) {
        return Err(GraphError::new(190, "Invalid OAuth access token"));
    }
    let known = version.strip_prefix('v').is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit() || c == b'.')
    });
    if !known {
        return Err(GraphError::new(2_500, format!("Unknown path components: /{version}")));
    }
    if phone_number_id != world.options.phone_number_id {
        return Err(GraphError::unknown_object(phone_number_id));
    }
    Ok(())
}

fn refuse(world: &World, number: u64, error: GraphError) -> Response {
    if let Some(call) = world.state().call(number) {
        call.outcome = Outcome::Refused;
        call.error_code = Some(error.code);
    }
    error.into_response()
}

/// Answers a well-formed message: faults first, then Meta's own refusals, then acceptance.
async fn answer(world: Arc<World>, number: u64, message: Message) -> Response {
    let (fault, failure) = {
        let mut state = world.state();
        if let Some(call) = state.call(number) {
            describe(call, &message);
        }
        let fault = state.strike(message.party());
        let limits = world.options.rate_limits;
        let refusal = match &fault {
            Some(FaultKind::Error { code }) => {
                Err(GraphError::new(*code, "Injected by the simulator"))
            }
            _ => state
                .rates
                .take(limits, message.party(), clock::boottime_ns() / 1_000_000)
                .and_then(|()| known_template(&state.templates, &message)),
        };
        if let Err(error) = refusal {
            drop(state);
            return refuse(&world, number, error);
        }
        let failure = match &fault {
            Some(FaultKind::FailedStatus { code }) => {
                Some(GraphError::new(*code, "Injected by the simulator"))
            }
            _ => later_failure(&state, &message),
        };
        (fault, failure)
    };
    if let Some(FaultKind::HttpStatus { status }) = fault {
        if let Some(call) = world.state().call(number) {
            call.outcome = Outcome::Refused;
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        return (status, "<html>injected by the simulator</html>").into_response();
    }

    let wamid = wamid::new(message.party(), Direction::Outbound);
    if let Some(call) = world.state().call(number) {
        call.outcome = Outcome::Accepted;
        call.wamid = Some(wamid.clone());
    }
    tokio::spawn(webhook::run_statuses(Arc::clone(&world), wamid.clone(), failure));
    match fault {
        Some(FaultKind::Delay { delay_ms }) => {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        // Unwinding through the connection's task closes the socket; the panic hook stays silent.
        Some(FaultKind::DropConnection) => std::panic::resume_unwind(Box::new("injected fault")),
        Some(FaultKind::NoAnswer) => std::future::pending().await,
        _ => {}
    }
    axum::Json(accepted(&message, &wamid)).into_response()
}

fn accepted(message: &Message, wamid: &str) -> Value {
    let contact = match (&message.to, &message.user_id) {
        (Some(to), _) => json!({"input": to, "wa_id": message.digits}),
        (None, user_id) => json!({"input": user_id, "user_id": user_id}),
    };
    json!({
        "messaging_product": "whatsapp",
        "contacts": [contact],
        "messages": [{"id": wamid, "message_status": "accepted"}],
    })
}

fn describe(call: &mut crate::world::Call, message: &Message) {
    call.to.clone_from(&message.to);
    call.user_id.clone_from(&message.user_id);
    call.party = Some(message.party().to_owned());
    call.callback_data.clone_from(&message.callback_data);
    let (kind, template) = match &message.content {
        Content::Template { name, .. } => ("template", Some(name.clone())),
        Content::Text => ("text", None),
        Content::Interactive => ("interactive", None),
    };
    call.kind = Some(kind.to_owned());
    call.template = template;
}

/// Where templates are registered, only those exist.
fn known_template(
    templates: &[crate::world::Template],
    message: &Message,
) -> Result<(), GraphError> {
    let Content::Template { name, language, body_parameters } = &message.content else {
        return Ok(());
    };
    if templates.is_empty() {
        return Ok(());
    }
    let template = templates
        .iter()
        .find(|template| template.name == *name && template.language == *language)
        .ok_or_else(|| {
            GraphError::new(132_001, format!("template name ({name}) does not exist in {language}"))
        })?;
    if template.body_parameters != *body_parameters {
        return Err(GraphError::new(
            132_000,
            format!(
                "body: number of localizable_params ({body_parameters}) does not match the expected number of params ({})",
                template.body_parameters
            ),
        ));
    }
    Ok(())
}

/// What Meta accepts and then reports as failed by webhook.
fn later_failure(state: &crate::world::State, message: &Message) -> Option<GraphError> {
    if !message.opens_conversation() && !state.window_open(message.party()) {
        return Some(GraphError::new(
            131_047,
            "Message failed to send because more than 24 hours have passed since the customer last replied to this number.",
        ));
    }
    let Content::Template { name, .. } = &message.content else { return None };
    let marketing = state.templates.iter().any(|template| {
        template.name == *name && template.category.as_deref() == Some("MARKETING")
    });
    (marketing && state.stopped.contains(message.party()))
        .then(|| GraphError::new(131_050, "The recipient chose to stop marketing messages"))
}
