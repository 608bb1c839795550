//! `GET /v1/contacts`, `GET /v1/contacts/{subject_id}`: who is known, and which fields are held.

use std::sync::Arc;

use assent_http::{Caller, Code, Json, Listing, Path, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, Filter};
use crate::error::ProjectorError;

/// A person, as others may see her.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Contact {
    /// Her id.
    subject_id: Uuid,
    /// Region of her number.
    region: Option<String>,
    /// By which road she came to be known.
    origin: Option<String>,
    /// Which fields the vault holds of her.
    fields: Vec<String>,
    /// Since when she is known.
    #[schema(value_type = String, format = DateTime)]
    registered_at: Timestamp,
    /// The last event folded in.
    sequence: i64,
    /// When that was recorded.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

fn contact(row: &PgRow) -> Result<Contact, sqlx::Error> {
    Ok(Contact {
        subject_id: row.try_get("subject_id")?,
        region: row.try_get("region")?,
        origin: row.try_get("origin")?,
        fields: row.try_get::<sqlx::types::Json<_>, _>("fields")?.0,
        registered_at: row.try_get::<SqlTimestamp, _>("registered_at")?.to_jiff(),
        sequence: row.try_get("sequence")?,
        updated_at: row.try_get::<SqlTimestamp, _>("updated_at")?.to_jiff(),
    })
}

/// People, in the order of their ids: all, or this one. One more than asked for tells of a next page.
pub(super) async fn read(
    app: &App,
    subject: Option<Uuid>,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Contact>, ProjectorError> {
    let rows = sqlx::query(
        "SELECT subject_id, region, origin, fields, registered_at, sequence, updated_at
         FROM live.contacts
         WHERE registered_at IS NOT NULL AND subject_id > $1
           AND ($2::uuid IS NULL OR subject_id = $2)
         ORDER BY subject_id LIMIT $3",
    )
    .bind(after)
    .bind(subject)
    .bind(limit as i64 + 1)
    .fetch_all(&app.pool)
    .await?;
    Ok(rows.iter().map(contact).collect::<Result<_, _>>()?)
}

/// People, in the order of their ids.
#[utoipa::path(
    get, path = "/v1/contacts", tag = "contacts", security(("bearer" = [])), params(Filter),
    responses((status = 200, body = Listing<Contact>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Listing<Contact>>, Problem> {
    caller.require("query:read")?;
    let subject = filter.subject_id;
    let page = filter.page();
    let after = page.after::<Uuid>()?.unwrap_or(Uuid::nil());
    let contacts = read(&app, subject, after, page.limit()).await?;
    Ok(Json(Listing::cut(contacts, page.limit(), |last| last.subject_id)))
}

/// One person.
#[utoipa::path(
    get, path = "/v1/contacts/{subject_id}", tag = "contacts", security(("bearer" = [])),
    params(("subject_id" = Uuid, Path, description = "Her id")),
    responses((status = 200, body = Contact), (status = 404, description = "subject_unknown"))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(subject_id): Path<Uuid>,
) -> Result<Json<Contact>, Problem> {
    caller.require("query:read")?;
    let found = read(&app, Some(subject_id), Uuid::nil(), 1).await?;
    found.into_iter().next().map(Json).ok_or_else(|| Code::SubjectUnknown.into())
}
