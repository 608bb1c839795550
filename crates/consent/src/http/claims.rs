//! Claims: consents that a list brings evidence of, brought in parts, looked at, decided.

use assent_contracts::SubjectId;
use assent_contracts::api::claims::{ClaimBatch, ClaimView, ClaimsRequest, DecideRequest};
use assent_http::{Caller, Code, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use super::refusals::database;
use super::{App, is_code};
use crate::claims::{self, CLAIMS_MAX};

/// Bring a part of a batch of claims.
///
/// They grant nothing until somebody else has looked at them.
#[utoipa::path(
    post, path = "/v1/claims", tag = "claims",
    request_body = ClaimsRequest,
    responses(
        (status = 204, description = "Kept"),
        (status = 404, description = "purpose_unknown"),
        (status = 409, description = "request_state_conflict"),
        (status = 422, description = "validation_failed, channel_unknown"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn bring(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<ClaimsRequest>,
) -> Result<StatusCode, Problem> {
    caller.require("consent:write")?;
    let invalid = |detail: &str| Problem::new(Code::ValidationFailed).detail(detail);
    if request.claims.len() > CLAIMS_MAX {
        return Err(invalid("at most 500 claims in one part"));
    }
    let now = app.0.clock.now();
    if request.claims.iter().any(|claim| claim.acted_at > now) {
        return Err(invalid("a claim lies in the future"));
    }
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let purposes = crate::policy::purposes(&mut conn).await.map_err(database)?;
    drop(conn);
    let purpose = purposes.get(&request.purpose).ok_or(Code::PurposeUnknown)?;
    if !purpose.channels.contains(&request.channel) {
        return Err(Code::ChannelUnknown.into());
    }
    app.0.claims.take(&request, caller.name()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say that a batch is whole.
#[utoipa::path(
    post, path = "/v1/claims/{batch_id}/submit", tag = "claims",
    params(("batch_id" = Uuid, Path, description = "The batch")),
    responses(
        (status = 200, description = "It waits for a decision", body = ClaimBatch),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn submit(
    State(app): State<App>,
    caller: Caller,
    Path(batch): Path<Uuid>,
) -> Result<Json<ClaimBatch>, Problem> {
    caller.require("consent:write")?;
    Ok(Json(app.0.claims.submit(batch, caller.name()).await?))
}

/// Approve or refuse a batch.
///
/// Not by the caller that brought it. An approved batch becomes consents soon after; those that the
/// ledger doesn't allow say why.
#[utoipa::path(
    post, path = "/v1/claims/{batch_id}/decide", tag = "claims",
    params(("batch_id" = Uuid, Path, description = "The batch")),
    request_body = DecideRequest,
    responses(
        (status = 200, body = ClaimBatch),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict"),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn decide(
    State(app): State<App>,
    caller: Caller,
    Path(batch): Path<Uuid>,
    Json(request): Json<DecideRequest>,
) -> Result<Json<ClaimBatch>, Problem> {
    caller.require("claims:review")?;
    if !is_code(&request.reason) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("reason: 1 to 64 of a-z, 0-9, _ and -, such as form_log_checked"));
    }
    Ok(Json(app.0.claims.decide(batch, &request, caller.name()).await?))
}

/// Which batches are there?
#[utoipa::path(
    get, path = "/v1/claims", tag = "claims",
    params(Page),
    responses((status = 200, description = "Newest first", body = Listing<ClaimBatch>)),
    security(("bearer" = []))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<ClaimBatch>>, Problem> {
    caller.require("consent:read")?;
    let limit = page.limit();
    let before = page.after::<Uuid>()?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let rows = claims::list(&mut conn, before, limit as i64 + 1).await.map_err(database)?;
    Ok(Json(Listing::cut(rows, limit, |last| last.batch_id)))
}

/// How far is this batch?
#[utoipa::path(
    get, path = "/v1/claims/{batch_id}", tag = "claims",
    params(("batch_id" = Uuid, Path, description = "The batch")),
    responses(
        (status = 200, body = ClaimBatch),
        (status = 404, description = "request_unknown"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(batch): Path<Uuid>,
) -> Result<Json<ClaimBatch>, Problem> {
    caller.require("consent:read")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let found = claims::one(&mut conn, batch).await.map_err(database)?;
    found.map(Json).ok_or_else(|| Code::RequestUnknown.into())
}

/// What is claimed in it?
#[utoipa::path(
    get, path = "/v1/claims/{batch_id}/items", tag = "claims",
    params(("batch_id" = Uuid, Path, description = "The batch"), Page),
    responses((status = 200, description = "The evidence is sealed: open it at the vault", body = Listing<ClaimView>)),
    security(("bearer" = []))
)]
pub(super) async fn items(
    State(app): State<App>,
    caller: Caller,
    Path(batch): Path<Uuid>,
    Query(page): Query<Page>,
) -> Result<Json<Listing<ClaimView>>, Problem> {
    caller.require("claims:review")?;
    let limit = page.limit();
    let after = page.after::<SubjectId>()?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let rows = claims::items(&mut conn, batch, after, limit as i64 + 1).await.map_err(database)?;
    Ok(Json(Listing::cut(rows, limit, |last| last.subject_id)))
}
