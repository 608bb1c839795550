//! `GET /v1/retention` and `GET /v1/retention/due`: who would go because she is kept no longer, and why, before anybody
//! goes, and which closed addresses and what evidence would. It guarantees that looking changes nothing; erasing is the
//! keeper's, by the policy that is in force.

use std::num::NonZeroU32;

use assent_http::{Caller, Json, Limit, Listing, Page, Problem, Query};
use assent_participant::Keeping;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use super::refusals::database;
use crate::retention::{self, Due};
use crate::{policy, proofs, suppression};

/// For how long people are kept, and what follows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetentionView {
    /// After how many days without a word; none: the policy says nothing, and nobody goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_days: Option<u32>,
    /// How many people would go now.
    due: i64,
    /// How many were found and are still to be asked for at the erasure service.
    waiting: i64,
    /// Those of them who were found more than a day ago.
    overdue: i64,
    /// After how many days without a word what stands against an address ends that nobody here has.
    suppression_days: u32,
    /// How many such addresses there are.
    suppressions_kept: i64,
    /// How many of them would be forgotten now.
    suppressions_due: i64,
    /// For how many days evidence is kept.
    evidence_days: u32,
    /// How many verdicts that were given to who was about to send would be forgotten now.
    verdicts_due: i64,
    /// How many claims of consents, decided or never decided on.
    claims_due: i64,
}

/// How many days to look by.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// As if the policy said so; not given: what it says.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1)]
    idle_days: Option<NonZeroU32>,
    /// As if the configuration said so; not given: what it says. A list of people doesn't depend on it.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1)]
    suppression_days: Option<NonZeroU32>,
    /// Likewise.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1)]
    evidence_days: Option<NonZeroU32>,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// For how long are people kept, and how many would go now?
#[utoipa::path(
    get, path = "/v1/retention", tag = "retention",
    params(Asked),
    responses((status = 200, body = RetentionView)),
    security(("bearer" = []))
)]
pub(super) async fn retention(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<RetentionView>, Problem> {
    caller.require("consent:read")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let now = app.0.clock.now();
    let policy = policy::in_force(&mut conn).await.map_err(database)?;
    let days = asked.suppression_days.map(NonZeroU32::get);
    let suppression_days = days.unwrap_or(app.0.papers.keeping.suppression_days);
    let days = asked.evidence_days.map(NonZeroU32::get);
    let evidence_days = days.unwrap_or(app.0.papers.keeping.evidence_days);
    let asked = asked.idle_days.map(NonZeroU32::get);
    let idle_days = asked.or_else(|| policy.and_then(|it| it.policy.retention.idle_days));
    let due = match idle_days {
        Some(days) => retention::count(&mut conn, days, now).await.map_err(database)?,
        None => 0,
    };
    let (waiting, overdue) = retention::waiting(&mut conn, now).await.map_err(database)?;
    let suppressions_kept = suppression::kept(&mut conn).await.map_err(database)?;
    let older = Keeping::over(suppression_days, now);
    let suppressions_due = suppression::due(&mut conn, older).await.map_err(database)?;
    let older = Keeping::over(evidence_days, now);
    let evidence = proofs::due(&mut conn, older).await.map_err(database)?;
    Ok(Json(RetentionView {
        idle_days,
        due,
        waiting,
        overdue,
        suppression_days,
        suppressions_kept,
        suppressions_due,
        evidence_days,
        verdicts_due: evidence.verdicts,
        claims_due: evidence.claims,
    }))
}

/// Who would go now, and why?
///
/// Each by her id, in its order.
#[utoipa::path(
    get, path = "/v1/retention/due", tag = "retention",
    params(Asked),
    responses((status = 200, body = Listing<Due>), (status = 400, description = "cursor_invalid")),
    security(("bearer" = []))
)]
pub(super) async fn due(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<Listing<Due>>, Problem> {
    caller.require("consent:read")?;
    let Asked { idle_days, limit, cursor, .. } = asked;
    let page = Page { limit, cursor };
    let after: Uuid = page.after()?.unwrap_or_default();
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let policy = policy::in_force(&mut conn).await.map_err(database)?;
    let idle_days = idle_days.map(NonZeroU32::get);
    let idle_days = idle_days.or_else(|| policy.and_then(|it| it.policy.retention.idle_days));
    let Some(days) = idle_days else { return Ok(Json(Listing { items: Vec::new(), next: None })) };
    let rows = i64::try_from(page.limit() + 1).unwrap_or(i64::MAX);
    let due = retention::due(&mut conn, days, app.0.clock.now(), after, rows);
    let due = due.await.map_err(database)?;
    Ok(Json(Listing::cut(due, page.limit(), |last| last.subject_id)))
}
