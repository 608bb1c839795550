//! `POST /v1/requests/{request_id}/…`: what is done with a request that is there. Each is decided by the domain
//! under the lock of the person's stream; repeating one changes nothing, so none needs a key.

use assent_contracts::rights::{ExtensionReason, RefusalGround, RequestOrigin};
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{Caller, Code, Json, Path, Problem};
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::request::{INTAKE, IdentityCheck};
use super::requests::{self, RequestView, view};
use super::{App, store_problem};
use crate::domain::request::{RequestCommand, RequestRefusal};

/// Who may say who somebody is, and answer her. Whoever takes requests in may not.
pub(super) const DECIDES: &str = "erasure:decide";

/// Why it takes longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extension {
    /// At least one.
    reasons: Vec<ExtensionReason>,
}

/// Why it is not done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    /// The ground.
    ground: RefusalGround,
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/acknowledgement", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    responses(
        (status = 200, body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
    ),
    security(("bearer" = []))
)]
/// Records that she was told that her request has arrived.
pub(super) async fn acknowledge(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
) -> Result<Json<RequestView>, Problem> {
    caller.require("erasure:write")?;
    decide(app, request_id, RequestCommand::Acknowledge, caller).await
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/identity", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body = IdentityCheck,
    responses(
        (status = 200, description = "An erasure begins", body = RequestView),
        (status = 403, description = "forbidden: it came by another road, or by none of hers"),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
/// Records how it was shown that she asks herself.
///
/// A key with `erasure:intake` alone records it of a request that came by a road of hers, and only by what that
/// road shows.
pub(super) async fn identity(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(check): Json<IdentityCheck>,
) -> Result<Json<RequestView>, Problem> {
    if !caller.has(INTAKE) {
        caller.require(DECIDES)?;
    }
    let check = check.by(&caller)?;
    if !caller.has(DECIDES) {
        // Where a request came from never changes, so it need not be looked up under its lock.
        let person = requests::load(&app, request_id).await?;
        let request = person.requests.get(request_id).ok_or(Code::RequestUnknown)?;
        if request.origin.map(RequestOrigin::proof) != Some(check.method) {
            caller.require(DECIDES)?;
        }
    }
    decide(app, request_id, RequestCommand::ConfirmIdentity(check), caller).await
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/extension", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body = Extension,
    responses(
        (status = 200, body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
    ),
    security(("bearer" = []))
)]
/// Extends the term, while it runs; she is told why (GDPR Article 12(3)).
pub(super) async fn extend(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(extension): Json<Extension>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    let extend = RequestCommand::Extend { reasons: extension.reasons };
    decide(app, request_id, extend, caller).await
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/refusal", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body = Refused,
    responses(
        (status = 200, description = "With what she is told", body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
    ),
    security(("bearer" = []))
)]
/// Refuses a request; she is told why, and where to complain (GDPR Article 12(4)).
pub(super) async fn refuse(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(refused): Json<Refused>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    decide(app, request_id, RequestCommand::Refuse { ground: refused.ground }, caller).await
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/answer", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    responses(
        (status = 200, body = RequestView),
        (status = 404, description = "request_unknown"),
        (status = 409, description = "request_state_conflict, with the member reason"),
    ),
    security(("bearer" = []))
)]
/// Records that what she asked for was done. An erasure is answered by its completion.
pub(super) async fn answer(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
) -> Result<Json<RequestView>, Problem> {
    caller.require(DECIDES)?;
    decide(app, request_id, RequestCommand::Answer, caller).await
}

async fn decide(
    app: App,
    request_id: Uuid,
    command: RequestCommand,
    caller: Caller,
) -> Result<Json<RequestView>, Problem> {
    let deciding = app.clone();
    let decided =
        to_the_end(async move { record(&deciding, request_id, command, &caller).await }).await;
    let decided = decided.map_err(store_problem)?.map_err(refused)?;
    app.wake.notify_one();
    Ok(Json(decided))
}

/// Why nothing changed.
pub(super) fn refused(refusal: RequestRefusal) -> Problem {
    match refusal {
        RequestRefusal::Unknown => Problem::new(Code::RequestUnknown),
        refusal => Problem::new(Code::RequestStateConflict)
            .detail(refusal.to_string())
            .with("reason", refusal.name()),
    }
}

async fn record(
    app: &App,
    request_id: Uuid,
    command: RequestCommand,
    caller: &Caller,
) -> Result<Result<RequestView, RequestRefusal>, StoreError> {
    let Some(subject) = app.sagas.subject_of(request_id).await? else {
        return Ok(Err(RequestRefusal::Unknown));
    };
    let mut held = app.sagas.hold(subject).await?;
    let events = match held.person.decide(request_id, command, &held.registry, held.now) {
        Ok(events) => events,
        Err(refusal) => {
            held.rollback().await?;
            return Ok(Err(refusal));
        }
    };
    held.keep_caller(caller).await?;
    held.record(events, None).await?;
    let names = held.names().await?;
    let view = view(&held.person, request_id, &names, held.now).ok_or(RequestRefusal::Unknown);
    held.commit().await?;
    Ok(view)
}
