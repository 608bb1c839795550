//! `GET /v1/subjects/{id}/consents`: what holds for a person.

use assent_contracts::SubjectId;
use assent_contracts::consent::State as ConsentState;
use assent_http::{Caller, Json, Path, Problem};
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::refusals::database;
use crate::lines;
use crate::permits::settling;

/// What holds for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentsResponse {
    /// Who.
    pub subject_id: Uuid,
    /// Whether she is, or is being, erased; then there are no lines. Told with `suppression:read` only.
    pub erased: bool,
    /// One line per purpose and channel that she spoke about, sorted by both.
    pub consents: Vec<ConsentView>,
}

/// The last word about one purpose and channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentView {
    /// The purpose; `*` is every one.
    pub purpose: String,
    /// The channel; `*` is every one.
    pub channel: String,
    /// `given`, `refused`, `withdrawn` or `expired`.
    #[schema(value_type = String)]
    pub state: ConsentState,
    /// Since when.
    pub since: Timestamp,
    /// The event that made it so.
    pub event_id: Uuid,
    /// Hash of the notice that was agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_hash: Option<String>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// Until when a send that began before the change may still be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settling_until: Option<Timestamp>,
}

/// What holds for this person?
#[utoipa::path(
    get, path = "/v1/subjects/{id}/consents", tag = "consents",
    params(("id" = Uuid, Path, description = "The subject_id")),
    responses((status = 200, body = ConsentsResponse)),
    security(("bearer" = []))
)]
pub(super) async fn consents(
    State(app): State<App>,
    caller: Caller,
    Path(subject_id): Path<SubjectId>,
) -> Result<Json<ConsentsResponse>, Problem> {
    caller.require("consent:read")?;
    let mut connection = app.0.store.pool().acquire().await.map_err(database)?;
    let (lines, erased) = lines::of_subject(&mut connection, subject_id).await.map_err(database)?;
    let now = app.0.clock.now();
    let settling = settling(&app.0.terms);
    let view = |(scope, line): (crate::domain::Scope, crate::domain::Line)| {
        let expired = line.valid_until.is_some_and(|until| until <= now);
        let state = match line.state {
            ConsentState::Given if expired => ConsentState::Expired,
            state => state,
        };
        let took = matches!(line.state, ConsentState::Withdrawn | ConsentState::Refused);
        let settles = line.since.checked_add(settling).ok().filter(|until| took && *until > now);
        ConsentView {
            purpose: scope.purpose,
            channel: scope.channel,
            state,
            since: line.since,
            event_id: line.event_id,
            notice_hash: line.notice_hash,
            valid_until: line.valid_until,
            settling_until: settles,
        }
    };
    let consents = if erased { Vec::new() } else { lines.into_iter().map(view).collect() };
    let erased = erased && caller.has("suppression:read");
    Ok(Json(ConsentsResponse { subject_id, erased, consents }))
}
