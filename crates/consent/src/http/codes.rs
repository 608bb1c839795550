//! `POST /v1/gate/codes`: a message with a code came from an address; what does it mean?

use assent_contracts::api::consent::{CodeAnswer, CodeRequest};
use assent_contracts::code::Sentence;
use assent_contracts::consent::{Actor, Method};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Problem};
use assent_runtime::telemetry;
use axum::extract::State;

use super::refusals::database;
use super::{ADDRESSES_MAX, App, Told, act};
use crate::codes::{Meaning, hear, joins};
use crate::commands::{CommandError, LedgerCommand, Wish};
use crate::policy;

/// Hear a code.
///
/// A code that confirms does so at once, if it comes from the number that it was made for; from any
/// other number it does nothing. Repeating the same message gives the same answer.
#[utoipa::path(
    post, path = "/v1/gate/codes", tag = "gate",
    request_body = CodeRequest,
    responses(
        (status = 200, description = "What it meant", body = CodeAnswer),
        (status = 422, description = "validation_failed"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn hear_code(
    State(app): State<App>,
    caller: Caller,
    JsonBytes(request, body): JsonBytes<CodeRequest>,
) -> Result<Json<CodeAnswer>, Problem> {
    caller.require("gate:write")?;
    let CodeRequest { message_id, code, sentence, addresses, said_at } = request;
    if addresses.len() > ADDRESSES_MAX {
        return Err(Problem::new(Code::ValidationFailed).detail("too many addresses"));
    }
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let now = app.0.clock.now();
    let sent_at = said_at.unwrap_or(now).min(now);
    let said = (code, sentence);
    let meaning = hear(&mut conn, said, &addresses, sent_at).await.map_err(database)?;
    let (subject, request_id) = match meaning {
        Meaning::Confirms(subject, request_id) => (subject, request_id),
        Meaning::Told(CodeAnswer::Nothing) if sentence != Sentence::Open => {
            let purposes = policy::purposes(&mut conn).await.map_err(database)?;
            return Ok(Json(joins(code, purposes.values()).unwrap_or(CodeAnswer::Nothing)));
        }
        Meaning::Told(answer) => return Ok(Json(answer)),
    };
    drop(conn);
    // The clock that heard her may be a little ahead of this one.
    let acted_at = said_at.map(|at| at.min(now));
    let told = Told { acted_at, ..Told::now(Actor::Subject, Method::WhatsappMessage) };
    let key = IdempotencyKey(Some(message_id.to_string()));
    let command = LedgerCommand {
        subject,
        wish: Wish::Confirm { request_id, act: act(told)?, own_addresses: addresses },
        idempotency: app.idempotency(&caller, "code", key, &body),
        traceparent: telemetry::traceparent(),
    };
    match app.batcher().run(command).await {
        Ok(_) => Ok(Json(CodeAnswer::Confirmed { subject_id: subject })),
        // Too late, twice, or she has said no since: then it means nothing any more.
        Err(CommandError::Refused(refusal)) => {
            tracing::info!(%refusal, "a confirmation comes to nothing");
            Ok(Json(CodeAnswer::Nothing))
        }
        Err(error) => Err(error.into()),
    }
}
