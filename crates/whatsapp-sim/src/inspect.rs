//! `/_sim`: how tests look at the simulator, drive its clock and make things go wrong. Nothing of
//! this exists at Meta, so nothing of it may be called by anything but tests.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Drive;
use crate::graph_error::GraphError;
use crate::scenario::{Fault, Scenario};
use crate::webhook::Webhook;
use crate::world::{StatusPlan, World};
use crate::{review, webhook};

/// `GET /_sim/messages`: every call, in the order of first bytes.
pub async fn messages(State(world): State<Arc<World>>) -> Json<Value> {
    let state = world.state();
    Json(json!({
        "messages": state.calls(),
        "calls_without_body": state.calls_without_body,
        "inbound": state.inbound,
    }))
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

/// `POST /_sim/status`: answers as an inbound message does.
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

/// `POST /_sim/webhook`: any body, signed and posted once as it is; answers as an inbound
/// message does.
pub async fn webhook(State(world): State<Arc<World>>, body: String) -> Response {
    let webhook = Webhook::raw(&world, body);
    webhook_answer(webhook::post(&world, &webhook).await, json!({}))
}

/// `POST /_sim/verify`: the webhook handshake.
pub async fn verify(State(world): State<Arc<World>>) -> Response {
    match webhook::verify(&world).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(what) => (StatusCode::BAD_GATEWAY, Json(json!({"error": what}))).into_response(),
    }
}

/// `GET /_sim/faults`: those still to come.
pub async fn faults(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!({"faults": world.state().faults}))
}

/// `POST /_sim/faults`: one more.
pub async fn add_fault(State(world): State<Arc<World>>, Json(fault): Json<Fault>) -> Response {
    if let Some(what) = fault.nonsense() {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": what}))).into_response();
    }
    let fault = fault.begun();
    if !fault.spent() {
        world.state().faults.push_back(fault);
    }
    StatusCode::NO_CONTENT.into_response()
}

/// `DELETE /_sim/faults`: none any more.
pub async fn clear_faults(State(world): State<Arc<World>>) -> StatusCode {
    world.state().faults.clear();
    StatusCode::NO_CONTENT
}

/// `POST /_sim/scenario`: a scenario file's text; things go as it says from now on.
pub async fn scenario(State(world): State<Arc<World>>, text: String) -> Response {
    match Scenario::parse(&text) {
        Ok(scenario) => {
            let now = world.now();
            world.state().play(scenario, &world.random, now);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(what) => (StatusCode::BAD_REQUEST, Json(json!({"error": what}))).into_response(),
    }
}

/// `GET /_sim/clock`: the simulated time.
pub async fn clock(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!({"now": world.now()}))
}

/// `POST /_sim/clock`: drives it; what has become due happens.
pub async fn drive(State(world): State<Arc<World>>, Json(drive): Json<Drive>) -> Json<Value> {
    let now = world.clock.drive(&drive);
    review::due(&world);
    Json(json!({"now": now}))
}

/// `POST /_sim/reset`: forgets calls, people, faults, templates; the clock stays.
pub async fn reset(State(world): State<Arc<World>>) -> StatusCode {
    world.reset();
    StatusCode::NO_CONTENT
}

/// The webhook's status as the answer's, 502 when nothing answered it.
pub fn webhook_answer(status: Option<u16>, mut more: Value) -> Response {
    more["webhook_status"] = json!(status);
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    (status.unwrap_or(StatusCode::BAD_GATEWAY), Json(more)).into_response()
}
