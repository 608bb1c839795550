//! The business number and its account: name, quality, limits, registration, two-step verification.
//! One number in one account in one portfolio.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::callbacks::{configure_number, success};
use crate::graph::{self, Reading, check_account, check_number};
use crate::graph_error::GraphError;
use crate::inspect::webhook_answer;
use crate::limits::Limits;
use crate::profile::Profile;
use crate::template::text_of;
use crate::webhook::{account_change, deliver_first};
use crate::world::{self, World};

/// What a number shows unless fields are named.
pub const FIELDS: [&str; 6] = [
    "verified_name",
    "code_verification_status",
    "display_phone_number",
    "quality_rating",
    "platform_type",
    "throughput",
];
/// What an account shows unless fields are named.
pub const ACCOUNT_FIELDS: [&str; 4] =
    ["name", "timezone_id", "message_template_namespace", "currency"];
/// The code that a verification by SMS brings.
const CODE: &str = "123456";

/// The business number.
#[derive(Debug)]
pub struct Number {
    /// Its display name.
    pub name: String,
    /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`.
    pub quality: String,
    /// `CONNECTED`, `FLAGGED`, `RESTRICTED`, ….
    pub status: String,
    /// Whether it is registered for the Cloud API.
    pub registered: bool,
    /// Its PIN, where two-step verification is on.
    pub pin: Option<String>,
    /// `NOT_VERIFIED`, `VERIFIED` or `EXPIRED`.
    pub code_status: &'static str,
    /// Its profile.
    pub profile: Profile,
    /// Whether what people write comes with the hash of their identity.
    pub checks_identity: bool,
}

/// Registered, verified, in good standing.
impl Default for Number {
    fn default() -> Self {
        Self {
            name: "Simulated business".to_owned(),
            quality: "GREEN".to_owned(),
            status: "CONNECTED".to_owned(),
            registered: true,
            pin: None,
            code_status: "VERIFIED",
            profile: Profile::default(),
            checks_identity: false,
        }
    }
}

/// The number as the Graph API shows it.
pub fn node(world: &World, state: &world::State) -> Value {
    let number = &state.number;
    let digits = &world.options.display_phone_number;
    json!({
        "id": world.options.phone_number_id,
        "verified_name": number.name,
        "display_phone_number": format!("+{digits}"),
        "country_dial_code": world.options.country_code,
        "quality_rating": number.quality,
        "quality_score": {"score": number.quality},
        "status": if number.registered { number.status.as_str() } else { "DISCONNECTED" },
        "name_status": "APPROVED",
        "code_verification_status": number.code_status,
        "platform_type": if number.registered { "CLOUD_API" } else { "NOT_APPLICABLE" },
        "account_mode": "SANDBOX",
        "is_pin_enabled": number.pin.is_some(),
        "is_official_business_account": false,
        "throughput": {"level": if state.limits.per_second.unwrap_or(80) > 80 { "HIGH" } else { "STANDARD" }},
        "whatsapp_business_manager_messaging_limit": state.limits.tier(),
        "webhook_configuration": state.callbacks.configuration(),
    })
}

/// The account as the Graph API shows it.
pub fn account(world: &World) -> Value {
    json!({
        "id": world.options.business_account_id,
        "name": "Simulated business account",
        "timezone_id": "1",
        "currency": "EUR",
        "message_template_namespace": "5f1e0000_0000_4000_8000_000000000001",
        "account_review_status": "APPROVED",
        "business_verification_status": "verified",
    })
}

/// `GET /{version}/{account}/phone_numbers`.
pub async fn list(
    State(world): State<Arc<World>>,
    Path((version, account)): Path<(String, String)>,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_account(&world, &version, &account, &headers) {
        return error.into_response();
    }
    let node = reading.select(&node(&world, &world.state()), &FIELDS);
    let path = format!("/{version}/{account}/phone_numbers");
    Json(reading.page(&world, &path, vec![node])).into_response()
}

/// `POST /{version}/{number}`: a PIN, a display name, a callback of its own.
pub async fn update(world: &World, body: &Map<String, Value>) -> Result<(), GraphError> {
    let pin = body.get("pin").map(pin).transpose()?;
    if let Some(Value::Object(configuration)) = body.get("webhook_configuration") {
        configure_number(world, configuration).await?;
    }
    let mut state = world.state();
    if let Some(pin) = pin {
        state.number.pin = Some(pin);
    }
    if let Some(name) = text_of(body, "new_display_name") {
        state.number.name = name.to_owned();
    }
    Ok(())
}

/// `POST /{version}/{number}/register`.
pub async fn register(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let given = check_number(&world, &version, &number, &headers)
        .and_then(|()| graph::object(&body))
        .and_then(|body| pin(body.get("pin").unwrap_or(&Value::Null)));
    let pin = match given {
        Ok(pin) => pin,
        Err(error) => return error.into_response(),
    };
    let mut state = world.state();
    if state.number.pin.as_ref().is_some_and(|own| *own != pin) {
        return GraphError::new(133_005, "The PIN is not the number's").into_response();
    }
    state.number.pin = Some(pin);
    state.number.registered = true;
    success()
}

/// `POST /{version}/{number}/deregister`.
pub async fn deregister(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_number(&world, &version, &number, &headers) {
        return error.into_response();
    }
    world.state().number.registered = false;
    success()
}

/// `POST /{version}/{number}/request_code`: the code is always 123456.
pub async fn request_code(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_number(&world, &version, &number, &headers) {
        return error.into_response();
    }
    if !query.get("code_method").is_some_and(|it| it == "SMS" || it == "VOICE") {
        return GraphError::new(100, "code_method must be SMS or VOICE").into_response();
    }
    world.state().number.code_status = "NOT_VERIFIED";
    success()
}

/// `POST /{version}/{number}/verify_code`.
pub async fn verify_code(
    State(world): State<Arc<World>>,
    Path((version, number)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(error) = check_number(&world, &version, &number, &headers) {
        return error.into_response();
    }
    if query.get("code").map(String::as_str) != Some(CODE) {
        return GraphError::new(136_025, "The code is not the one that was sent").into_response();
    }
    world.state().number.code_status = "VERIFIED";
    success()
}

fn pin(given: &Value) -> Result<String, GraphError> {
    let pin = match given {
        Value::String(pin) => pin.clone(),
        Value::Number(pin) => pin.to_string(),
        _ => String::new(),
    };
    if pin.len() == 6 && pin.bytes().all(|c| c.is_ascii_digit()) {
        Ok(pin)
    } else {
        Err(GraphError::new(100, "pin must be 6 digits"))
    }
}

/// `POST /_sim/number`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberRequest {
    /// Its quality.
    #[serde(default)]
    quality: Option<String>,
    /// Its status.
    #[serde(default)]
    status: Option<String>,
    /// Whether what people write comes with the hash of their identity.
    #[serde(default)]
    checks_identity: Option<bool>,
}

/// `POST /_sim/number`: its quality or status changes; answers as an inbound message does. Whether it checks identities
/// is told by no webhook.
pub async fn change(
    State(world): State<Arc<World>>,
    Json(request): Json<NumberRequest>,
) -> Response {
    let webhook = {
        let mut state = world.state();
        if let Some(checks) = request.checks_identity {
            state.number.checks_identity = checks;
        }
        if request.quality.is_none() && request.status.is_none() {
            return StatusCode::NO_CONTENT.into_response();
        }
        if let Some(quality) = request.quality {
            state.number.quality = quality.to_ascii_uppercase();
        }
        if let Some(status) = request.status {
            state.number.status = status.to_ascii_uppercase();
        }
        let event = if state.number.status == "FLAGGED" { "FLAGGED" } else { "UNFLAGGED" };
        quality_update(&world, &state, event)
    };
    webhook_answer(deliver_first(&world, webhook).await, json!({}))
}

/// `GET /_sim/limits`: which are enforced.
pub async fn limits(State(world): State<Arc<World>>) -> Json<Limits> {
    Json(world.state().limits)
}

/// `PUT /_sim/limits`: which are enforced from now on; another tier is told by webhooks.
pub async fn put_limits(State(world): State<Arc<World>>, Json(limits): Json<Limits>) -> Response {
    let webhooks = {
        let mut state = world.state();
        let before = std::mem::replace(&mut state.limits, limits).people_per_day;
        if before == limits.people_per_day {
            return StatusCode::NO_CONTENT.into_response();
        }
        let most = |limit: Option<u32>| limit.unwrap_or(u32::MAX);
        let up = most(limits.people_per_day) > most(before);
        let capability = json!({
            "max_daily_conversations_per_business": limits.tier(),
            "max_phone_numbers_per_waba": 25,
        });
        [
            account_change(&world, &state, "business_capability_update", capability),
            quality_update(&world, &state, if up { "UPGRADE" } else { "DOWNGRADE" }),
        ]
    };
    let mut answered = None;
    for webhook in webhooks {
        answered = deliver_first(&world, webhook).await;
    }
    webhook_answer(answered, json!({}))
}

fn quality_update(world: &World, state: &world::State, event: &str) -> crate::webhook::Webhook {
    let value = json!({
        "display_phone_number": world.options.display_phone_number,
        "event": event,
        "current_limit": state.limits.tier(),
        "max_daily_conversations_per_business": state.limits.tier(),
    });
    account_change(world, state, "phone_number_quality_update", value)
}
