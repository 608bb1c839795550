//! `POST /v1/consents/withdraw`: take consent back. The answer comes one lease after the commit,
//! and from then on no send starts that rests on what was withdrawn (G1).

use assent_contracts::api::consent::{ConsentAnswer, WithdrawRequest};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, IdempotencyKey, Json, Problem};
use assent_runtime::{failpoint, settle, telemetry};
use axum::extract::State;

use super::{App, Told, act};
use crate::commands::{LedgerCommand, Wish};
use crate::domain::scope::Scope;

/// Withdraw a consent.
///
/// Waits until it has settled, on every road: also the repeat with the same key, and when it was
/// withdrawn already.
#[utoipa::path(
    post, path = "/v1/consents/withdraw", tag = "consents",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer, settled again.")),
    request_body(content = WithdrawRequest, description = "`*` is every purpose or channel"),
    responses(
        (status = 200, description = "Withdrawn and settled", body = ConsentAnswer),
        (status = 404, description = "purpose_unknown"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "channel_unknown, validation_failed"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn withdraw(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<WithdrawRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("consent:write")?;
    let WithdrawRequest { actor, method, place, evidence, acted_at, .. } = request;
    let command = LedgerCommand {
        subject: request.subject_id,
        wish: Wish::Withdraw {
            scope: Scope { purpose: request.purpose, channel: request.channel },
            act: act(Told { actor, method, place, evidence, acted_at })?,
        },
        idempotency: app.idempotency(&caller, "withdraw", key, &body),
        traceparent: telemetry::traceparent(),
    };
    settled(&app, command).await
}

/// Runs the command and answers when what it took away has settled.
pub(super) async fn settled(
    app: &App,
    command: LedgerCommand,
) -> Result<Json<ConsentAnswer>, Problem> {
    let outcome = app.batcher().run(command).await?;
    if outcome.settle {
        failpoint::hit_async("consent.withdraw_after_commit").await;
        settle(&*app.0.clock, &app.0.terms).await;
    }
    Ok(Json(outcome.answer))
}
