//! `POST /v1/purposes`: define a purpose or a new version of its notice. Consents stay with the
//! notice they were given on.

use assent_contracts::consent::PurposeDefined;
use assent_eventstore::to_the_end;
use assent_http::extract::JsonBytes;
use assent_http::{Caller, IdempotencyKey, Json, Problem};
use assent_runtime::settle;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use crate::domain::purpose::Definition;

/// A purpose and the notice that people are shown for it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DefinePurpose {
    /// Stable name: `a-z`, `0-9`, `_`.
    pub purpose: String,
    /// Channels on which it may be pursued.
    pub channels: Vec<String>,
    /// The W3C DPV term, such as `dpv:DirectMarketing`.
    pub dpv: String,
    /// The notice text; it must speak of no person.
    pub notice_text: String,
    /// BCP 47 language of the text.
    pub notice_locale: String,
    /// How long a consent stays valid, in days; none: until withdrawn.
    #[serde(default)]
    pub validity_days: Option<u32>,
}

/// Define a purpose.
///
/// Saying the same again changes nothing. A channel that is left out is closed, so the answer
/// comes when that has settled.
#[utoipa::path(
    post, path = "/v1/purposes", tag = "purposes",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = DefinePurpose,
    responses(
        (status = 200, description = "What holds now: PurposeDefined", body = Object),
        (status = 422, description = "validation_failed, idempotency_key_reused", body = assent_http::openapi::ProblemBody),
    ),
    security(("bearer" = []))
)]
pub(super) async fn define_purpose(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<DefinePurpose>,
) -> Result<Json<PurposeDefined>, Problem> {
    caller.require("consent:write")?;
    let idempotency = app.idempotency(&caller, "define_purpose", key, &body);
    let definition = Definition {
        purpose: request.purpose,
        channels: request.channels,
        dpv: request.dpv,
        notice_text: request.notice_text,
        notice_locale: request.notice_locale,
        validity_days: request.validity_days,
    };
    let purposes = app.0.purposes.clone();
    let defined = to_the_end(async move { purposes.define(definition, idempotency).await }).await?;
    settle(&*app.0.clock, &app.0.terms).await;
    Ok(Json(defined))
}
