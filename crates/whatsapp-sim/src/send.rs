//! `POST /{version}/{phone_number_id}/messages`. Guarantees that each call whose body began is on
//! record with the times of its first and last byte, whatever becomes of it; what a well-formed
//! message is, `message` decides.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{self, ConnectInfo, Path};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::admission::{self, Admitted};
use crate::callbacks::success;
use crate::graph::check_number;
use crate::graph_error::GraphError;
use crate::marks;
use crate::message::{self, Content, Message};
use crate::scenario::FaultKind;
use crate::stamped::LastRead;
use crate::violations::Rule;
use crate::wamid::{self, Direction};
use crate::webhook::{self, Astray};
use crate::world::{Call, Outcome, World};

/// The largest body that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The endpoint.
pub async fn send(
    extract::State(world): extract::State<Arc<World>>,
    ConnectInfo(last_read): ConnectInfo<LastRead>,
    Path((version, phone_number_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some((number, raw)) = receive(&world, &last_read, body).await else {
        return GraphError::new(100, "The request has no body").into_response();
    };
    let body: Option<Value> = serde_json::from_slice(&raw).ok();
    let checked = check_number(&world, &version, &phone_number_id, &headers)
        .and_then(|()| read(&world, body.as_ref()));
    if let Some(call) = world.state().call(number) {
        let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
        call.traceparent = traceparent.map(str::to_owned);
        call.body = body;
    }
    match checked {
        Ok(Some(message)) => answer(world, number, message).await,
        Ok(None) => {
            if let Some(call) = world.state().call(number) {
                call.outcome = Outcome::Accepted;
                call.kind = Some("read".to_owned());
            }
            success()
        }
        Err(error) => {
            if let Some(rule) = Rule::behind(&error) {
                world.state().violations.count(rule, number);
            }
            refuse(&world, number, error)
        }
    }
}

/// The message; none where the body is a read mark, which has then been made.
fn read(world: &World, body: Option<&Value>) -> Result<Option<Message>, GraphError> {
    let body = body.ok_or_else(|| GraphError::new(100, "The body is not JSON"))?;
    if marks::is_mark(body) {
        return marks::mark(world, body).map(|()| None);
    }
    message::parse(body, &world.options.country_code).map(Some)
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
                    let (first_byte, at) = (last_read.boottime_ns(), world.now());
                    call.number = Some(world.state().begin(first_byte, at));
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

fn refuse(world: &World, number: u64, error: GraphError) -> Response {
    if let Some(call) = world.state().call(number) {
        call.outcome = Outcome::Refused;
        call.error_code = Some(error.code);
    }
    error.into_response()
}

/// Answers a well-formed message.
async fn answer(world: Arc<World>, number: u64, message: Message) -> Response {
    let wamid = wamid::new(message.party(), Direction::Outbound, &world.random);
    let admitted = {
        let mut state = world.state();
        let now = world.now();
        let in_window = state.people.window_open(message.party(), now);
        if let Some(call) = state.call(number) {
            describe(call, &message);
            call.in_window = in_window;
        }
        admission::admit(&world, &mut state, number, &message, &wamid)
    };
    let Admitted { fault, failure, held, category } = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return refuse(&world, number, error),
    };
    if let Some(FaultKind::HttpStatus { status }) = fault {
        if let Some(call) = world.state().call(number) {
            call.outcome = Outcome::Refused;
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        return (status, "<html>injected by the simulator</html>").into_response();
    }
    if let Some(call) = world.state().call(number) {
        call.outcome = Outcome::Accepted;
        call.wamid = Some(wamid.clone());
        call.category = category;
    }
    let mut astray = Astray::default();
    match fault {
        Some(FaultKind::DelayStatuses { delay_ms }) => {
            astray.later = Duration::from_millis(delay_ms);
        }
        Some(FaultKind::DuplicateStatuses) => astray.twice = true,
        Some(FaultKind::DisorderStatuses) => astray.disorder = true,
        Some(FaultKind::LoseStatuses) => astray.lost = true,
        _ => {}
    }
    if !held {
        tokio::spawn(webhook::run_statuses(Arc::clone(&world), wamid.clone(), failure, astray));
    }
    match fault {
        Some(FaultKind::Delay { delay_ms }) => {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        // Unwinding through the connection's task closes the socket; the panic hook stays silent.
        Some(FaultKind::DropConnection) => std::panic::resume_unwind(Box::new("injected fault")),
        Some(FaultKind::NoAnswer) => std::future::pending().await,
        _ => {}
    }
    axum::Json(accepted(&message, &wamid, held)).into_response()
}

fn accepted(message: &Message, wamid: &str, held: bool) -> Value {
    let contact = match (&message.to, &message.user_id) {
        (Some(to), _) => json!({"input": to, "wa_id": message.digits}),
        (None, user_id) => json!({"input": user_id, "user_id": user_id}),
    };
    let status = if held { "held_for_quality_assessment" } else { "accepted" };
    json!({
        "messaging_product": "whatsapp",
        "contacts": [contact],
        "messages": [{"id": wamid, "message_status": status}],
    })
}

fn describe(call: &mut Call, message: &Message) {
    call.to.clone_from(&message.to);
    call.user_id.clone_from(&message.user_id);
    call.party = Some(message.party().to_owned());
    call.callback_data.clone_from(&message.callback_data);
    call.kind = Some(message.kind().to_owned());
    if let Content::Template { name, .. } = &message.content {
        call.template = Some(name.clone());
    }
}
