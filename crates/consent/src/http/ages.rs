//! `POST /v1/ages`: how old a person is, as somebody says or has looked at.

use assent_contracts::api::consent::{AgeRequest, ConsentAnswer};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, IdempotencyKey, Json, Problem};
use assent_rules::Facts;
use assent_runtime::telemetry;
use axum::extract::State;
use jiff::tz::TimeZone;

use super::App;
use super::refusals::database;
use super::rules_answers::place;
use super::withdraw::settled;
use crate::ages::judge;
use crate::commands::{LedgerCommand, Wish};
use crate::policy::in_force;

/// Record how old a person is.
///
/// What is kept is whether that is old enough to consent by herself, and to be advertised to, by the
/// strictest law that may apply; not the age. Where it isn't, the answer comes when that has settled.
#[utoipa::path(
    post, path = "/v1/ages", tag = "consents",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = AgeRequest,
    responses(
        (status = 200, description = "Recorded", body = ConsentAnswer),
        (status = 409, description = "consent_not_allowed: what was verified needs evidence"),
        (status = 410, description = "subject_erased"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn state_age(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(request, body): JsonBytes<AgeRequest>,
) -> Result<Json<ConsentAnswer>, Problem> {
    caller.require("consent:write")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let policy = in_force(&mut conn).await.map_err(database)?;
    drop(conn);
    let AgeRequest { subject_id, basis, years, lives_in, number_country, actor, evidence } =
        request;
    let facts = Facts {
        on: app.0.clock.now().to_zoned(TimeZone::UTC).date(),
        seat: place("seat", policy.and_then(|it| it.policy.controller.country))?,
        stated: place("lives_in", lives_in)?,
        number: place("number_country", number_country)?,
    };
    let (age, required) = judge(&app.0.papers.rules, &facts, basis, years);
    let command = LedgerCommand {
        subject: subject_id,
        wish: Wish::StateAge { age, required, actor, evidence },
        idempotency: app.idempotency(&caller, "age", key, &body),
        traceparent: telemetry::traceparent(),
    };
    settled(&app, command).await
}
