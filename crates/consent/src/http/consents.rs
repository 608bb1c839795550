//! `GET /v1/subjects/{subject_id}/consents`: what holds for a person.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{ConsentView, ConsentsResponse};
use assent_contracts::consent::State as ConsentState;
use assent_http::{Caller, Json, Path, Problem};
use axum::extract::State;

use super::App;
use super::refusals::database;
use crate::lines;
use crate::permits::settling;

/// What holds for this person?
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/consents", tag = "consents",
    params(("subject_id" = Uuid, Path, description = "The person")),
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
