//! `POST /v1/requests/{request_id}/archive` and `POST /v1/tracking/archive`: what a request to see, or to take along,
//! what is held is answered with. It guarantees that only whoever has the request's secret is handed it, once.

use assent_contracts::rights::ArchiveEnd;
use assent_http::{Caller, Code, Json, Path, Problem};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decisions::DECIDES;
use super::requests::{self, RequestView};
use super::tracking::{Guess, guessed};
use super::{App, store_problem};
use crate::archivist::ArchiveError;
use crate::domain::archive::{ArchiveRefusal, Stage};
use crate::domain::request::SubjectRequest;

/// What is, or was, there to be collected.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ArchiveView {
    /// Since when it was there.
    prepared_at: Timestamp,
    /// Until when it can, or could, be collected.
    expires_at: Timestamp,
    /// When it was handed out; none: it wasn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    collected_at: Option<Timestamp>,
    /// Why it was destroyed uncollected; none: it wasn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<ArchiveEnd>,
}

impl ArchiveView {
    /// The archive of a request, as it stands.
    pub(super) fn of(request: &SubjectRequest, now: Timestamp) -> Option<Self> {
        let archive = request.archive?;
        let (collected_at, removed) = match archive.stage {
            Stage::Waiting if now >= archive.expires_at => (None, Some(ArchiveEnd::Expired)),
            Stage::Waiting => (None, None),
            Stage::Collected(at) => (Some(at), None),
            Stage::Removed(why) => (None, Some(why)),
        };
        let (prepared_at, expires_at) = (archive.prepared_at, archive.expires_at);
        Some(Self { prepared_at, expires_at, collected_at, removed })
    }
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/archive", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    responses(
        (status = 200, description = "It can be collected, with the request's secret", body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
        (status = 503, description = "dependency_unavailable: a service doesn't tell what it holds"),
    ),
    security(("bearer" = []))
)]
/// Puts together what is held, anew where that was done before: it takes the place of one that waits.
///
/// Once it is shown who asks this happens by itself; ask for it where she lost what she collected, or came too late.
pub(super) async fn prepare(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    app.archivist.prepare(request_id).await.map_err(problem)?;
    let person = requests::load(&app, request_id).await?;
    let names = app.sagas.names().await.map_err(store_problem)?;
    let view = requests::view(&person, request_id, &names, app.sagas.clock.now());
    Ok(Json(view.ok_or(Code::RequestUnknown)?))
}

#[utoipa::path(
    post, path = "/v1/tracking/archive", tag = "requests",
    request_body = Guess,
    responses(
        (status = 200, description = "A zip: pages to read, the same as JSON, contact data as a vCard", body = Vec<u8>, content_type = "application/zip"),
        (status = 404, description = "request_unknown: no such request, or not its secret"),
        (status = 409, description = "request_state_conflict: reason archive_gone or erased"),
        (status = 503, description = "dependency_unavailable: it can still be collected"),
    ),
    security(("bearer" = []))
)]
/// Hands out what a request is answered with, by its reference and secret: once, and on record before.
pub(super) async fn collect(
    State(app): State<App>,
    caller: Caller,
    Json(guess): Json<Guess>,
) -> Result<Response, Problem> {
    caller.require("erasure:track")?;
    let request_id = guessed(&app, &guess).await?;
    let archive = app.archivist.collect(request_id).await.map_err(problem)?;
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"data.zip\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, archive.to_vec()).into_response())
}

fn problem(error: ArchiveError) -> Problem {
    match error {
        ArchiveError::Refused(ArchiveRefusal::Unknown) => Code::RequestUnknown.into(),
        ArchiveError::Refused(refusal) => Problem::new(Code::RequestStateConflict)
            .detail(refusal.to_string())
            .with("reason", refusal.name()),
        ArchiveError::Store(error) => store_problem(error),
        ArchiveError::Holder(service, error) => Problem::unavailable(service, error),
        ArchiveError::LeaseOver => Problem::unavailable("vault", error),
        ArchiveError::Sealed(error) => Problem::internal(error),
        ArchiveError::Pack(error) => Problem::internal(error),
    }
}
