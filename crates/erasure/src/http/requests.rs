//! `GET /v1/requests` and `GET /v1/requests/{request_id}`: where requests stand and who is missing. They
//! never say whom a request concerns.

use std::collections::BTreeSet;

use assent_contracts::erasure::Step;
use assent_http::{Caller, Code, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, store_problem};
use crate::domain::{Issued, Request, Status};

/// A request with its progress.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestView {
    request_id: Uuid,
    status: Status,
    requested_at: Timestamp,
    /// By when it must be done (GDPR Article 12(3)).
    due: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    /// Who has not answered a command that was issued.
    missing: BTreeSet<String>,
    participants: Vec<ParticipantProgress>,
}

/// What one participant has and hasn't answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ParticipantProgress {
    name: String,
    /// The team to turn to when it doesn't answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    acknowledged: Vec<Progress>,
    missing: Vec<Progress>,
}

/// A step of one participant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Progress {
    #[schema(value_type = String, example = "fence")]
    step: Step,
    command_id: Uuid,
    /// When the command was issued.
    since: Timestamp,
    /// When the answer was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<Timestamp>,
    /// Whether the step's time had run out.
    overdue: bool,
}

/// A request in a listing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestSummary {
    request_id: Uuid,
    #[schema(value_type = Status)]
    status: String,
    requested_at: Timestamp,
    due: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    #[serde(skip)]
    place: i64,
}

#[utoipa::path(
    get, path = "/v1/requests/{request_id}", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    responses(
        (status = 200, body = RequestView),
        (status = 404, description = "request_unknown"),
    ),
    security(("bearer" = []))
)]
/// Where a request stands, participant by participant.
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
) -> Result<Json<RequestView>, Problem> {
    caller.require("erasure:read")?;
    let request = load(&app, request_id).await?;
    let missing = request.commands.iter().flat_map(Issued::missing).cloned().collect();
    let mut owners = app.sagas.owners().await.map_err(store_problem)?;
    let participants = request
        .participants
        .iter()
        .map(|name| progress(&request, name, owners.remove(name)))
        .collect();
    Ok(Json(RequestView {
        request_id,
        status: request.status(),
        requested_at: request.requested_at,
        due: request.due,
        completed_at: request.completed_at,
        missing,
        participants,
    }))
}

/// The request of this id.
pub(super) async fn load(app: &App, request_id: Uuid) -> Result<Request, Problem> {
    let subject = app.sagas.subject_of(request_id).await.map_err(store_problem)?;
    let subject = subject.ok_or(Code::RequestUnknown)?;
    let saga = app.sagas.load(subject).await.map_err(store_problem)?;
    saga.request.ok_or_else(|| Code::RequestUnknown.into())
}

fn progress(request: &Request, name: &str, owner: Option<String>) -> ParticipantProgress {
    let (acknowledged, missing) = request
        .commands
        .iter()
        .filter(|command| command.participants.contains(name))
        .map(|command| Progress {
            step: command.step,
            command_id: command.command_id,
            since: command.at,
            acknowledged_at: command.answers.get(name).map(|(_, at)| *at),
            overdue: command.overdue.contains(name),
        })
        .partition(|progress| progress.acknowledged_at.is_some());
    ParticipantProgress { name: name.to_owned(), owner, acknowledged, missing }
}

#[utoipa::path(
    get, path = "/v1/requests", tag = "requests",
    params(Page),
    responses(
        (status = 200, description = "Newest first", body = Listing<RequestSummary>),
    ),
    security(("bearer" = []))
)]
/// All requests, newest first.
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<RequestSummary>>, Problem> {
    const LIST: &str = "
        SELECT request_id, status, requested_at, due, completed_at, place FROM requests
        WHERE place < $1 ORDER BY place DESC LIMIT $2";
    caller.require("erasure:read")?;
    let before: i64 = page.after()?.unwrap_or(i64::MAX);
    let rows = sqlx::query(LIST)
        .bind(before)
        .bind(i64::try_from(page.limit() + 1).unwrap_or(i64::MAX))
        .fetch_all(app.sagas.store.pool())
        .await
        .and_then(|rows| rows.iter().map(summary).collect::<Result<Vec<_>, _>>())
        .map_err(|error| store_problem(error.into()))?;
    Ok(Json(Listing::cut(rows, page.limit(), |last| last.place)))
}

fn summary(row: &PgRow) -> Result<RequestSummary, sqlx::Error> {
    Ok(RequestSummary {
        request_id: row.try_get(0)?,
        status: row.try_get(1)?,
        requested_at: row.try_get::<SqlTimestamp, _>(2)?.to_jiff(),
        due: row.try_get::<SqlTimestamp, _>(3)?.to_jiff(),
        completed_at: row.try_get::<Option<SqlTimestamp>, _>(4)?.map(|at| at.to_jiff()),
        place: row.try_get(5)?,
    })
}
