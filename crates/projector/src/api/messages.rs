//! `GET /v1/messages`, `GET /v1/messages/{message_id}`: what was asked for, what the gate said,
//! how far the provider got. No content.

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

const COLUMNS: &str = "message_id, subject_id, direction, status, purpose, channel, template, \
    kind, reasons, permit_id, provider_code, lease_overrun_ms, created_at, updated_at";

/// A message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Message {
    /// Its id.
    pub(super) message_id: Uuid,
    /// To or from whom.
    subject_id: Uuid,
    /// `outbound` or `inbound`.
    direction: String,
    /// `requested`, `refused`, `accepted`, `failed`, `uncertain`, `sent`, `delivered`, `read`,
    /// `received`.
    status: String,
    /// The purpose it serves.
    purpose: Option<String>,
    /// The channel.
    channel: Option<String>,
    /// The template's name.
    template: Option<String>,
    /// Kind of an inbound message.
    kind: Option<String>,
    /// Why it was refused or failed: stable codes.
    reasons: Vec<String>,
    /// The permit it rested on.
    permit_id: Option<Uuid>,
    /// Error code of the provider.
    provider_code: Option<i64>,
    /// An incident: by how much the provider call overran its lease.
    lease_overrun_ms: Option<i64>,
    /// When its first event was recorded.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its last event was recorded.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

fn message(row: &PgRow) -> Result<Message, sqlx::Error> {
    Ok(Message {
        message_id: row.try_get(0)?,
        subject_id: row.try_get(1)?,
        direction: row.try_get(2)?,
        status: row.try_get(3)?,
        purpose: row.try_get(4)?,
        channel: row.try_get(5)?,
        template: row.try_get(6)?,
        kind: row.try_get(7)?,
        reasons: row.try_get::<sqlx::types::Json<_>, _>(8)?.0,
        permit_id: row.try_get(9)?,
        provider_code: row.try_get(10)?,
        lease_overrun_ms: row.try_get(11)?,
        created_at: row.try_get::<SqlTimestamp, _>(12)?.to_jiff(),
        updated_at: row.try_get::<SqlTimestamp, _>(13)?.to_jiff(),
    })
}

/// Messages, oldest first (ids sort by creation).
#[utoipa::path(
    get, path = "/v1/messages", tag = "messages", security(("bearer" = [])), params(Filter),
    responses((status = 200, body = Listing<Message>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Listing<Message>>, Problem> {
    caller.require("query:read")?;
    let subject = filter.subject_id;
    let page = filter.page();
    let after = page.after::<Uuid>()?.unwrap_or(Uuid::nil());
    let messages = read(&app, subject, after, page.limit()).await?;
    Ok(Json(Listing::cut(messages, page.limit(), |last| last.message_id)))
}

/// Messages, oldest first: all, or of this person. One more than asked for tells of a next page.
pub(super) async fn read(
    app: &App,
    subject: Option<Uuid>,
    after: Uuid,
    limit: usize,
) -> Result<Vec<Message>, ProjectorError> {
    let query = match subject {
        Some(_) => format!(
            "SELECT {COLUMNS} FROM live.messages WHERE message_id > $1 AND subject_id = $2
             ORDER BY message_id LIMIT $3"
        ),
        None => format!(
            "SELECT {COLUMNS} FROM live.messages WHERE message_id > $1 AND $2::uuid IS NULL
             ORDER BY message_id LIMIT $3"
        ),
    };
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(after)
        .bind(subject)
        .bind(limit as i64 + 1)
        .fetch_all(&app.pool)
        .await?;
    Ok(rows.iter().map(message).collect::<Result<_, _>>()?)
}

/// One message.
#[utoipa::path(
    get, path = "/v1/messages/{message_id}", tag = "messages", security(("bearer" = [])),
    params(("message_id" = Uuid, Path, description = "Its id")),
    responses((status = 200, body = Message), (status = 404, description = "message_unknown"))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(message_id): Path<Uuid>,
) -> Result<Json<Message>, Problem> {
    caller.require("query:read")?;
    let query = format!("SELECT {COLUMNS} FROM live.messages WHERE message_id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(message_id)
        .fetch_optional(&app.pool)
        .await
        .map_err(ProjectorError::from)?
        .ok_or(Code::MessageUnknown)?;
    Ok(Json(message(&row).map_err(ProjectorError::from)?))
}
