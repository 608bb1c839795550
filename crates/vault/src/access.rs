//! Access records: who saw what of whom, and why. It guarantees that a record is durable before
//! the data it speaks of is decrypted (callers decrypt after [`record`] has returned and its
//! transaction has committed); `GET /v1/access-records` lists them.

use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_http::{Caller, Code, Json, Limit, Listing, Page, Problem, Query};
use assent_runtime::Ids;
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row as _};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::error::VaultError;

/// Why and by whom a field is read.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) caller: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) field: &'static str,
}

/// Writes one record per subject.
pub(crate) async fn record(
    connection: &mut PgConnection,
    ids: &dyn Ids,
    at: Timestamp,
    access: Access<'_>,
    subjects: &[SubjectId],
) -> Result<(), VaultError> {
    let record_ids: Vec<Uuid> = subjects.iter().map(|_| ids.v7()).collect();
    sqlx::query(
        "INSERT INTO access_records (id, at, caller, reason, field, subject_id)
         SELECT id, $3, $4, $5, $6, subject FROM unnest($1::uuid[], $2::uuid[]) AS t (id, subject)",
    )
    .bind(record_ids)
    .bind(subjects)
    .bind(at.to_sqlx())
    .bind(access.caller)
    .bind(access.reason)
    .bind(access.field)
    .execute(connection)
    .await?;
    Ok(())
}

/// A reason is a stable code: lower-case letters, digits, `_`, `.` and `-`, at most 64. Free text
/// could hold personal data.
pub(crate) fn check_reason(reason: &str) -> Result<(), Problem> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    if reason.is_empty() || reason.len() > 64 || !reason.bytes().all(allowed) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("reason must be a code of lower-case letters, digits, '_', '.' and '-'"));
    }
    Ok(())
}

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Of this person only.
    #[serde(default)]
    subject_id: Option<Uuid>,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// One access.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AccessRecord {
    /// Its id.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// The name of the caller's key.
    pub caller: String,
    /// Reason code.
    pub reason: String,
    /// What was read: a field, or `key` for a key lease.
    pub field: String,
    /// Of whom.
    pub subject_id: Uuid,
}

/// List access records, oldest first.
///
/// Needs `subjects:resolve`: whoever may read addresses may see who did.
#[utoipa::path(
    get, path = "/v1/access-records", tag = "access", security(("bearer" = [])), params(Filter),
    responses((status = 200, body = Listing<AccessRecord>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Listing<AccessRecord>>, Problem> {
    caller.require("subjects:resolve")?;
    let page = Page { limit: filter.limit, cursor: filter.cursor };
    let after = page.after::<Uuid>()?.unwrap_or(Uuid::nil());
    let records = read(&app, filter.subject_id, after, page.limit()).await?;
    Ok(Json(Listing::cut(records, page.limit(), |last| last.id)))
}

pub(crate) async fn read(
    app: &App,
    subject: Option<Uuid>,
    after: Uuid,
    limit: usize,
) -> Result<Vec<AccessRecord>, VaultError> {
    let rows = match subject {
        Some(subject) => {
            sqlx::query(
                "SELECT id, at, caller, reason, field, subject_id FROM access_records
                 WHERE subject_id = $1 AND id > $2 ORDER BY id LIMIT $3",
            )
            .bind(subject)
            .bind(after)
            .bind(limit as i64 + 1)
            .fetch_all(app.pool())
            .await?
        }
        None => {
            sqlx::query(
                "SELECT id, at, caller, reason, field, subject_id FROM access_records
                 WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(after)
            .bind(limit as i64 + 1)
            .fetch_all(app.pool())
            .await?
        }
    };
    let record = |row: &sqlx::postgres::PgRow| {
        Ok(AccessRecord {
            id: row.try_get("id")?,
            at: row.try_get::<jiff_sqlx::Timestamp, _>("at")?.to_jiff(),
            caller: row.try_get("caller")?,
            reason: row.try_get("reason")?,
            field: row.try_get("field")?,
            subject_id: row.try_get("subject_id")?,
        })
    };
    rows.iter().map(record).collect()
}
