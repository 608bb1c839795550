//! `POST /v1/consents/grant`: record that someone agrees. It gives a right and takes none, so it
//! answers as soon as it is durable.

use assent_contracts::api::consent::{ConsentAnswer, GrantRequest};
use assent_contracts::consent::{Actor, Method};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Problem};
use assent_runtime::telemetry;
use axum::extract::State;

use super::{ADDRESSES_MAX, App, Told, act};
use crate::commands::{LedgerCommand, Shown, Wish};
use crate::domain::scope::Scope;

/// Record a consent.
///
/// An own act (actor `subject` with the addresses it came from; scope `gate:write` besides) lifts
/// stops, suppressions and erasures from those addresses. An operator lifts a stop with evidence,
/// and nothing else. To a purpose with double opt-in a yes that isn't her own act counts once it is
/// confirmed: `unconfirmed` in the answer says how.
#[utoipa::path(
    post, path = "/v1/consents/grant", tag = "consents",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = GrantRequest,
    responses(
        (status = 200, description = "Recorded", body = ConsentAnswer),
        (status = 409, description = "consent_not_allowed"),
        (status = 404, description = "purpose_unknown, notice_unknown"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "channel_unknown, validation_failed"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn grant(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<GrantRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("consent:write")?;
    let own_act = request.actor == Actor::Subject && !request.addresses.is_empty();
    if own_act {
        // Only who heard her can say where from: the services, not an operator.
        caller.require("gate:write")?;
    }
    if matches!(request.method, Method::Import | Method::ConfirmationLink) {
        return Err(Problem::new(Code::ValidationFailed).detail(
            "method: a list is claimed (/v1/claims), a link confirmed (/v1/consents/confirm)",
        ));
    }
    if request.addresses.len() > ADDRESSES_MAX {
        return Err(Problem::new(Code::ValidationFailed).detail("too many addresses"));
    }
    let GrantRequest { actor, method, place, evidence, mut acted_at, .. } = request;
    if own_act {
        // The clock that heard her may be a little ahead of this one.
        acted_at = acted_at.map(|at| at.min(app.0.clock.now()));
    }
    let shown = match (request.notice_hash, request.locale) {
        (Some(hash), _) => Shown::Notice(hash),
        (None, Some(language)) => Shown::InLanguage(language),
        (None, None) => Shown::Default,
    };
    let command = LedgerCommand {
        subject: request.subject_id,
        wish: Wish::Grant {
            scope: Scope { purpose: request.purpose, channel: request.channel },
            act: act(Told { actor, method, place, evidence, acted_at })?,
            own_addresses: if own_act { request.addresses } else { Vec::new() },
            shown,
        },
        idempotency: app.idempotency(&caller, "grant", key, &body),
        traceparent: telemetry::traceparent(),
    };
    let outcome = app.batcher().run(command).await?;
    Ok(Json(outcome.answer))
}
