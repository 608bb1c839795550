//! `GET /v1/audience`: whom a campaign may be for, by attributes that may be used for that: whether consent
//! is given, and the region of her number. Ids only; nobody is in it the use of whose data is restricted.

use std::sync::Arc;

use assent_contracts::api::campaigns::{AudienceMember, Consents};
use assent_http::{Caller, Code, Json, Limit, Listing, Page, Problem, Query};
use axum::extract::State;
use jiff_sqlx::ToSqlx as _;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::App;
use crate::error::ProjectorError;

/// Most regions of one question.
const REGIONS_MAX: usize = 50;

/// Whom.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whom {
    /// For which purpose.
    #[param(example = "marketing")]
    purpose: String,
    /// On which channel.
    #[param(example = "whatsapp")]
    channel: String,
    /// `given`: whose consent is in force; `any`: everybody who is known.
    #[serde(default)]
    #[param(inline)]
    consents: Consents,
    /// Only numbers of these regions, separated by commas; without: of every region.
    #[serde(default)]
    #[param(example = "FR,BE")]
    regions: Option<String>,
    /// At most this many items; 50 when not given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// Whom a campaign may be for, in the order of their ids. Slightly old by nature: whether something may be
/// sent is answered by the consent service, before each send.
#[utoipa::path(
    get, path = "/v1/audience", tag = "audience", security(("bearer" = [])), params(Whom),
    responses(
        (status = 200, body = Listing<AudienceMember>),
        (status = 422, description = "validation_failed")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(whom): Query<Whom>,
) -> Result<Json<Listing<AudienceMember>>, Problem> {
    caller.require("query:read")?;
    let page = Page { limit: whom.limit, cursor: whom.cursor.clone() };
    let after = page.after::<Uuid>()?.unwrap_or(Uuid::nil());
    let regions = whom.regions.as_deref().map(|text| text.split(',').collect::<Vec<_>>());
    if regions.as_ref().is_some_and(|regions| regions.len() > REGIONS_MAX) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail(format!("at most {REGIONS_MAX} regions at once")));
    }
    let found = read(&app, &whom, regions.as_deref(), after, page.limit()).await?;
    Ok(Json(Listing::cut(found, page.limit(), |last| last.subject_id)))
}

async fn read(
    app: &App,
    whom: &Whom,
    regions: Option<&[&str]>,
    after: Uuid,
    limit: usize,
) -> Result<Vec<AudienceMember>, ProjectorError> {
    let found: Vec<Uuid> = sqlx::query_scalar(
        "SELECT contact.subject_id FROM live.contacts contact
         WHERE contact.registered_at IS NOT NULL AND contact.subject_id > $1
           AND NOT EXISTS (
               SELECT FROM live.consents kept
               WHERE kept.subject_id = contact.subject_id AND kept.restricted_by <> '[]')
           AND ($2::text[] IS NULL OR contact.region = ANY($2))
           AND ($3 OR EXISTS (
               SELECT FROM live.consents said
               CROSS JOIN LATERAL jsonb_array_elements(said.consents) AS line
               WHERE said.subject_id = contact.subject_id
                 AND line->>'purpose' = $4 AND line->>'channel' = $5 AND line->>'state' = 'given'
                 AND coalesce((line->>'valid_until')::timestamptz > $6, true)))
         ORDER BY contact.subject_id LIMIT $7",
    )
    .bind(after)
    .bind(regions)
    .bind(whom.consents == Consents::Any)
    .bind(&whom.purpose)
    .bind(&whom.channel)
    .bind(app.clock.now().to_sqlx())
    .bind(limit as i64 + 1)
    .fetch_all(&app.pool)
    .await?;
    Ok(found.into_iter().map(|subject_id| AudienceMember { subject_id }).collect())
}
