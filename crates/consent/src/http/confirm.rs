//! `POST /v1/consents/confirm`: a yes is confirmed by the link that was brought to the person.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{ConfirmRequest, ConsentAnswer, Unconfirmable};
use assent_contracts::consent::{Actor, Method};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Problem};
use assent_runtime::telemetry;
use assent_sealing::LinkKind;
use axum::extract::State;

use uuid::Uuid;

use super::refusals::store;
use super::{App, Told, act};
use crate::commands::{CommandError, LedgerCommand, Wish, ledger};
use crate::domain::Scope;

/// Confirm a consent (double opt-in).
///
/// The link works once, for the person and the purpose that it was made for, until it is over or she
/// says no.
#[utoipa::path(
    post, path = "/v1/consents/confirm", tag = "consents",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = ConfirmRequest,
    responses(
        (status = 200, description = "Confirmed", body = ConsentAnswer),
        (status = 409, description = "confirmation_invalid, consent_not_allowed"),
        (status = 410, description = "subject_erased"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn confirm(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<ConfirmRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("consent:write")?;
    let (subject, request_id) = opened(&app, &request)?;
    let told = Told::now(Actor::Subject, Method::ConfirmationLink);
    let command = LedgerCommand {
        subject,
        wish: Wish::Confirm { request_id, act: act(told)?, own_addresses: Vec::new() },
        idempotency: app.idempotency(&caller, "confirm", key, &body),
        traceparent: telemetry::traceparent(),
    };
    let outcome = app.batcher().run(command).await?;
    Ok(Json(outcome.answer))
}

/// What would this link confirm?
#[utoipa::path(
    post, path = "/v1/consents/unconfirmed", tag = "consents",
    request_body = ConfirmRequest,
    responses(
        (status = 200, body = Unconfirmable),
        (status = 409, description = "confirmation_invalid"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn unconfirmed(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<ConfirmRequest>,
) -> Result<Json<Unconfirmable>, Problem> {
    caller.require("consent:read")?;
    let (subject, request_id) = opened(&app, &request)?;
    let mut session = app.0.store.begin().await.map_err(store)?;
    let stream = session.lock(&[subject]).await.map_err(store)?.remove(&subject);
    session.rollback().await.map_err(store)?;
    let ledger = ledger(&stream.unwrap_or_default()).map_err(store)?;
    let waits = ledger.confirmable(request_id, app.0.clock.now());
    let (scope, notice_hash, expires_at) = waits.map_err(CommandError::from)?;
    let Scope { purpose, channel } = scope;
    Ok(Json(Unconfirmable { purpose, channel, notice_hash, expires_at }))
}

fn opened(app: &App, request: &ConfirmRequest) -> Result<(SubjectId, Uuid), Problem> {
    let opened = app.0.papers.links.person_of(LinkKind::Confirmation, &request.link);
    opened.map_err(|_| {
        Problem::new(Code::ConfirmationInvalid)
            .detail("this is no link that confirms a consent")
            .with("reason", "link_unknown")
    })
}
