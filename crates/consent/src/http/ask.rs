//! `POST /v1/consents/ask`: have a person asked for her consent, by one message.

use assent_contracts::api::consent::{AskRequest, ConsentAnswer};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, IdempotencyKey, Json, Problem};
use assent_runtime::telemetry;
use axum::extract::State;

use super::App;
use crate::commands::{LedgerCommand, Wish};
use crate::domain::scope::Scope;

/// Ask for a consent.
///
/// Only within a day of a message of hers, or while the consent that it would renew is in force and ends
/// soon; not again before the policy and the law allow it. The message goes out through the gate like
/// any other.
#[utoipa::path(
    post, path = "/v1/consents/ask", tag = "consents",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = AskRequest,
    responses(
        (status = 200, description = "She is asked", body = ConsentAnswer),
        (status = 404, description = "purpose_unknown, notice_unknown"),
        (status = 409, description = "ask_not_allowed"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "channel_unknown, validation_failed"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn ask(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<AskRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("consent:write")?;
    let command = LedgerCommand {
        subject: request.subject_id,
        wish: Wish::Ask {
            scope: Scope { purpose: request.purpose, channel: request.channel },
            locale: request.locale,
        },
        idempotency: app.idempotency(&caller, "ask", key, &body),
        traceparent: telemetry::traceparent(),
    };
    let outcome = app.batcher().run(command).await?;
    Ok(Json(outcome.answer))
}
