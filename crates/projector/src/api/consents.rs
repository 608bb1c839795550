//! `GET /v1/consents`: what people said, per purpose and channel.

use std::sync::Arc;

use assent_http::{Caller, Json, Listing, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::Serialize;
use sqlx::Row as _;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, Filter};
use crate::error::ProjectorError;
use crate::model::consents::Line;

/// What a person said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Consents {
    /// Her id.
    subject_id: Uuid,
    /// One line per purpose and channel that she ever spoke about.
    consents: Vec<Line>,
    /// The last event folded in.
    sequence: i64,
    /// When that was recorded.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// What people said, in the order of their ids. For audiences and reports: whether something may
/// be sent now is answered by the consent service.
#[utoipa::path(
    get, path = "/v1/consents", tag = "consents", security(("bearer" = [])), params(Filter),
    responses((status = 200, body = Listing<Consents>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Listing<Consents>>, Problem> {
    caller.require("query:read")?;
    let subject = filter.subject_id;
    let page = filter.page();
    let after = page.after::<Uuid>()?.unwrap_or(Uuid::nil());
    let consents = read(&app, subject, after, page.limit()).await?;
    Ok(Json(Listing::cut(consents, page.limit(), |last| last.subject_id)))
}

/// People, in the order of their ids: all, or this one. One more than asked for tells of a next page.
pub(super) async fn read(
    app: &App,
    subject: Option<Uuid>,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Consents>, ProjectorError> {
    let rows = sqlx::query(
        "SELECT subject_id, consents, sequence, updated_at FROM live.consents
         WHERE consents <> '[]' AND subject_id > $1 AND ($2::uuid IS NULL OR subject_id = $2)
         ORDER BY subject_id LIMIT $3",
    )
    .bind(after)
    .bind(subject)
    .bind(limit as i64 + 1)
    .fetch_all(&app.pool)
    .await?;
    let consents = rows.iter().map(|row| {
        Ok(Consents {
            subject_id: row.try_get(0)?,
            consents: row.try_get::<sqlx::types::Json<_>, _>(1)?.0,
            sequence: row.try_get(2)?,
            updated_at: row.try_get::<SqlTimestamp, _>(3)?.to_jiff(),
        })
    });
    Ok(consents.collect::<Result<_, sqlx::Error>>()?)
}
