//! `GET /v1/subjects/{subject_id}/holdings`: what messaging holds on a person, opened, for her to have. It guarantees
//! that the reading is on record first, that colleagues have no names in it, and that nobody else's card or
//! message is in it; people whom a text names are left to whoever puts the answer together.

use assent_contracts::SubjectId;
use assent_contracts::api::holdings::{Holding, Provenance};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::conversations::read::{Entry, Sealed, on_record};
use super::messages::{database, keyless};
use crate::state::{Messaging, fenced};

/// Why it is read, where that is recorded.
const REASON: &str = "subject_request";

/// What messaging holds on a person: her conversations and what she said of messages first, then what was written,
/// in its order.
///
/// # Errors
/// `subject_erased`, `cursor_invalid`, `dependency_unavailable` (without the vault nothing is opened).
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/holdings", tag = "conversations",
    security(("bearer" = [])),
    params(("subject_id" = Uuid, Path, description = "The person"), Page),
    responses(
        (status = 200, body = Listing<Holding>),
        (status = 400, description = "cursor_invalid"),
        (status = 410, description = "subject_erased")
    )
)]
pub async fn holdings(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(subject): Path<SubjectId>,
    Query(page): Query<Page>,
) -> Result<Json<Listing<Holding>>, Problem> {
    caller.require("subjects:export")?;
    let after = page.after::<(Timestamp, Uuid)>()?;
    let limit = page.limit();
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    if !fenced(&mut conn, &[subject]).await.map_err(database)?.is_empty() {
        return Err(Code::SubjectErased.into());
    }
    let mut items = Vec::new();
    if after.is_none() {
        let conversations = conversations(&mut conn, subject).await.map_err(database)?;
        for id in conversations.iter().filter_map(|conversation| conversation.id) {
            let (service, reader) = (messaging.clone(), caller.name().to_owned());
            let reason = REASON.to_owned();
            to_the_end(async move { on_record(&service, id, subject, reader, reason).await })
                .await?;
        }
        items.extend(conversations);
        items.extend(beside(&mut conn, subject).await.map_err(database)?);
    }
    let written = written(&mut conn, subject, after, limit).await.map_err(database)?;
    drop(conn);
    let Listing { items: written, next } =
        Listing::cut(written, limit, |(last, _)| (last.entry.at, last.entry.id));
    if !written.is_empty() {
        let keys = messaging.person_keys.lease(REASON, &[subject]).await?;
        for (sealed, more) in written {
            let entry = sealed.opened(subject, &keys).map_err(keyless(Code::SubjectErased))?;
            items.push(message(entry, more));
        }
    }
    Ok(Json(Listing { items, next }))
}

/// A message or a note. Who wrote it is said by role.
fn message(entry: Entry, more: Value) -> Holding {
    let (kind, provenance) = match entry.by.as_str() {
        "person" => ("message", Provenance::Provided),
        "note" => ("note", Provenance::Recorded),
        _ => ("message", Provenance::Recorded),
    };
    let mut data = more;
    data["from"] = Value::from(match entry.by.as_str() {
        "person" => "you",
        "human" | "note" => "colleague",
        other => other,
    });
    data["type"] = Value::from(entry.kind);
    data["text"] = entry.text.map_or(Value::Null, Value::from);
    data["state"] = entry.state.map_or(Value::Null, Value::from);
    data["template"] = entry.template.map_or(Value::Null, Value::from);
    if let Some(place) = entry.place {
        data["latitude"] = Value::from(place.latitude);
        data["longitude"] = Value::from(place.longitude);
    }
    if !entry.reasons.is_empty() {
        data["reasons"] = json!(entry.reasons);
    }
    if entry.gone {
        data["gone"] = Value::from(true);
    }
    let holding = Holding::new(kind, provenance, data);
    Holding { id: Some(entry.id), at: Some(entry.at), ..holding }
}

/// What was written to, by and about her, sealed, in its order.
async fn written(
    conn: &mut PgConnection,
    subject: SubjectId,
    after: Option<(Timestamp, Uuid)>,
    limit: usize,
) -> Result<Vec<(Sealed, Value)>, sqlx::Error> {
    const WRITTEN: &str = "
        SELECT * FROM (
            SELECT id, 1 AS source, said_at AS at, kind, content AS sealed, NULL AS author,
                   NULL AS state, '{}'::text[] AS reasons, NULL AS template, NULL AS purpose,
                   NULL AS status, conversation_id
            FROM inbound_messages WHERE subject_id = $1
            UNION ALL
            SELECT id, 2, requested_at, kind, parameters, author, state, reasons, template, purpose,
                   status, conversation_id
            FROM intents WHERE subject_id = $1
            UNION ALL
            SELECT id, 3, written_at, 'note', body, author, NULL, '{}', NULL, NULL, NULL,
                   conversation_id
            FROM conversation_notes WHERE subject_id = $1) AS entries
        WHERE $2::timestamptz IS NULL OR (at, id) > ($2, $3)
        ORDER BY at, id LIMIT $4";
    let rows = sqlx::query(WRITTEN)
        .bind(subject)
        .bind(after.map(|(at, _)| at.to_sqlx()))
        .bind(after.map_or(Uuid::nil(), |(_, id)| id))
        .bind(limit as i64 + 1)
        .fetch_all(conn)
        .await?;
    let entry = |row: &PgRow| {
        let more = json!({
            "purpose": row.try_get::<Option<String>, _>(9)?,
            "status": row.try_get::<Option<String>, _>(10)?,
            "conversation_id": row.try_get::<Option<Uuid>, _>(11)?,
        });
        Ok((Sealed::read(row)?, more))
    };
    rows.iter().map(entry).collect()
}

async fn conversations(
    conn: &mut PgConnection,
    subject: SubjectId,
) -> Result<Vec<Holding>, sqlx::Error> {
    const CONVERSATIONS: &str = "
        SELECT id, opened_at, channel, state, reason, language FROM conversations
        WHERE subject_id = $1 ORDER BY opened_at, id";
    let conversation = |row: &PgRow| {
        let data = json!({
            "channel": row.try_get::<String, _>(2)?,
            "state": row.try_get::<String, _>(3)?,
            "reason": row.try_get::<Option<String>, _>(4)?,
            "language": row.try_get::<Option<String>, _>(5)?,
        });
        let holding = Holding::new("conversation", Provenance::Observed, data);
        Ok(Holding { id: Some(row.try_get(0)?), at: at(row, 1)?, ..holding })
    };
    let rows = sqlx::query(CONVERSATIONS).bind(subject).fetch_all(conn).await?;
    rows.iter().map(conversation).collect()
}

/// What she said of messages, campaigns that she was in, files about her, and what the provider let stand against her.
async fn beside(conn: &mut PgConnection, subject: SubjectId) -> Result<Vec<Holding>, sqlx::Error> {
    const DECLARED: &str = "
        SELECT id, said_at, will, form FROM declarations
        WHERE subjects @> ARRAY[$1] ORDER BY position";
    const ASKED: &str = "
        SELECT id, asked_at, kind FROM asked_requests WHERE subject_id = $1 ORDER BY position";
    const CAMPAIGNS: &str = "
        SELECT m.campaign_id, c.drafted_at, c.name, c.purpose, m.state, m.reasons
        FROM campaign_members m JOIN campaigns c USING (campaign_id)
        WHERE m.subject_id = $1 ORDER BY c.drafted_at";
    const FILES: &str = "
        SELECT uploaded_at, mime_type FROM media
        WHERE subject_id = $1 AND gone_at > now() ORDER BY uploaded_at";
    const DOUBTS: &str = "
        SELECT id, opened_at, reason, closed_at IS NULL FROM tasks
        WHERE subject_id = $1 ORDER BY opened_at, id";
    const BARS: &str = "SELECT since, bar FROM person_bars WHERE subject_id = $1 ORDER BY since";
    let mut items = Vec::new();
    for row in sqlx::query(DECLARED).bind(subject).fetch_all(&mut *conn).await? {
        let data =
            json!({"will": row.try_get::<String, _>(2)?, "form": row.try_get::<String, _>(3)?});
        let holding = Holding::new("stop", Provenance::Provided, data);
        items.push(Holding { id: Some(row.try_get(0)?), at: at(&row, 1)?, ..holding });
    }
    for row in sqlx::query(ASKED).bind(subject).fetch_all(&mut *conn).await? {
        let data = json!({"kind": row.try_get::<String, _>(2)?});
        let holding = Holding::new("request", Provenance::Provided, data);
        items.push(Holding { id: Some(row.try_get(0)?), at: at(&row, 1)?, ..holding });
    }
    for row in sqlx::query(CAMPAIGNS).bind(subject).fetch_all(&mut *conn).await? {
        let data = json!({
            "name": row.try_get::<String, _>(2)?,
            "purpose": row.try_get::<String, _>(3)?,
            "state": row.try_get::<String, _>(4)?,
            "reasons": row.try_get::<Vec<String>, _>(5)?,
        });
        let holding = Holding::new("campaign", Provenance::Derived, data);
        items.push(Holding { id: Some(row.try_get(0)?), at: at(&row, 1)?, ..holding });
    }
    for row in sqlx::query(FILES).bind(subject).fetch_all(&mut *conn).await? {
        let data = json!({"type": row.try_get::<String, _>(1)?});
        let holding = Holding::new("file", Provenance::Recorded, data);
        items.push(Holding { at: at(&row, 0)?, ..holding });
    }
    for row in sqlx::query(DOUBTS).bind(subject).fetch_all(&mut *conn).await? {
        let state = if row.try_get(3)? { "open" } else { "closed" };
        let data = json!({"reason": row.try_get::<String, _>(2)?, "state": state});
        let holding = Holding::new("doubt", Provenance::Derived, data);
        items.push(Holding { id: Some(row.try_get(0)?), at: at(&row, 1)?, ..holding });
    }
    for row in sqlx::query(BARS).bind(subject).fetch_all(conn).await? {
        let data = json!({"bar": row.try_get::<String, _>(1)?});
        items.push(Holding { at: at(&row, 0)?, ..Holding::new("bar", Provenance::Derived, data) });
    }
    Ok(items)
}

fn at(row: &PgRow, column: usize) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<SqlTimestamp>, _>(column)?.map(SqlTimestamp::to_jiff))
}
