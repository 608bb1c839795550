//! The HTTP face of parked messages, mounted by each service under `/v1/parked`. It guarantees the
//! scope `operations` on every route and answers that hold coordinates and headers, never data.

use std::collections::BTreeMap;

use assent_http::extract::{Json, Path, Query};
use assent_http::{Caller, Code, Limit, Listing, Page, Problem};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use uuid::Uuid;

use super::{Id, Parked, ParkedError, ParkedMessages};
use crate::envelope::Delivery;

const SCOPE: &str = "operations";

/// The routes; the service puts them behind its keys.
pub fn router<S: Clone + Send + Sync + 'static>(parked: ParkedMessages) -> Router<S> {
    Router::new()
        .route("/v1/parked", get(list))
        .route("/v1/parked/{id}", get(show))
        .route("/v1/parked/{id}/replay", post(replay))
        .route("/v1/parked/{id}/discard", post(discard))
        .with_state(parked)
}

/// The description of the routes, to be merged into the service's own.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

#[derive(OpenApi)]
#[openapi(paths(list, show, replay, discard))]
struct Api;

/// A message that waits for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkedMessage {
    /// `consumer:topic:partition:offset`.
    pub id: String,
    /// The consumer that parked it.
    pub consumer: String,
    /// Topic, without the deployment's prefix.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key; nil where it could not be read.
    pub key: Uuid,
    /// Sequence, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// Type; empty where it could not be read.
    pub event_type: String,
    /// Why it waits: a code; `behind` for those that wait for an earlier one.
    pub reason: String,
    /// Since when.
    pub parked_at: Timestamp,
}

impl From<Parked> for ParkedMessage {
    fn from(parked: Parked) -> Self {
        let id = Id::of(&parked).to_string();
        let Parked { consumer, topic, partition, offset, key, .. } = parked;
        let Parked { sequence, event_type, reason, parked_at, .. } = parked;
        Self {
            id,
            consumer,
            topic,
            partition,
            offset,
            key,
            sequence,
            event_type,
            reason,
            parked_at,
        }
    }
}

/// A parked message with its headers, read again from Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkedDetail {
    /// The parked message.
    #[serde(flatten)]
    pub message: ParkedMessage,
    /// `event`, `malformed` or `gone`.
    pub state: String,
    /// What its headers say, by CloudEvents attribute; for a malformed one, its `defect`.
    pub attributes: BTreeMap<String, String>,
    /// Length of its data in bytes.
    pub data_length: usize,
}

/// Which parked messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only those of this consumer.
    #[serde(default)]
    consumer: Option<String>,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// How far a replay got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    /// How many messages of the key left the parking place.
    pub applied: usize,
}

/// Why a message is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardRequest {
    /// A code: lower-case letters, digits and `_`, at most 64; no free text.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    pub reason: String,
}

/// Lists messages that wait for a decision.
#[utoipa::path(get, path = "/v1/parked", tag = "operations", security(("bearer" = [])), params(Filter),
    responses((status = 200, body = Listing<ParkedMessage>)))]
async fn list(
    State(parked): State<ParkedMessages>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Listing<ParkedMessage>>, Problem> {
    caller.require(SCOPE)?;
    let page = Page { limit: filter.limit, cursor: filter.cursor };
    let after = page.after::<String>()?.map(|id| id.parse::<Id>()).transpose();
    let after = after.map_err(|_| Problem::new(Code::CursorInvalid))?;
    let limit = page.limit();
    let rows = parked.list(filter.consumer.as_deref(), after.as_ref(), limit as i64 + 1).await?;
    let rows: Vec<ParkedMessage> = rows.into_iter().map(Into::into).collect();
    Ok(Json(Listing::cut(rows, limit, |last| last.id.clone())))
}

/// Shows a parked message with its headers, read again from Kafka.
#[utoipa::path(get, path = "/v1/parked/{id}", tag = "operations", security(("bearer" = [])),
    params(("id" = String, Path, description = "`consumer:topic:partition:offset`")),
    responses((status = 200, body = ParkedDetail), (status = 404, description = "parked_unknown")))]
async fn show(
    State(parked): State<ParkedMessages>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ParkedDetail>, Problem> {
    caller.require(SCOPE)?;
    let shown = parked.show(&id.parse()?).await?;
    let mut attributes = BTreeMap::new();
    let mut put = |name: &str, value: String| attributes.insert(name.to_owned(), value);
    let (state, data_length) = match shown.message {
        None => ("gone", 0),
        Some(Delivery::Malformed(message)) => {
            put("defect", message.defect.to_owned());
            ("malformed", 0)
        }
        Some(Delivery::Event(event)) => {
            put("id", event.id.to_string());
            put("type", event.event_type);
            put("time", event.time.to_string());
            put("subject", event.key.to_string());
            put("sequence", event.sequence.to_string());
            if let Some(traceparent) = event.traceparent {
                put("traceparent", traceparent);
            }
            ("event", event.data.len())
        }
    };
    let state = state.to_owned();
    Ok(Json(ParkedDetail { message: shown.parked.into(), state, attributes, data_length }))
}

/// Applies the messages of its key again, in order, until none is left or one is refused.
#[utoipa::path(post, path = "/v1/parked/{id}/replay", tag = "operations", security(("bearer" = [])),
    params(("id" = String, Path, description = "`consumer:topic:partition:offset`")),
    responses((status = 200, body = Replayed), (status = 404, description = "parked_unknown"),
        (status = 409, description = "parked_state_conflict")))]
async fn replay(
    State(parked): State<ParkedMessages>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Replayed>, Problem> {
    caller.require(SCOPE)?;
    let id: Id = id.parse()?;
    // A task of its own: a client that goes away must not leave half a transaction behind.
    let replayed = tokio::spawn(async move { parked.replay(&id).await }).await;
    let applied = replayed.map_err(Problem::internal)??;
    Ok(Json(Replayed { applied }))
}

/// Gives the message up, on record; its key goes on after it.
#[utoipa::path(post, path = "/v1/parked/{id}/discard", tag = "operations", security(("bearer" = [])),
    params(("id" = String, Path, description = "`consumer:topic:partition:offset`")),
    request_body = DiscardRequest, responses((status = 204), (status = 404, description = "parked_unknown"),
        (status = 409, description = "parked_state_conflict"), (status = 422, description = "validation_failed")))]
async fn discard(
    State(parked): State<ParkedMessages>,
    caller: Caller,
    Path(id): Path<String>,
    Json(request): Json<DiscardRequest>,
) -> Result<StatusCode, Problem> {
    caller.require(SCOPE)?;
    let id: Id = id.parse()?;
    let DiscardRequest { reason } = request;
    let is_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !(1..=64).contains(&reason.len()) || !reason.bytes().all(is_code) {
        return Err(Problem::new(Code::ValidationFailed).detail("the reason must be a code"));
    }
    let by = caller.name().to_owned();
    let discarded = tokio::spawn(async move { parked.discard(&id, &reason, &by).await }).await;
    discarded.map_err(Problem::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

impl From<ParkedError> for Problem {
    fn from(error: ParkedError) -> Self {
        match &error {
            ParkedError::Unknown => Problem::new(Code::ParkedUnknown),
            ParkedError::NotFirst(first) => Problem::new(Code::ParkedStateConflict)
                .detail(error.to_string())
                .with("first", first.to_string()),
            ParkedError::Malformed(_) | ParkedError::Gone => {
                Problem::new(Code::ParkedStateConflict).detail(error.to_string())
            }
            ParkedError::Refused { id, reason, applied } => Problem::new(Code::ParkedStateConflict)
                .detail(error.to_string())
                .with("refused", id.to_string())
                .with("reason", reason.as_str())
                .with("applied", *applied),
            ParkedError::Kafka(_) => Problem::unavailable("kafka", error),
            ParkedError::Database(_) => Problem::unavailable("postgres", error),
        }
    }
}
