//! `POST /v1/consents/refuse`: record that someone says no. Where that ends a consent it is a
//! withdrawal, and answers when it has settled.

use assent_contracts::api::consent::{ConsentAnswer, WithdrawRequest};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, IdempotencyKey, Json, Problem};
use assent_runtime::telemetry;
use axum::extract::State;

use super::withdraw::settled;
use super::{App, Told, act};
use crate::commands::{LedgerCommand, Wish};
use crate::domain::scope::Scope;

/// Record a refusal.
#[utoipa::path(
    post, path = "/v1/consents/refuse", tag = "consents",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer, settled again.")),
    request_body(content = WithdrawRequest, description = "`*` is every purpose or channel"),
    responses(
        (status = 200, description = "Recorded, and settled where it ends a consent", body = ConsentAnswer),
        (status = 404, description = "purpose_unknown"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "channel_unknown, validation_failed"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn refuse(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<WithdrawRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("consent:write")?;
    let WithdrawRequest { actor, method, place, evidence, acted_at, .. } = request;
    let command = LedgerCommand {
        subject: request.subject_id,
        wish: Wish::Refuse {
            scope: Scope { purpose: request.purpose, channel: request.channel },
            act: act(Told { actor, method, place, evidence, acted_at })?,
        },
        idempotency: app.idempotency(&caller, "refuse", key, &body),
        traceparent: telemetry::traceparent(),
    };
    settled(&app, command).await
}
